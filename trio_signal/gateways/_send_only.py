"""A gateway that is only sent to: nothing is received, so nobody's messages are taken.

Whoever opens a stream of events on signal-cli's daemon takes the messages that wait there.
A program that only sends has no use for them, and would lose them for those who have.
"""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import trio

from .._continuity import Cursor, GapReason
from .._envelopes import Undecodable
from .._errors import REFUSED_STATUSES, GatewayRefused, LinkLost, Reason, RequestFailed
from .._operations import Operation, R_co
from .._outgoing import OutgoingMessage
from . import Absence, AttachmentRef, Download, Numbered, SendResult
from ._calls import Call
from ._http_gateway import HttpGateway
from ._requests import Requests
from ._turn import Turn


class SendOnlyGateway(HttpGateway):
    """A gateway of any kind without its stream of messages. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
        gateway: what it is.
        interval: how often it is asked whether it is there, in seconds.
        limit: how long it may take to answer, in seconds.
    """

    def __init__(self, requests: Requests, gateway: HttpGateway, *, interval: float, limit: float) -> None:
        super().__init__(requests)
        self._gateway: Final = gateway
        self._interval: Final = interval
        self._limit: Final = limit

    @property
    def is_shared(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.is_shared`."""
        return self._gateway.is_shared

    async def check(self) -> None:
        """See :meth:`HttpGateway.check`."""
        await self._gateway.check()

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator["CheckLink"]:  # noqa: ARG002
        """See :meth:`HttpGateway.connect`. Nothing is received, so nothing is resumed."""
        await self.check()
        yield CheckLink(self._requests, self.health, interval=self._interval, limit=self._limit)

    @property
    def health(self) -> str:
        """See :meth:`HttpGateway.health`."""
        return self._gateway.health

    @property
    def send_limit(self) -> float:
        """See :meth:`trio_signal.gateways.Gateway.send_limit`."""
        return self._gateway.send_limit

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        return self._gateway.send(message)

    def turn(self) -> Turn:
        """See :meth:`trio_signal.gateways.Gateway.turn`."""
        return self._gateway.turn()

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """See :meth:`trio_signal.gateways.Gateway.operate`."""
        return await self._gateway.operate(operation, account=account, limit=limit)

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:
        """See :meth:`trio_signal.gateways.Gateway.call`."""
        return await self._gateway.call(what, body, account=account, limit=limit)

    def download(
        self, ref: AttachmentRef, *, account: str | None, limit: float
    ) -> AbstractAsyncContextManager[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""
        return self._gateway.download(ref, account=account, limit=limit)


class CheckLink:
    """Whether the gateway is there, asked again and again. See :class:`trio_signal.gateways.Link`.

    Without a stream of messages there is nothing that would tell by itself.

    Args:
        requests: how to reach it.
        path: what a gateway that is well answers with 2xx.
        interval: how often it is asked, in seconds.
        limit: how long it may take to answer, in seconds.
    """

    #: See :class:`trio_signal.gateways.Link`.
    patience = 0.0

    #: See :class:`trio_signal.gateways.Link`. What comes is none of our messages.
    bytes_received = 0

    def __init__(self, requests: Requests, path: str, *, interval: float, limit: float) -> None:
        self._requests: Final = requests
        self._path: Final = path
        self._interval: Final = interval
        self._limit: Final = limit
        self._last_received = trio.current_time()

    @property
    def last_received(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return self._last_received

    @property
    def absence(self) -> Absence:
        """See :class:`trio_signal.gateways.Link`. Nothing is missed that nobody wanted."""
        return Absence(GapReason.GATEWAY, self._last_received, lasts=0.0)

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`.

        Raises:
            LinkLost: it is not there, or not well.
            GatewayRefused: the credentials were refused.
        """
        self._requests.phase = f"asking for {self._path}"
        await self._ask()

    async def receive(self) -> list[str | bytes | Undecodable | Numbered]:
        """See :class:`trio_signal.gateways.Link`. Nothing ever comes."""
        await trio.sleep_forever()

    async def synchronise(self) -> None:
        """See :class:`trio_signal.gateways.Link`. There is nothing to wait for."""
        await trio.lowlevel.checkpoint()

    async def watch(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        while True:
            await trio.sleep(self._interval)
            await self._ask()

    async def heard(self, since: float) -> None:  # noqa: ARG002  (other links need it)
        """See :class:`trio_signal.gateways.Link`. Nobody asks: what comes is none of our messages."""
        await trio.sleep_forever()

    async def close(self) -> None:
        """See :class:`trio_signal.gateways.Link`. There is nothing to close."""
        await trio.lowlevel.checkpoint()

    async def _ask(self) -> None:
        address = self._requests.address
        try:
            answer = await self._requests.ask(Call("GET", self._path), limit=self._limit)
        except RequestFailed as error:
            raise LinkLost(
                f"{address} is not there: {error.error}",
                reason=Reason.NO_ANSWER,
                nobody_listens=isinstance(error.error, LinkLost) and error.error.nobody_listens,
            ) from error
        if answer.status in REFUSED_STATUSES:
            raise GatewayRefused(
                f"{address} refused the credentials: HTTP {answer.status}",
                status=answer.status,
                retry_after=answer.wait,
            )
        if not 200 <= answer.status < 300:
            raise LinkLost(
                f"{address} answered {self._path} with HTTP {answer.status}",
                status=answer.status,
                retry_after=answer.wait,
            )
        self._last_received = trio.current_time()
