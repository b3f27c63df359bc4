"""The examples, run against a gateway that goes away in the middle, and as the programs that they are."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from examples import command_bot
from examples.alert_from_stdin import WORTH_SENDING_FOR, alert
from examples.command_bot import COMMANDS, Bot, obey
from examples.echo_bot import echo
from examples.group_moderator import Moderator
from examples.webhook_bridge import bridge, load, save
from trio_signal import Cursor, ReceivedMessage, SignalClient, open_signal_client
from trio_signal.testing import (
    START_TIME,
    FakeGateway,
    HttpRequest,
    envelopes,
    error,
    group,
    hang,
    lost,
    open_fake_gateway,
    reply,
)

from .programs import Finished, Program, environment

PEER = "+15550002"
ADMIN = "+15550003"
GROUP = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
EXAMPLES = Path(__file__).parents[1] / "examples"

#: Seconds after which a test gives a program up.
PATIENCE = 20.0

Task = Callable[[SignalClient], Awaitable[object]]


@pytest.fixture(params=["rest", "signal-cli"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[FakeGateway]:
    async with open_fake_gateway(port=None, kind=request.param) as gateway:
        yield gateway


@asynccontextmanager
async def running(gateway: FakeGateway, task: Task, **options: Any) -> AsyncGenerator[SignalClient]:
    """Run an example's own task with a client while the block runs."""
    async with (
        open_signal_client(
            gateway.url,
            gateway.account,
            connect=gateway.connect,
            wall_clock=lambda: START_TIME + trio.current_time(),
            **options,
        ) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(task, client)
        await gateway.wait_connected()
        yield client
        nursery.cancel_scope.cancel()


def said(gateway: FakeGateway) -> list[tuple[list[str], str]]:
    """Return to whom what was sent."""
    return [(sent.recipients, sent.message) for sent in gateway.received]


# --- echo_bot ---


async def test_the_echo_bot_answers_others_only_and_goes_on_after_a_restart(
    gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    async with running(gateway, echo):
        gateway.deliver(text="hello")
        gateway.deliver(envelopes.sync_sent("typed on my phone", account=gateway.account))
        gateway.deliver(envelopes.with_attachments())
        await gateway.wait_received(1)
        await gateway.restart(down_for=90)
        await gateway.wait_connected()
        gateway.deliver(text="to all", group=GROUP)
        await gateway.wait_received(2)
        await trio.sleep(5)
    [(to_peer, first), (to_group, second)] = said(gateway)
    assert (to_peer, first, second) == ([PEER], "you said: hello", "you said: to all")
    assert to_group[0].startswith("group.")


# --- alert_from_stdin ---


async def lines_of(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        await trio.lowlevel.checkpoint()
        yield line


async def test_alerts_are_sent_in_order_and_again_if_nobody_knows(
    gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    gateway.script_send(lost())
    options: dict[str, Any] = {"delivery": "at_least_once", "close_timeout": WORTH_SENDING_FOR}
    async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect, **options) as client:
        await gateway.wait_connected()
        await alert(client, PEER, lines_of("one", "two"))
        await gateway.wait_received(1)
        await gateway.restart(down_for=60)
    assert [text for _, text in said(gateway)] == ["one", "one", "two"]
    told = client.statistics().buffer.outgoing
    assert (told.accepted, told.sent) == (2, 2)


async def test_an_alert_is_given_up_when_it_is_old(gateway: FakeGateway, autojump_clock: MockClock) -> None:
    gateway.stop()
    async with open_signal_client(
        gateway.url, gateway.account, connect=gateway.connect, close_timeout=WORTH_SENDING_FOR
    ) as client:
        await alert(client, PEER, lines_of("old"))
        await trio.sleep(WORTH_SENDING_FOR)
        await gateway.start()
        await gateway.wait_connected()
    told = client.statistics().buffer.outgoing
    assert (told.accepted, told.sent, gateway.received) == (1, 0, [])


# --- group_moderator ---


@asynccontextmanager
async def moderated(gateway: FakeGateway) -> AsyncGenerator[Callable[..., Awaitable[str]]]:
    """Run the moderator in a group; give what says something there and returns the moderator's answer."""
    people = [gateway.account, ADMIN, PEER]
    gateway.groups[GROUP] = group(GROUP, members=people, admins=people[:2])

    async def say(text: str, *, sender: str = PEER, sends: int = 1) -> str:
        before = len(gateway.received)
        gateway.deliver(text=text, sender=sender, group=GROUP)
        await gateway.wait_received(before + sends)
        return gateway.received[-1].message

    async def moderate(client: SignalClient) -> None:
        await Moderator(client, ["damn", "heck"]).run()

    async with running(gateway, moderate):
        yield say


def members(gateway: FakeGateway) -> list[str]:
    return [member["number"] for member in gateway.groups[GROUP]["members"]]


async def test_the_moderator_warns_and_then_removes(gateway: FakeGateway, autojump_clock: MockClock) -> None:
    async with moderated(gateway) as say:
        gateway.deliver(text="Hecking good", group=GROUP)
        gateway.deliver(text="damn")
        gateway.deliver(text="DAMN", sender=ADMIN, group=GROUP)
        assert await say("oh Heck!", sends=2) == "Please mind your words (warning 1 of 2)."
        reaction, warning = gateway.received
        assert (reaction.kind, reaction.message) == ("reaction", "🚫")
        assert "oh Heck!" in json.dumps(warning.body)
        await gateway.restart(down_for=30)
        await gateway.wait_connected()
        assert await say("damn it", sends=2) == "Please mind your words (warning 2 of 2)."
        assert PEER in members(gateway)
        assert await say("damn it all") == "🚫"
        await trio.sleep(1)
        assert members(gateway) == [gateway.account, ADMIN]


async def test_the_moderator_obeys_administrators_only(
    gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    async with moderated(gateway) as say:
        assert await say("/warnings", sender=ADMIN) == "Nobody was warned."
        await say("heck", sends=2)
        assert await say("/warnings", sender=ADMIN) == f"{PEER}: 1"
        gateway.deliver(text=f"/pardon {PEER}", group=GROUP)
        assert await say("/warnings", sender=ADMIN) == f"{PEER}: 1"
        assert await say(f"/pardon {PEER}", sender=ADMIN) == f"{PEER} starts afresh."
        assert await say("/pardon +15550009", sender=ADMIN) == "Nobody of that number was warned."


async def test_the_moderator_survives_a_gateway_that_does_not_answer(
    gateway: FakeGateway, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with moderated(gateway) as say:
        gateway.silence(on="http", times=1)
        gateway.deliver(text="heck", group=GROUP)
        await trio.sleep(120)
        assert gateway.received == []
        assert "could not moderate" in caplog.text
        assert await say("heck", sends=2) == "Please mind your words (warning 1 of 2)."


# --- webhook_bridge ---


class Webhook:
    """What the bridge posts to: answers what it is told to, then always 204."""

    def __init__(self, *answers: int | httpx.TransportError) -> None:
        self._answers = list(answers)
        self._news = trio.Condition()
        self.posts: list[dict[str, Any]] = []
        self.keys: list[str] = []

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def wait_posts(self, count: int) -> None:
        async with self._news:
            while len(self.posts) < count:
                await self._news.wait()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.posts.append(json.loads(request.content))
        self.keys.append(request.headers["Idempotency-Key"])
        async with self._news:
            self._news.notify_all()
        answer = self._answers.pop(0) if self._answers else 204
        if isinstance(answer, httpx.TransportError):
            raise answer
        return httpx.Response(answer)


async def test_the_bridge_posts_until_the_webhook_takes_it(
    gateway: FakeGateway, autojump_clock: MockClock, tmp_path: Path
) -> None:
    file, hook = tmp_path / "cursor.json", Webhook(503, httpx.ConnectError("no"), 302, 200)
    async with hook.client() as http:

        async def task(client: SignalClient) -> None:
            await bridge(client, http, "http://hook", file)

        async with running(gateway, task, acknowledge=True) as client:
            gateway.deliver(text="first", timestamp=1_795_302_700_000)
            gateway.deliver(text="second", group=GROUP)
            # Not by sleeping: the file is written in a thread, which a clock that jumps does not wait for.
            await hook.wait_posts(5)
            assert [post["text"] for post in hook.posts] == ["first"] * 4 + ["second"]
            assert len(set(hook.keys)) == 2
            assert hook.posts[0] == {
                "sender": PEER,
                "group": None,
                "timestamp": 1_795_302_700_000,
                "from_self": False,
                "text": "first",
            }
            assert hook.posts[4]["group"] == GROUP
            first = load(file)
            assert first is not None
            await gateway.restart(down_for=30)
            await gateway.wait_connected()
            gateway.deliver(text="third")
            await hook.wait_posts(6)
            assert hook.posts[-1]["text"] == "third"
            while client.statistics().inbox.unacknowledged or load(file) == first:  # noqa: ASYNC110
                await trio.sleep(1)
            assert (load(file) or first).time > first.time


async def test_the_bridge_does_not_count_as_done_what_the_webhook_has_not_taken(
    gateway: FakeGateway, autojump_clock: MockClock, tmp_path: Path
) -> None:
    file, hook = tmp_path / "cursor.json", Webhook(*[500] * 100)
    async with hook.client() as http:

        async def task(client: SignalClient) -> None:
            await bridge(client, http, "http://hook", file)

        async with running(gateway, task, acknowledge=True) as client:
            gateway.deliver(text="first")
            await trio.sleep(300)
            assert 5 < len(hook.posts) < 50
            assert client.statistics().inbox.unacknowledged == 1
    assert load(file) is None


def test_the_cursor_in_the_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "cursor.json"
    save(None, file)
    assert load(file) is None
    for cursor in (Cursor(1), Cursor(2, "epoch", 7)):
        save(cursor, file)
        assert load(file) == cursor
    assert list(tmp_path.iterdir()) == [file]


# --- command_bot ---


async def obeying(client: SignalClient) -> None:
    async with trio.open_nursery() as nursery:
        await obey(Bot(client, nursery))


async def ask(gateway: FakeGateway, text: str) -> str:
    before = len(gateway.received)
    gateway.deliver(text=text)
    await gateway.wait_received(before + 1)
    return gateway.received[before].message


def typing_of(gateway: FakeGateway) -> list[HttpRequest]:
    return [
        request
        for request in gateway.requests
        if "typing-indicator" in request.target or b"sendTyping" in request.body
    ]


async def test_the_bot_obeys_commands_and_nothing_else(
    gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    async with running(gateway, obeying):
        gateway.deliver(text="good morning")
        gateway.deliver(envelopes.sync_sent("/ping", account=gateway.account))
        assert await ask(gateway, "/ping") == "pong"
        assert PEER in json.dumps(gateway.received[0].body)
        assert "/ping" in json.dumps(gateway.received[0].body), "it quotes what it answers"
        await trio.sleep(1)
        assert len(typing_of(gateway)) == 2, "it showed that it types, and took that away"
        shown = await ask(gateway, "/help")
        assert shown.splitlines() == [f"{name}: {each.__doc__}" for name, each in COMMANDS.items()]
        assert await ask(gateway, "/remind me") == "Like this: /remind 10m tea is ready"


async def test_a_reminder_comes_when_it_is_due_though_the_gateway_was_away(
    gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    async with running(gateway, obeying):
        began = trio.current_time()
        assert await ask(gateway, "/remind 10m tea is\nready") == "In 10m."
        await gateway.wait_received(2)
        assert trio.current_time() - began == pytest.approx(600, abs=5)
        assert gateway.received[1].message == "tea is\nready"
        assert await ask(gateway, "/remind 5m again") == "In 5m."
        await trio.sleep(1)
        await gateway.restart(down_for=400)
        await gateway.wait_received(4)
        assert gateway.received[3].message == "again"


async def test_a_broken_command_and_too_many_reminders_end_nothing(
    gateway: FakeGateway,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_bot: Bot, _message: ReceivedMessage, _rest: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, "/broken", broken)
    monkeypatch.setattr(command_bot, "MOST_REMINDERS", 0)
    async with running(gateway, obeying):
        gateway.deliver(text="/broken")
        assert await ask(gateway, "/remind 1d one") == "In 1d."
        assert await ask(gateway, "/remind 1d two") == "I have too much to remember already."
    assert "/broken failed" in caplog.text


# --- as programs ---


@asynccontextmanager
async def example(
    name: str, *arguments: str, gateway: FakeGateway, **variables: str
) -> AsyncGenerator[Program]:
    """Start an example as its docstring says; kill it if it still runs at the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(
            {"TRIO_SIGNAL_GATEWAY": gateway.url, "TRIO_SIGNAL_ACCOUNT": gateway.account, **variables}
        ),
    )
    try:
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.checkpoint()
            yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    await pipe.aclose()


async def close_input(program: Program) -> None:
    stdin = program._process.stdin
    assert stdin is not None
    await stdin.aclose()


async def end_by(program: Program, number: signal.Signals) -> Finished:
    program.signal(number)
    return await program.end()


@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_the_echo_bot_as_a_program_outlives_a_restart_and_ends_in_order(kind: Any) -> None:
    async with open_fake_gateway(kind=kind) as gateway, example("echo_bot", gateway=gateway) as program:
        await gateway.wait_connected()
        gateway.deliver(text="one")
        await gateway.wait_received(1)
        # It has answered by then; without an answer the bot would wait for evidence at the end.
        await wait_all_tasks_blocked()
        await gateway.restart()
        await gateway.wait_connected()
        gateway.deliver(text="two")
        await gateway.wait_received(2)
        assert [text for _, text in said(gateway)] == ["you said: one", "you said: two"]
        ended = await end_by(program, signal.SIGTERM)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err


async def test_the_echo_bot_sends_what_waits_at_the_first_ctrl_c_and_ends_at_the_second() -> None:
    async with open_fake_gateway() as gateway:
        gateway.script_send(hang(), hang())
        async with example("echo_bot", gateway=gateway) as program:
            await gateway.wait_connected()
            gateway.deliver(text="one")
            await gateway.wait_received(1)
            program.signal(signal.SIGINT)
            # Two that come before it has looked at the first are one to it.
            await program.tells("a second signal ends it at once")
            with trio.move_on_after(0.5) as waited:
                await program.wait()
            assert waited.cancelled_caught, "it waits for the answer"
            ended = await end_by(program, signal.SIGINT)
    assert ended.code == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.err


@pytest.mark.parametrize(
    ("answers", "code", "verdict"), [((), 0, "3 of 3"), ((error(400, "Unregistered user"),), 1, "2 of 3")]
)
async def test_alerts_from_a_pipe(answers: tuple[Any, ...], code: int, verdict: str) -> None:
    async with open_fake_gateway() as gateway:
        gateway.script_send(*answers)
        async with example("alert_from_stdin", PEER, gateway=gateway) as program:
            for line in ("one", "", "two", "thrée"):
                await program.say(line)
            await close_input(program)
            ended = await program.end()
        assert said(gateway) == [([PEER], "one"), ([PEER], "two"), ([PEER], "thrée")]
    assert (ended.code, f"{verdict} alerts have arrived" in ended.err) == (code, True)


async def test_ctrl_c_ends_the_reading_of_alerts_and_what_was_read_still_goes_out() -> None:
    async with open_fake_gateway() as gateway, example("alert_from_stdin", PEER, gateway=gateway) as program:
        await program.say("one")
        await gateway.wait_received(1)
        ended = await end_by(program, signal.SIGINT)
    assert (ended.code, "1 of 1" in ended.err) == (0, True)


async def test_the_moderator_and_the_command_bot_as_programs(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("heck\n")
    async with open_fake_gateway() as gateway:
        gateway.groups[GROUP] = group(GROUP, members=[gateway.account, PEER], admins=[gateway.account])
        async with (
            example("group_moderator", str(words), gateway=gateway) as moderator,
            example("command_bot", gateway=gateway) as bot,
        ):
            await gateway.wait_connected(2)
            gateway.deliver(text="heck", group=GROUP)
            await gateway.wait_received(2)
            gateway.deliver(text="/ping")
            await gateway.wait_received(3)
            codes = [(await end_by(each, signal.SIGINT)).code for each in (moderator, bot)]
    assert codes == [0, 0]
    assert [sent.message for sent in gateway.received[1:]] == [
        "Please mind your words (warning 1 of 2).",
        "pong",
    ]


async def test_the_bridge_as_a_program_over_real_http(tmp_path: Path) -> None:
    file = tmp_path / "cursor.json"
    async with open_fake_gateway() as gateway, open_fake_gateway() as hook:
        hook.script("POST /hook/s3cret", reply(503), reply(204))
        url = f"{hook.url}/hook/s3cret"
        async with example("webhook_bridge", str(file), gateway=gateway, WEBHOOK_URL=url) as program:
            await gateway.wait_connected()
            gateway.deliver(text="hi")
            await hook.wait_requests(2)
            while load(file) is None:  # noqa: ASYNC110  (a file tells nobody)
                await trio.sleep(0.05)
            ended = await end_by(program, signal.SIGTERM)
    assert ended.code == 0
    assert [json.loads(request.body)["text"] for request in hook.requests] == ["hi", "hi"]
    assert "HTTP 503" in ended.err
    assert "s3cret" not in ended.err
