"""What the gateways that are asked over HTTP have in common."""

import abc
import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import trio

from .._continuity import Cursor
from .._errors import LinkLost
from .._operations import Operation, R_co
from .._outgoing import OutgoingMessage
from . import AttachmentRef, Download, Link, SendResult
from ._requests import Requests
from ._turn import Turn


class HttpGateway(abc.ABC):
    """A gateway that takes sends over HTTP. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests: Final = requests
        self._any_number: Final = Turn(math.inf)

    @property
    def phase(self) -> str:
        """See :meth:`trio_signal.gateways.Gateway.phase`."""
        return self._requests.phase

    @property
    def allows_overlap(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.allows_overlap`. Some share out what comes."""
        return False

    @property
    def is_shared(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.is_shared`. One client has it for itself."""
        return False

    @asynccontextmanager
    async def open_link(self, resume: Cursor | None) -> AsyncGenerator[Link]:
        """See :meth:`trio_signal.gateways.Gateway.open_link`."""
        await self._requests.begin()
        async with self.connect(resume) as link:
            yield link

    @abc.abstractmethod
    def connect(self, resume: Cursor | None) -> AbstractAsyncContextManager[Link]:
        """Connect, with an attempt begun already. See :meth:`trio_signal.gateways.Gateway.open_link`."""

    @abc.abstractmethod
    async def check(self) -> None:
        """Ask, once it is not known, whether this gateway can serve this account at all. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
            PermanentError: it can never succeed like this.
        """

    @property
    def send_limit(self) -> float:
        """See :meth:`trio_signal.gateways.Gateway.send_limit`."""
        return self._requests.send_timeout

    @property
    @abc.abstractmethod
    def health(self) -> str:
        """The path that a gateway which is well answers with 2xx, at the cost of next to nothing."""

    @property
    def lost_answers(self) -> int:
        """See :meth:`trio_signal.gateways.Gateway.lost_answers`."""
        return self._requests.lost_answers

    async def ask_health(self) -> None:
        """See :meth:`trio_signal.gateways.Gateway.ask_health`."""
        await self._requests.ask_health(self.health)

    @abc.abstractmethod
    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""

    def turn(self) -> Turn:
        """See :meth:`trio_signal.gateways.Gateway.turn`. Requests may overlap unless one says otherwise."""
        return self._any_number

    @abc.abstractmethod
    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """See :meth:`trio_signal.gateways.Gateway.operate`."""

    @abc.abstractmethod
    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:
        """See :meth:`trio_signal.gateways.Gateway.call`."""

    @abc.abstractmethod
    def download(
        self, ref: AttachmentRef, *, account: str | None, limit: float
    ) -> AbstractAsyncContextManager[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""

    @property
    def can_renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.can_renew_credentials`."""
        return self._requests.credentials.can_renew

    async def renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.renew_credentials`."""
        renewed = False
        # The attempt that follows asks again and says what is wrong.
        with suppress(LinkLost):
            renewed = await self._requests.credentials.renew()
        await trio.lowlevel.checkpoint()
        return renewed

    async def aclose(self) -> None:
        """See :meth:`trio_signal.gateways.Gateway.aclose`."""
        await self._requests.aclose()
