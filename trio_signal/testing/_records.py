"""What the fake gateway has seen and done, and how to wait for more of it."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import trio


@dataclass(eq=False)
class HttpRequest:
    """One HTTP request, the WebSocket handshake included."""

    method: str
    target: str
    """Path and query as they came, undecoded, base path included."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case; several of one name joined by ``", "``."""
    time: float
    """`trio.current_time` when the head had come."""
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query, undecoded."""
        return self.target.partition("?")[0]


SendKind = Literal["send", "reaction", "remote_delete"]


@dataclass(eq=False)
class SendRequest:
    """One request to send something into a chat, whose whole body came in; edits are sends."""

    body: dict[str, Any]
    """The JSON object sent, or the params of the JSON-RPC request; empty when it was none."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    time: float
    """`trio.current_time` when the body had come."""
    outcome: str
    """What was done with it: the kind of `SendAnswer` (``"ok"``, ``"lost"``, …) or ``"invalid"``."""
    timestamp: int | None = None
    """Milliseconds since the epoch, given by signal-cli; None when it did not send the message."""
    answered: bool = False
    """Whether the last byte of the answer was written."""
    kind: SendKind = "send"
    path_number: str = field(default="", repr=False)
    """The account, where the path of the request tells it."""

    @property
    def number(self) -> str:
        """The sending account."""
        return self.path_number or str(self.body.get("number") or self.body.get("account") or "")

    @property
    def recipients(self) -> list[str]:
        """To whom: numbers, UUIDs, usernames, and groups as ``group.…``, on either kind of gateway."""
        people = values_of(self.body, "recipients") or values_of(self.body, "recipient")
        people += values_of(self.body, "username")
        groups = values_of(self.body, "groupId") or values_of(self.body, "group-id")
        names = [person.removeprefix("u:") for person in people]
        return [*names, *(group_recipient(group) for group in groups)]

    @property
    def message(self) -> str:
        """The text; of a reaction the emoji."""
        key = {"send": ("message",), "reaction": ("reaction", "emoji"), "remote_delete": ()}[self.kind]
        return next((str(self.body[name]) for name in key if self.body.get(name)), "")


def values_of(body: Mapping[str, Any], name: str) -> list[str]:
    """Return the strings under ``name``, alone or in a list, or under its plural, as signal-cli reads."""
    value: Any = body.get(name, body.get(f"{name}s"))
    if value is None or value == "":
        return []
    many = cast("list[object]", value) if isinstance(value, list) else [value]
    return [str(each) for each in many]


def group_recipient(internal_id: str) -> str:
    """Return the ``group.…`` that the REST gateway, and this library, call a group."""
    return f"group.{base64.b64encode(internal_id.encode()).decode()}"


class LedgerEntry(NamedTuple):
    """One message whose last byte was written to a receive socket, or to an event stream."""

    timestamp: int | None
    """Of the envelope; None for frames sent with `deliver_raw` and the like."""
    connection: int
    """`ReceiveSocket.number`."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """A snapshot of the counters of a fake gateway. All count since it was opened."""

    connections: int = 0
    """Receive sockets open now, half-open ones included."""
    handshakes: int = 0
    requests: int = 0
    """HTTP requests, handshakes included."""
    refused: int = 0
    """Connections refused in memory, or reset on arrival; the kernel's own refusals are not seen."""
    sends: int = 0
    """Requests to send something into a chat that came in whole."""
    sends_in_flight: int = 0
    most_sends_in_flight: int = 0
    """The real gateway crashes under parallel sends: over 1 is a fault of the client."""
    delivered: int = 0
    """Message frames written to their last byte, over all sockets."""
    dropped_without_consumer: int = 0
    """Messages lost for good since no socket of their number was open."""
    dropped_daemon_down: int = 0
    """Messages lost since signal-cli was away."""
    kept: int = 0
    """Messages that wait on Signal's server now, since nobody receives them from signal-cli."""
    lost_in_burst: int = 0
    """Copies lost since the socket's writer was busy (``lose_bursts``)."""
    lost_in_stall: int = 0
    """Copies lost while the gateway was stalled."""
    lost_to_full_queue: int = 0
    """Copies lost since a client did not read and its queue was full."""
    lost_to_half_open: int = 0
    """Copies for sockets and event streams that were open only in the gateway's eyes, or ended meanwhile."""
    pings_sent: int = 0
    """Pings on WebSockets, keep-alives on event streams."""
    pongs_received: int = 0
    pings_received: int = 0


@dataclass
class Counters:
    """The counters behind `Statistics` that events count up."""

    handshakes: int = 0
    most_sends_in_flight: int = 0
    dropped_without_consumer: int = 0
    dropped_daemon_down: int = 0
    lost_in_burst: int = 0
    lost_in_stall: int = 0
    lost_to_full_queue: int = 0
    lost_to_half_open: int = 0
    pings_sent: int = 0
    pongs_received: int = 0
    pings_received: int = 0


class Records:
    """All that is noted down, and a way to wait for it."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.received: list[SendRequest] = []
        self.ledger: list[LedgerEntry] = []
        self.counters = Counters()
        self._waiting = trio.lowlevel.ParkingLot()

    def changed(self) -> None:
        """Wake who waits; called after each change that somebody may wait for."""
        self._waiting.unpark_all()

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate`` holds. A checkpoint; cancelling it only ends the waiting."""
        await trio.lowlevel.checkpoint()
        while not predicate():
            await self._waiting.park()
