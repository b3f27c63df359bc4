"""The twenty faults of the matrix, and what each is in each phase of a connection."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, Literal, get_args

import trio

from tests.fault_wire import END, RESET, Middlebox, Moment, Wire
from trio_signal.testing import FakeGateway, chunk, close_frame, server_frame

Kind = Literal["rest", "signal-cli", "hub"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: What a client's option max_message_size is, in bytes; and what is too large for any, a head too.
MAX_MESSAGE: Final = 64 * 1024
_TOO_LARGE: Final = b"x" * 300_000

_GARBAGE: Final = b"\xff\xfe\x00 neither HTTP nor WebSocket \xf3\r\n\r\n"


class Phase(StrEnum):
    """Where a connection stands when the fault strikes."""

    LOOK_UP = "look-up"
    CONNECT = "connect"
    HANDSHAKE = "handshake"
    SYNCING = "syncing"
    IDLE = "connected and idle"
    SEND = "in the middle of a send"


#: In these a request has just come and an answer is due.
ANSWERING: Final = frozenset({Phase.LOOK_UP, Phase.HANDSHAKE, Phase.SEND})
#: In these what is alive comes from the gateway.
STREAMING: Final = frozenset({Phase.SYNCING, Phase.IDLE})


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a fault strikes.

    Attributes:
        kind: what kind of gateway it is.
        phase: in which phase.
        box: what is between the client and its gateway.
        gateway: the gateway; of a hub the one behind it.
        wire: the connection; None while a name is looked up.
        random: decides what may be decided so; None for what is the same each time.
    """

    kind: Kind
    phase: Phase
    box: Middlebox
    gateway: FakeGateway
    wire: Wire | None
    random: Random | None

    @property
    def on(self) -> Wire:
        """The connection that is struck."""
        assert self.wire is not None
        return self.wire

    @property
    def is_web_socket(self) -> bool:
        return self.kind != "signal-cli"


class Lasts(StrEnum):
    """How long a fault lasts."""

    ONCE = "once"  #: it strikes one connection, and that is all
    UNTIL_RETRIED = "until an attempt to connect has failed"
    UNTIL_NOTICED = "until the client has noticed"
    UNTIL_DONE = "until all that was under way has been done in spite of it"


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: for the table.
        story: what happens, for the table's reader.
        strike: makes it happen.
        lasts: how long.
        everywhere: it strikes all connections and the look-up of the name too.
        ends_daemon: signal-cli's daemon ends by it and has to be started again.
        impossible: in which phases it cannot happen, and why.
    """

    name: str
    story: str
    strike: Callable[[Hit], Awaitable[None]]
    lasts: Lasts = Lasts.ONCE
    everywhere: bool = False
    ends_daemon: bool = False
    impossible: tuple[tuple[Phase, str], ...] = ()

    def why_not(self, phase: Phase) -> str | None:
        """Say why it cannot happen in a phase; None if it can."""
        return dict(self.impossible).get(phase)

    def moments(self, phase: Phase) -> tuple[Moment, ...]:
        """Return when it strikes; nothing for a client that is idle."""
        match phase:
            case Phase.LOOK_UP:
                return (Moment.NAME,) if self.everywhere else (Moment.QUESTION, Moment.LINK)
            case Phase.CONNECT:
                return (Moment.ACCEPT,)
            case Phase.HANDSHAKE:
                return (Moment.LINK,)
            case Phase.SYNCING:
                return (Moment.FIRST,)
            case Phase.IDLE:
                return ()
            case Phase.SEND:
                return (Moment.SEND,)


def _end_process(hit: Hit) -> None:
    """End whatever stands. Of signal-cli's daemon the messages are at stake that it has not handed over."""
    if hit.kind == "signal-cli":
        hit.gateway.kill()
    else:
        hit.box.end_all()


async def _die(hit: Hit) -> None:
    hit.box.door.refuse(None)
    _end_process(hit)
    await trio.lowlevel.checkpoint()


async def _lose_name(hit: Hit) -> None:
    hit.box.unknown = True
    _end_process(hit)
    await trio.lowlevel.checkpoint()


async def _reset(hit: Hit) -> None:
    hit.on.end(reset=True)
    await trio.lowlevel.checkpoint()


async def _end(hit: Hit) -> None:
    await hit.on.bow_out()


async def _freeze(hit: Hit) -> None:
    hit.on.be_silent()
    await trio.lowlevel.checkpoint()


async def _forget(hit: Hit) -> None:
    hit.on.forget()
    await trio.lowlevel.checkpoint()


async def _hole_up(hit: Hit) -> None:
    hit.box.holes = {"up"}
    await trio.lowlevel.checkpoint()


async def _hole_down(hit: Hit) -> None:
    hit.box.holes = {"down"}
    await trio.lowlevel.checkpoint()


async def _hole(hit: Hit) -> None:
    hit.box.holes = {"up", "down"}
    await trio.lowlevel.checkpoint()


async def _be_late(hit: Hit) -> None:
    hit.box.delays = (0.1, 0.2, 0.4, 0.8)
    await trio.lowlevel.checkpoint()


async def _tear(hit: Hit) -> None:
    hit.on.torn = True
    await trio.lowlevel.checkpoint()


async def _cut(hit: Hit) -> None:
    if hit.phase is Phase.CONNECT:
        await hit.on.client.receive_some(20)
        hit.on.end()
        await trio.lowlevel.checkpoint()
        return

    def shorten(data: bytes) -> list[bytes]:
        half = min(len(data) // 2, 40) if hit.random is None else hit.random.randrange(len(data))
        return [data[:half], END]

    hit.on.alter = shorten
    await trio.lowlevel.checkpoint()


async def _talk_nonsense(hit: Hit) -> None:
    if hit.phase in STREAMING:
        await hit.on.say(_GARBAGE)
    else:
        await hit.on.answer(b"SSH-2.0-OpenSSH_9.2p1\r\n" if hit.phase is Phase.CONNECT else _GARBAGE)


async def _be_too_large(hit: Hit) -> None:
    if hit.phase not in STREAMING:
        await hit.on.answer(b"HTTP/1.1 200 OK\r\nX-Filler: " + _TOO_LARGE + b"\r\n\r\n")
    elif hit.is_web_socket:
        await hit.on.say(server_frame(b'"' + _TOO_LARGE + b'"'))
    else:
        await hit.on.say(chunk(b"event:receive\ndata:" + _TOO_LARGE + b"\n\n"))


async def _repeat(hit: Hit) -> None:
    # Both of a send's come in one piece, which is read at once; a look-up's second comes behind the first.
    at_once = hit.phase is not Phase.LOOK_UP if hit.random is None else hit.random.random() < 0.5
    hit.on.alter = lambda data: [data + data] if at_once else [data, data]
    await trio.lowlevel.checkpoint()


async def _lose_answer(hit: Hit) -> None:
    hit.on.alter = lambda _: [RESET]
    await trio.lowlevel.checkpoint()


async def _say_goodbye(hit: Hit) -> None:
    await trio.lowlevel.checkpoint()
    if hit.kind == "signal-cli":
        _stop_daemon(hit)
    elif hit.phase is Phase.CONNECT:
        await hit.on.answer(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    elif hit.phase in {Phase.LOOK_UP, Phase.SEND}:
        hit.on.alter = lambda data: [data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), END]
    else:
        goodbye = close_frame(1012 if hit.kind == "hub" else 1001, "going away")
        if hit.phase is Phase.HANDSHAKE:
            hit.on.alter = lambda data: [data + goodbye]
        else:
            await hit.on.say(goodbye)


def _stop_daemon(hit: Hit) -> None:
    """Have signal-cli's daemon stop as by SIGTERM, behind the answer that is due."""

    def stop(*answer: bytes) -> list[bytes]:
        hit.gateway.terminate()
        hit.box.door.refuse(None)
        return list(answer)

    if hit.phase in ANSWERING:
        hit.on.alter = stop
    else:
        stop()


def _refusal(status: str, *more: str) -> Callable[[Hit], Awaitable[None]]:
    page = f"<h1>{status}</h1>"
    head = [f"HTTP/1.1 {status}", "Content-Type: text/html", f"Content-Length: {len(page)}", *more]
    data = "\r\n".join([*head, "Connection: close", "", page]).encode()

    async def refuse(hit: Hit) -> None:
        if hit.phase not in STREAMING:
            await hit.on.answer(data)
            return
        # A reverse proxy was told to do so: it ends what stands, and refuses the next one.
        hit.box.answers.append(data)
        hit.on.end()
        await trio.lowlevel.checkpoint()

    return refuse


FAULTS: Final = (
    Fault(
        "died",
        "the gateway's process is gone: what stands ends, and the port refuses until an attempt has failed",
        _die,
        Lasts.UNTIL_RETRIED,
        everywhere=True,
        ends_daemon=True,
    ),
    Fault(
        "name gone",
        "its container is made anew: what stands ends, and the name is not known until an attempt has failed",
        _lose_name,
        Lasts.UNTIL_RETRIED,
        everywhere=True,
        ends_daemon=True,
    ),
    Fault("reset", "the connection is reset (RST)", _reset),
    Fault("end", "the connection ends without a word (FIN)", _end),
    Fault("silence", "the connection stays, and nothing comes or is taken any more", _freeze),
    Fault(
        "half-open",
        "the other side has forgotten the connection: nothing comes, and what we write is answered by RST",
        _forget,
    ),
    Fault(
        "black hole up",
        "nothing gets to the gateway, on any connection, and no name is looked up, until it was noticed",
        _hole_up,
        Lasts.UNTIL_NOTICED,
        everywhere=True,
    ),
    Fault(
        "black hole down",
        "nothing comes from the gateway, on any connection, and no name is looked up, until it was noticed",
        _hole_down,
        Lasts.UNTIL_NOTICED,
        everywhere=True,
    ),
    Fault("black hole", "the same both ways", _hole, Lasts.UNTIL_NOTICED, everywhere=True),
    Fault(
        "latency and jitter",
        "each piece comes 0.1 to 0.8 s later, each way",
        _be_late,
        Lasts.UNTIL_DONE,
        everywhere=True,
    ),
    Fault(
        "one byte at a time",
        "the first hundred of whatever comes, each way",
        _tear,
        Lasts.UNTIL_DONE,
    ),
    Fault("cut", "the connection ends somewhere in the middle of a head, a frame, an event, a body", _cut),
    Fault("garbage", "bytes come that belong to no protocol", _talk_nonsense),
    Fault("too large", "300 kB come in a head, a frame or an event", _be_too_large),
    Fault(
        "twice",
        "an answer, a frame or an event comes twice",
        _repeat,
        impossible=((Phase.CONNECT, "nothing has been said yet that could come twice"),),
    ),
    Fault(
        "answer lost",
        "the gateway gets the request whole, and the connection is reset before its answer, frame or event",
        _lose_answer,
        impossible=((Phase.CONNECT, "nothing has been asked yet that could be answered"),),
    ),
    Fault(
        "goodbye",
        "`Connection: close`, or close frame 1001 (a hub: 1012); signal-cli is stopped by SIGTERM",
        _say_goodbye,
        ends_daemon=True,
    ),
    Fault(
        "401", "something answers with it, once; a link that stands ends first", _refusal("401 Unauthorized")
    ),
    Fault(
        "429",
        "the same with `Retry-After: 1`",
        _refusal("429 Too Many Requests", "Retry-After: 1"),
    ),
    Fault("503", "the same", _refusal("503 Service Unavailable", "Retry-After: 1")),
)
