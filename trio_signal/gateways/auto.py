"""Chooses among the kinds of gateway, or finds out which there is."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from .._continuity import Cursor
from .._errors import (
    REFUSED_STATUSES,
    Certainty,
    GatewayError,
    GatewayRefused,
    LinkLost,
    RequestFailed,
    WrongGatewayMode,
    told,
)
from .._operations import Operation, R_co
from .._outgoing import OutgoingMessage
from . import AttachmentRef, Download, Link, SendResult
from ._about import CLI_MODE, HUB_MODE
from ._http_gateway import HttpGateway
from ._kinds import GatewayKind, ReceiveMode
from ._requests import Requests
from ._turn import Turn

#: Makes a gateway of one kind, whose module is loaded by who uses it.
Make = Callable[[], HttpGateway]


def make_gateway(
    kind: GatewayKind,
    requests: Requests,
    account: str | None,
    *,
    ping_interval: float,
    pong_timeout: float,
    max_message_size: int,
    receive_mode: ReceiveMode,
    quiet_time: float,
    receive: bool = True,
    now: Callable[[], int],
) -> HttpGateway:
    """Make a gateway of one kind.

    Args:
        kind: which.
        requests: how to reach it.
        account: whose messages; None for those of every account that signal-cli has.
        ping_interval: silence before we ping a WebSocket, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        max_message_size: the largest message taken, in bytes.
        receive_mode: how signal-cli's daemon was started.
        quiet_time: how long it says nothing once it has given what it kept, in seconds.
        receive: whether to open a stream of messages.
        now: tells the time in milliseconds since the epoch.
    """

    def make_rest() -> HttpGateway:
        from .rest import RestGateway  # noqa: PLC0415

        return RestGateway(
            requests,
            account,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            max_message_size=max_message_size,
        )

    def make_hub() -> HttpGateway:
        from .hub import HubGateway  # noqa: PLC0415

        return HubGateway(
            requests,
            account,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            max_message_size=max_message_size,
            now=now,
        )

    def make_signal_cli() -> HttpGateway:
        from .signal_cli import SignalCliGateway  # noqa: PLC0415

        return SignalCliGateway(
            requests,
            account,
            receive_mode=receive_mode,
            quiet_time=quiet_time,
            max_message_size=max_message_size,
            now=now,
        )

    makers: dict[str, Make] = {"rest": make_rest, "hub": make_hub, "signal-cli": make_signal_cli}
    gateway = makers[kind]() if kind != "auto" else AutoGateway(requests, **makers)
    if receive:
        return gateway

    from ._send_only import SendOnlyGateway  # noqa: PLC0415

    return SendOnlyGateway(requests, gateway, interval=ping_interval, limit=pong_timeout)


class AutoGateway(HttpGateway):
    """Whichever gateway there is, by what it says of itself. See :class:`trio_signal.gateways.Gateway`.

    It is asked until it has told, or a link has stood; where something hides the answer, it is
    taken for a REST gateway.

    Args:
        requests: how to reach it.
        makers: what it may be, by name.
    """

    def __init__(self, requests: Requests, **makers: Make) -> None:
        super().__init__(requests)
        self._makers: Final = makers
        self._made: Final[dict[str, HttpGateway]] = {}
        self._chosen = self._kind("rest")
        self._known: Final = trio.Event()
        self._has_stood = False

    @property
    def allows_overlap(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.allows_overlap`."""
        return self._chosen.allows_overlap

    @property
    def is_shared(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.is_shared`. What is not known is taken for REST."""
        return self._chosen.is_shared

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[Link]:
        """See :meth:`HttpGateway.connect`."""
        hidden, status = await self._choose(), self._requests.look_ups.status
        try:
            async with self._chosen.connect(resume) as link:
                self._has_stood, hidden = True, False
                self._known.set()
                yield link
        except Exception as error:
            cause = told(error)
            is_not_found = isinstance(cause, LinkLost) and cause.status == 404
            if is_not_found or isinstance(cause, WrongGatewayMode):
                # Another kind may have taken its place.
                self._requests.look_ups.forget()
            if hidden and is_not_found and status != 404:
                # The 404 behind it would count as final.
                raise self._unknown(status) from None
            raise

    async def check(self) -> None:
        """See :meth:`HttpGateway.check`."""
        await self.find_out()
        await self._chosen.check()

    async def find_out(self) -> None:
        """Ask what it is, for who opens no link; what something hides is taken for REST. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
        """
        await self._choose()
        self._known.set()

    async def _choose(self) -> bool:
        """Ask what it is; return whether something hides it. A checkpoint."""
        if not self._has_stood:
            self._requests.look_ups.ask_anew()
        about = await self._requests.look_ups.about()
        if about is None:
            return not self._has_stood
        self._chosen = self._kind(_KINDS.get(about.mode, "rest"))
        self._known.set()
        return False

    def _kind(self, name: str) -> HttpGateway:
        """Return the gateway of this kind, the same each time."""
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def _unknown(self, status: int | None) -> GatewayError:
        """Return why this may be something else all the same, if only it told."""
        words = f"{self._requests.address} does not tell what it is, and is no REST gateway at this path"
        if status is not None and status in REFUSED_STATUSES:
            return GatewayRefused(f"{words}: /v1/about was refused with HTTP {status}", status=status)
        return LinkLost(f"{words}; it is asked again")

    @property
    def health(self) -> str:
        """See :meth:`HttpGateway.health`."""
        return self._chosen.health

    @property
    def send_limit(self) -> float:
        """See :meth:`trio_signal.gateways.Gateway.send_limit`."""
        return self._chosen.send_limit

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        # Nothing is sent before there has been a link, so it is known by now.
        return self._chosen.send(message)

    def turn(self) -> Turn:
        """See :meth:`trio_signal.gateways.Gateway.turn`."""
        return self._chosen.turn()

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """See :meth:`trio_signal.gateways.Gateway.operate`."""
        left = await self._wait_until_known(limit)
        return await self._chosen.operate(operation, account=account, limit=left)

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:
        """See :meth:`trio_signal.gateways.Gateway.call`."""
        left = await self._wait_until_known(limit)
        return await self._chosen.call(what, body, account=account, limit=left)

    @asynccontextmanager
    async def download(
        self, ref: AttachmentRef, *, account: str | None, limit: float
    ) -> AsyncGenerator[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""
        await self._wait_until_known(limit)
        async with self._chosen.download(ref, account=account, limit=limit) as download:
            yield download

    async def _wait_until_known(self, limit: float) -> float:
        """Wait until it is known what to speak; return how much of ``limit`` is left. A checkpoint."""
        deadline = trio.current_time() + limit
        with trio.move_on_at(deadline):
            await self._known.wait()
        if not self._known.is_set():
            error = LinkLost(f"{self._requests.address} could not be asked what it is within {limit:g} s")
            raise RequestFailed(error, Certainty.NOT_SENT)
        return deadline - trio.current_time()


#: What calls itself so.
_KINDS: Final[dict[str | None, str]] = {HUB_MODE: "hub", CLI_MODE: "signal-cli"}
