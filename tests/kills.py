"""``kill -9`` at any moment, of any part, and what every part says of it compared afterwards.

A *scene* is some processes on this machine: a gateway, and in front of it a bot, ``trio-signal daemon``, or a
hub with two bots. There is traffic in both directions; one of them is killed at a moment drawn from a seed
and started again, now and then again while it is still recovering; then all come to rest, and the ledger must
balance: see :func:`balance`. What a process has said survives it, since it was written into a pipe.

``python -m tests.kills SCENE SEED`` sees one again. The seed draws the schedule; the processes race as they
do in life, so a failure may take some runs to come back.
"""

import contextlib
import json
import socket
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import trio

from .forks import Fork, Nest, open_nest

ACCOUNT: Final = "+15550001"
PEOPLE: Final = ("+15550002", "+15550003")

#: Seconds after which a scene must have come to rest.
PATIENCE: Final = 20.0

#: The parts that there are: their role in :mod:`tests.kill_roles`, and what they say once they run.
_PROGRAMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "gateway": ("gateway", {"up": True}),
    "bot": ("bot", {"up": True}),
    "bot-1": ("bot", {"up": True}),
    "bot-2": ("bot", {"up": True}),
    "daemon": ("trio_signal", {"event": "daemon_started"}),
    "hub": ("trio_signal", {"event": "hub_started"}),
}


class Cast(NamedTuple):
    """The parts of a scene, in the order in which they are started, and which of them may be killed.

    What stands there more often is killed more often.
    """

    parts: tuple[str, ...]
    victims: tuple[str, ...]


SCENES: Final[dict[str, Cast]] = {
    "bot": Cast(("gateway", "bot"), ("bot",)),
    "gateway": Cast(("gateway", "bot"), ("gateway", "gateway", "bot")),
    "daemon": Cast(("gateway", "daemon"), ("daemon",)),
    "hub": Cast(("gateway", "hub", "bot-1", "bot-2"), ("hub", "hub", "bot-1", "gateway")),
}


class Violation(AssertionError):
    """A promise was broken; the text says which, and how to see it again."""


@dataclass
class Part:
    """One program of a scene, over all its runs.

    Attributes:
        role: what it is, in :mod:`tests.kill_roles`.
        ready: what it says once it runs.
        said: what it has said, over all its runs.
        runs: where in that each run began.
        fed: for one that reads lines: what each run was given to send.
    """

    role: str
    ready: dict[str, Any]
    said: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    runs: list[int] = field(default_factory=list[int])
    fed: list[list[str]] = field(default_factory=list[list[str]])
    kills: int = 0
    fork: Fork = field(init=False)

    def all(self, key: str) -> list[Any]:
        """Return all that it has said under this key."""
        return [each[key] for each in self.said if key in each]

    @property
    def is_ready(self) -> bool:
        """Whether the present run has begun."""
        return any(self.ready.items() <= each.items() for each in self.now)

    @property
    def receives(self) -> bool:
        """Whether it tells of what it has received."""
        return self.role == "bot" or self.ready.get("event") == "daemon_started"

    @property
    def now(self) -> list[dict[str, Any]]:
        """What the present run has said."""
        return self.said[self.runs[-1] :]


class Scene:
    """Processes that talk to each other, until one of them is killed."""

    def __init__(self, name: str, seed: int, nest: Nest, folder: Path) -> None:
        self.name: Final = name
        self.seed: Final = seed
        self.random: Final = Random(f"{name} {seed}")
        self.story: Final[list[str]] = []
        self.strange: Final[list[str]] = []
        self._nest: Final = nest
        self._folder: Final = folder
        self._began: Final = trio.current_time()
        self._ports: Final[dict[str, int]] = {}
        self._news = trio.Event()
        self._feeding = trio.CancelScope()
        self.parts: Final = {part: Part(*_PROGRAMS[part]) for part in SCENES[name].parts}

    # --- what it is made of ---

    def _arguments(self, name: str) -> list[str]:
        match name:
            case "gateway":
                emitted = self.parts["gateway"].all("emitted")
                return [str(self._port("gateway")), str(max(emitted, default=0) + 1)]
            case "daemon" | "hub":
                more = ["--stdin", "--show-text"]
                if name == "hub":
                    more = ["--hub", f"127.0.0.1:{self._port('hub')}"]
                url = f"http://127.0.0.1:{self._port('gateway')}"
                where = ["--gateway", url, "--gateway-kind", "rest", "--account", ACCOUNT, "--json"]
                store = ["--store", str(self._folder / f"{name}.db"), "--settle-timeout", "0.2"]
                return ["daemon", *where, *store, *more]
            case _:
                behind = "hub" if "hub" in self.parts else "gateway"
                url, kind = f"http://127.0.0.1:{self._port(behind)}", "hub" if behind == "hub" else "rest"
                return [url, kind, str(self._folder / f"{name}.db"), name, str(len(self.parts[name].runs))]

    def _port(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = _free_port()
        return self._ports[name]

    async def start(self, name: str) -> None:
        """Start a part, and wait until it runs."""
        part = self.parts[name]
        part.runs.append(len(part.said))
        arguments = self._arguments(name)
        part.fork = await self._nest.start(part.role, *arguments, on_line=partial(self._hear, part))
        part.fed.append([])
        await self.until(lambda: part.is_ready or part.fork.has_ended, f"{name} runs")
        self.check(part.is_ready, f"{name} ended by itself")

    def _hear(self, part: Part, line: str) -> None:
        """Take down a line; an empty one is the end."""
        try:
            if line:
                part.said.append(json.loads(line))
        except ValueError:
            self.strange.append(line)
        news, self._news = self._news, trio.Event()
        news.set()

    async def until(self, come: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
        """Wait until something has been said."""
        with trio.move_on_after(within) as scope:
            await trio.lowlevel.checkpoint()
            while not come():
                await self._news.wait()
        self.check(not scope.cancelled_caught, f"after {within} s not yet: {what}")

    def check(self, condition: bool, promise: str) -> None:
        """Stop the scene unless a promise holds."""
        if not condition:
            story = "\n".join([*self.story, *self.strange[-20:]])
            again = f"python -m tests.kills {self.name} {self.seed}"
            raise Violation(f"{self.name}, seed {self.seed}: {promise}\n{story}\nsee it again: {again}")

    def note(self, what: str) -> None:
        """Write down what was done."""
        self.story.append(f"{trio.current_time() - self._began:7.3f} {what}")

    # --- what happens ---

    async def run(self, kills: int) -> None:
        """Live through this many kills."""
        for name in self.parts:
            await self.start(name)
        left = kills
        while left:
            async with self._traffic():
                await trio.sleep(self.random.uniform(0.0, 0.25))
                left -= 1
                victim = self.random.choice(SCENES[self.name].victims)
                await self._kill(victim)
                if left and self.random.random() < 0.3:
                    await trio.sleep(self.random.uniform(0.0, 0.1))
                    left -= 1
                    await self._kill(victim)
                await trio.sleep(self.random.uniform(0.0, 0.1))
            await self._come_to_rest()
            balance(self)
        for name in reversed(self.parts):
            await self._end(name)
        self.check(not self.strange, "a program said what it should not")

    @contextlib.asynccontextmanager
    async def _traffic(self) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            for name, part in self.parts.items():
                if part.role != "trio_signal":
                    await part.fork.say("go")
                elif name == "daemon":
                    nursery.start_soon(self._feed, part)
            yield
            nursery.cancel_scope.cancel()

    async def _feed(self, part: Part) -> None:
        while True:
            await self._feed_line(part)
            await trio.sleep(self.random.expovariate(1 / 0.008))

    async def _feed_line(self, part: Part) -> str:
        name = f"daemon-{len(part.fed)}-{len(part.fed[-1]) + 1}"
        recipient, fed = self.random.choice(PEOPLE), part.fed[-1]
        # Whole or not at all: a pipe takes this much in one piece.
        await part.fork.say(json.dumps({"recipient": recipient, "text": name, "id": name}))
        fed.append(name)
        return name

    async def _kill(self, name: str) -> None:
        part = self.parts[name]
        self.note(f"kill {name}")
        part.kills += 1
        await part.fork.kill()
        await trio.sleep(self.random.choice((0.0, 0.0, 0.05)))
        await self.start(name)
        self.note(f"{name} runs again")
        if part.role != "trio_signal":
            await part.fork.say("go")

    async def _come_to_rest(self) -> None:
        """Have nobody begin anything, everything come to its end, and a last message reach everybody."""
        for name in self.parts:
            await self._rest(name)
        self.note("at rest")
        for patience in (0.3, 0.3, 1.0, 2.0, PATIENCE):
            # One that comes while somebody still connects becomes a part of a gap.
            last = await self._emit()
            with trio.move_on_after(patience):
                await self.until(partial(self._all_heard, last), f"all got {last}")
                return

    async def _emit(self) -> str:
        gateway = self.parts["gateway"]
        count = len(gateway.all("emitted"))
        await gateway.fork.say("mark")
        await self.until(lambda: len(gateway.all("emitted")) > count, "the gateway delivers")
        return f"in-{gateway.all('emitted')[-1]}"

    def _all_heard(self, text: str) -> bool:
        return all(text in map(_text, part.now) for part in self.parts.values() if part.receives)

    async def _rest(self, name: str) -> None:
        part = self.parts[name]
        if name == "daemon":
            last = await self._feed_line(part)
            await self.until(lambda: last in _told(part), f"{name} told of {last}")
            arrived = self.parts["gateway"].all("arrived")
            await self.until(lambda: _told(part).keys() >= set(arrived), f"{name} told of all that arrived")
            read = set(part.fed[-1])
            await self.until(lambda: _told(part).keys() >= read, f"{name} told of all that it read")
        elif part.role != "trio_signal":
            count = len(part.all("rests"))
            await part.fork.say("rest")
            await self.until(lambda: len(part.all("rests")) > count, f"{name} rests")

    async def _end(self, name: str) -> None:
        part = self.parts[name]
        code = await part.fork.terminate()
        expected = 0 if part.role == "trio_signal" else -15
        self.check(code == expected, f"{name} ended with {code}")


def _text(line: dict[str, Any]) -> str | None:
    """Return the text of a message that a line tells of."""
    text: str | None = line.get("got") or (line["text"] if line.get("event") == "message_received" else None)
    return text


def _told(part: Part) -> dict[str, list[str]]:
    """Return all outcomes that were told of each message."""
    told: dict[str, list[str]] = defaultdict(list)
    for each in part.said:
        if each.get("event") == "outcome":
            words = [each["outcome"], *(str(each[k]) for k in _DETAILS if k in each)]
            told[each["id"]].append(" ".join(words).removeprefix("failed "))
        elif "outcome" in each:
            told[each["id"]].append(each["outcome"])
    return told


_DETAILS: Final = ("message_timestamp", "reason", "certainty")


# --- The ledger. ---


def balance(scene: Scene) -> None:
    """Compare what everybody said, over all runs.

    Raises:
        Violation: a promise was broken.
    """
    arrivals = [(each["arrived"], each["to"]) for each in scene.parts["gateway"].said if "arrived" in each]
    _balance_order(scene, arrivals)
    for name, part in scene.parts.items():
        if name == "daemon" or part.role == "bot":
            _balance_sending(scene, name, part, [text for text, _ in arrivals])
            _balance_receiving(scene, name, part)
    _balance_numbers(scene)


def _balance_order(scene: Scene, arrivals: Sequence[tuple[str, str]]) -> None:
    orders: dict[tuple[str, str], list[tuple[int, ...]]] = defaultdict(list)
    for text, recipient in arrivals:
        who, numbers = _who(text)
        orders[who, recipient].append(numbers)
    for key, order in orders.items():
        scene.check(order == sorted(set(order)), f"O4, O2: out of order or twice, {key}: {order}")


def _who(text: str) -> tuple[str, tuple[int, ...]]:
    """Return who wrote a message, and the numbers of its run and of itself."""
    who, run, number = text.rsplit("-", 2)
    return who, (int(run), int(number))


def _balance_sending(scene: Scene, name: str, part: Part, arrivals: Sequence[str]) -> None:
    """Each accepted message has one outcome, which is true (O1, O2, O5, D1)."""
    told, mine = _told(part), [text for text in arrivals if text.startswith(f"{name}-")]
    lacking = [each for each in part.all("accepted") if each not in told]
    scene.check(not lacking, f"D1: {name} was never told what became of {lacking}")
    silent = [text for text in mine if text not in told]
    scene.check(not silent, f"D1: {silent} arrived, and {name} was never told")
    for message, outcomes in told.items():
        scene.check(len(set(outcomes)) == 1, f"O1: {name} was told of {message}: {outcomes}")
        count, outcome = mine.count(message), outcomes[0]
        scene.check(count <= 1, f"O5: {message} arrived {count} times")
        scene.check(
            outcome == "unknown" or (count == 1) is outcome.startswith("sent"), f"{message}: {outcome}"
        )
    _balance_unknown(scene, name, part)
    if name == "daemon":
        _balance_lines(scene, part, told)


def _balance_unknown(scene: Scene, name: str, part: Part) -> None:
    """Only what was in flight at a kill may be in doubt (D1): one message for each kill of whoever sends.

    When whoever answers is killed, it may be a second one: of a gateway that ends, the kernel still accepts a
    connection after the others have ended, and resets it with what came over it.
    """
    kills = {other: each.kills for other, each in scene.parts.items() if other == name or each.role != "bot"}
    most = sum(count if other == name else 2 * count for other, count in kills.items())
    doubts = {
        each["id"]: each for each in part.said if "unknown" in (each.get("outcome"), each.get("certainty"))
    }
    scene.check(len(doubts) <= most, f"D1: after {kills} kills {name} does not know of {[*doubts.values()]}")


def _balance_lines(scene: Scene, part: Part, told: dict[str, list[str]]) -> None:
    """Lines are read in order: one that was not accepted has none behind it that was."""
    for fed in part.fed:
        known = [line in told for line in fed]
        scene.check(known == sorted(known, reverse=True), f"D1: of {fed} no outcome of some: {known}")


def _balance_receiving(scene: Scene, name: str, part: Part) -> None:
    """Each message is received, once and in order, or a gap stands in its place (R1, R3, R4)."""
    last, gap, fresh = 0, True, True
    for index, each in enumerate(part.said):
        if index in part.runs:
            fresh = True
        gap |= "gap" in each or each.get("event") == "gap"
        if (text := _text(each)) is None:
            continue
        number = int(text.removeprefix("in-"))
        scene.check(gap or number <= last + 1, f"R3: {name} got {number} after {last}, and no gap")
        # What was taken at the kill and not yet written down comes again, before anything else.
        scene.check(fresh or number > last, f"R1: {name} got {number} after {last}")
        last, gap, fresh = max(last, number), gap and number <= last, fresh and number <= last


def _balance_numbers(scene: Scene) -> None:
    """A number means the same to everybody, over all runs of a hub (H1, H3), and none is passed over."""
    meaning: dict[tuple[str, int], str] = {}
    for name, part in scene.parts.items():
        at: tuple[str, int] | None = None
        for each in part.said:
            if each.get("at") is None:
                continue
            here = (each["at"][0], each["at"][1])
            if "got" in each:
                known = meaning.setdefault(here, each["got"])
                scene.check(known == each["got"], f"H3: {here} is {known} to one and {each['got']} to {name}")
                passed = at is not None and at[0] == here[0] and here[1] > at[1] + 1
                scene.check(not passed, f"H1: {name} went from {at} to {here}, told {each}")
            changed = at is not None and at[0] != here[0]
            scene.check(
                not changed or each.get("gap") == "epoch_changed", f"H3: {name} was not told of {here}"
            )
            at = here


# --- How it is run. ---


async def run_scene(name: str, seed: int, kills: int, nest: Nest) -> Scene:
    """Run a scene.

    Raises:
        Violation: a promise was broken.
    """
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        scene = Scene(name, seed, nest, Path(folder))
        try:
            await scene.run(kills)
        finally:
            with trio.CancelScope(shield=True):
                for part in scene.parts.values():
                    if part.runs and hasattr(part, "fork"):
                        await part.fork.kill()
    return scene


def run_scenes(scenes: Sequence[tuple[str, int]], kills: int) -> list[str]:
    """Run scenes beside each other, each in turn with as many as the machine has processors for.

    Returns:
        What went wrong, one text for each scene that failed.
    """
    return trio.run(_run_scenes, scenes, kills)


async def _run_scenes(scenes: Sequence[tuple[str, int]], kills: int) -> list[str]:
    failures: list[str] = []

    async def one(name: str, seed: int) -> None:
        try:
            await run_scene(name, seed, kills, nest)
        except Violation as violation:
            failures.append(str(violation))

    async with open_nest() as nest, trio.open_nursery() as nursery:
        for name, seed in scenes:
            nursery.start_soon(one, name, seed)
    return failures


def soak(count: int) -> Iterator[str | None]:
    """Kill ``count`` times, five times in each scene, and yield for each kill None or what went wrong."""
    for first in range(0, count, 20):
        failures = run_scenes([(name, first // 20) for name in SCENES], 5)
        yield from [*failures, *([None] * (20 - len(failures)))][: count - first]


#: The scenes run beside each other, and the owner of a port may be away.
_given_ports: Final[set[int]] = set()


def _free_port() -> int:
    """Return a port below those that the kernel gives out: nobody gets it while its owner is away."""
    random = Random()
    while True:
        port = random.randint(20_000, 32_000)
        if port in _given_ports:
            continue
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.add(port)
        return port


def main() -> None:
    """Run one scene and tell its story."""
    import sys

    name, seed, *kills = sys.argv[1:]
    failures = run_scenes([(name, int(seed))], int(kills[0]) if kills else 5)
    print("\n".join(failures) or "the ledger balances")  # noqa: T201
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
