"""A trio_signal hub: numbered messages come over a WebSocket, sends go over HTTP.

The wire format is described in ``docs/hub-protocol.md``.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import msgspec
import trio

from .._contents import Reaction
from .._continuity import Cursor
from .._errors import LinkLost, UnknownAccount, WrongGatewayMode
from .._operations import Operation, R_co, check_attachment_id
from .._outgoing import OutgoingMessage
from .._websocket import open_websocket
from . import AttachmentRef, Download, SendResult
from ._about import CLI_MODE, HUB_MODE
from ._calls import Call
from ._download import open_download
from ._http_gateway import HttpGateway
from ._hub_answers import read_hub_answer
from ._hub_link import HubLink, Oversize
from ._hub_operations import encode_hub_operation, hub_failure, read_hub_operation
from ._operation_answers import certain_if_only_read, is_success, number_of, parse_call, read_call_answer
from ._requests import Requests
from ._rest_requests import encode_message, in_path

#: What the hub writes around a message of the gateway's, and more, in bytes.
_ROOM: Final = 64 * 1024

#: How long a send may wait at the hub for its turn, and for evidence that it went out, in seconds.
_TURN: Final = 45.0

#: Answers to the WebSocket handshake that no hub gives to us: there is something else.
_NO_HUB: Final = frozenset({200, 404, 405})


class _Status(msgspec.Struct):
    account: str | None = None


class HubGateway(HttpGateway):
    """A trio_signal hub. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
        account: whose messages; without one there is no link.
        now: tells the time in milliseconds since the epoch.
        ping_interval: silence before we ping, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        max_message_size: the largest message of the gateway's that is taken, in bytes.
    """

    def __init__(
        self,
        requests: Requests,
        account: str | None,
        *,
        now: Callable[[], int],
        ping_interval: float,
        pong_timeout: float,
        max_message_size: int,
    ) -> None:
        super().__init__(requests)
        self._account: Final = account
        self._now: Final = now
        self._ping_interval: Final = ping_interval
        self._pong_timeout: Final = pong_timeout
        self._max_frame: Final = max_message_size + _ROOM
        self._oversize: Final = Oversize()
        self._checked = False

    @property
    def is_shared(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.is_shared`."""
        return True

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[HubLink]:
        """See :meth:`HttpGateway.connect`."""
        requests = self._requests
        account = number_of(self._account, requests.address)
        if not self._checked:
            await self._check(account)
        headers = await requests.handshake_headers()
        requests.phase = "connecting"
        stream = await requests.open_stream()
        requests.phase = "in the WebSocket handshake"
        try:
            async with open_websocket(
                stream,
                host=requests.address.host_header,
                resource=requests.address.path + _target(resume),
                headers=headers,
                max_message_size=self._max_frame,
            ) as socket:
                requests.phase = "waiting for the hub's hello"
                # Only now is it certain that it was not for our credentials that a look-up gave nothing.
                self._checked = True
                yield HubLink(
                    socket,
                    resume,
                    self._oversize,
                    now=self._now,
                    ping_interval=self._ping_interval,
                    pong_timeout=self._pong_timeout,
                )
        except LinkLost as error:
            if error.status not in _NO_HUB:
                raise
            raise WrongGatewayMode(
                f"{requests.address} has no trio_signal hub at this path (HTTP {error.status}): "
                'mend the URL, or use gateway="auto" to find out what it is'
            ) from error

    async def check(self) -> None:
        """See :meth:`HttpGateway.check`."""
        await trio.lowlevel.checkpoint()
        account = number_of(self._account, self._requests.address)
        if not self._checked:
            await self._check(account)

    @property
    def send_limit(self) -> float:
        """See :meth:`trio_signal.gateways.Gateway.send_limit`."""
        return self._requests.send_timeout + _TURN

    @property
    def health(self) -> str:
        """See :meth:`HttpGateway.health`."""
        return "/status"

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        return self._requests.send(
            lambda: encode_message(message, number_of(self._account, self._requests.address)),
            lambda answer: read_hub_answer(
                answer.status,
                answer.body,
                recipient=message.recipient,
                wait=answer.wait,
                is_reaction=isinstance(message.content, Reaction),
            ),
            limit=self.send_limit,
        )

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:  # noqa: ARG002
        """See :meth:`trio_signal.gateways.Gateway.operate`. The hub's own client carries it out."""
        call = encode_hub_operation(operation)
        with certain_if_only_read(operation):
            answer = await self._requests.ask(call, limit=limit)
            return read_hub_operation(operation, answer.status, answer.body)

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:  # noqa: ARG002
        """See :meth:`trio_signal.gateways.Gateway.call`. The paths are the hub's own."""
        answer = await self._requests.ask(parse_call(what, body), limit=limit)
        if not is_success(answer.status):
            raise hub_failure(answer.status, answer.body)
        return read_call_answer(answer.body)

    def download(
        self,
        ref: AttachmentRef,
        *,
        account: str | None,  # noqa: ARG002
        limit: float,
    ) -> AbstractAsyncContextManager[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""
        path = f"/v1/attachments/{in_path(check_attachment_id(ref.id))}?place={quote(ref.place, safe='')}"
        return open_download(self._requests, Call("GET", path), hub_failure, limit=limit)

    async def _check(self, account: str) -> None:
        """Ask whether this is a hub, and one for this account. A checkpoint."""
        await trio.lowlevel.checkpoint()
        address = self._requests.address
        about = await self._requests.look_ups.about()
        if about is not None and about.mode == CLI_MODE:
            raise WrongGatewayMode(
                f'{address} is signal-cli\'s own daemon and no hub; use gateway="signal-cli" or "auto"'
            )
        if about is not None and about.mode is not None and about.mode != HUB_MODE:
            raise WrongGatewayMode(
                f'{address} is a gateway in mode {about.mode!r} and no hub; use gateway="rest" or "auto"'
            )
        status = await self._requests.look_ups.ask_for("/status", _Status)
        if status is not None and status.account not in (None, account):
            raise UnknownAccount(f"the hub {address} serves {status.account} and not {account}")


def _target(resume: Cursor | None) -> str:
    """Return the path of the WebSocket, with what is needed to go on."""
    position = resume.position if resume is not None else None
    if position is None:
        return "/websocket"
    return f"/websocket?since={position.sequence}&epoch={quote(position.epoch, safe='')}"
