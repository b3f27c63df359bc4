"""signal-cli's own daemon: messages come as Server-Sent Events, everything else goes as JSON-RPC over HTTP.

Wire facts here were measured against release 0.13.19 (``AsamK/signal-cli``, ``daemon --http``).
"""

import os
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from .._continuity import Cursor
from .._errors import AnswerError, Certainty, ConfigurationError, LinkLost, Reason, RequestFailed, Unsupported
from .._operations import Operation, R_co, may_be_half_done
from .._outgoing import OutgoingMessage
from . import AttachmentRef, Download, SendResult
from ._download import HttpDownload, open_download
from ._event_link import EventLink
from ._http_gateway import HttpGateway
from ._kinds import ReceiveMode
from ._operation_answers import certain_if_only_read, nothing_done
from ._requests import Requests
from ._rpc_answers import read_rpc_answer, read_rpc_result, unreadable
from ._rpc_requests import encode_call, encode_download, encode_message, encode_operation, with_account
from ._rpc_results import FileReader, read_result

#: signal-cli's code for what its user should have asked otherwise.
_USER_ERROR: Final = -1

_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PATH: Final = re.compile(r"[A-Z]+ /.*", re.DOTALL)

#: Read no more than this of an answer that holds no file, in bytes.
_MAX_REFUSAL: Final = 64 * 1024


class SignalCliGateway(HttpGateway):
    """signal-cli's own daemon. See :class:`trio_signal.gateways.Gateway`.

    Requests do not wait for each other: the daemon runs them in parallel.

    Args:
        requests: how to reach it.
        account: whose messages; None for those of all accounts that it has.
        receive_mode: with which ``--receive-mode`` it was started.
        quiet_time: after how long without an event nothing is waiting any more, in seconds.
        max_message_size: the largest event that is taken, in bytes.
        now: tells the time in milliseconds since the epoch.
    """

    def __init__(
        self,
        requests: Requests,
        account: str | None,
        *,
        receive_mode: ReceiveMode,
        quiet_time: float,
        max_message_size: int,
        now: Callable[[], int],
    ) -> None:
        super().__init__(requests)
        self._account: Final = account
        self._keeps: Final = receive_mode != "on-start"
        self._quiet_time: Final = quiet_time
        self._max_message_size: Final = max_message_size
        self._now: Final = now

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[EventLink]:  # noqa: ARG002
        """See :meth:`HttpGateway.connect`. The link asks for events itself, when it is read.

        Nothing can be resumed: the daemon numbers nothing.
        """
        await trio.lowlevel.checkpoint()
        self._requests.phase = "waiting for the stream of events to begin"
        async with AsyncExitStack() as stack:
            yield EventLink(
                self._requests,
                self._account,
                stack,
                keeps=self._keeps,
                quiet_time=self._quiet_time,
                max_event=self._max_message_size,
                now=self._now,
            )

    async def check(self) -> None:
        """See :meth:`HttpGateway.check`. Whether it has the account shows when it is asked for something."""
        await trio.lowlevel.checkpoint()

    @property
    def health(self) -> str:
        """See :meth:`HttpGateway.health`."""
        return "/api/v1/check"

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        # A fresh one for each attempt, so that no answer can be taken for another's.
        request = os.urandom(16).hex()
        return self._requests.send(
            lambda: encode_message(message, message.account or self._account, request),
            lambda answer: read_rpc_answer(answer.status, answer.body, wait=answer.wait, request=request),
            limit=self._requests.send_timeout,
        )

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """See :meth:`trio_signal.gateways.Gateway.operate`."""
        await trio.lowlevel.checkpoint()
        method, params = encode_operation(operation, account or self._account)
        try:
            with certain_if_only_read(operation):
                return read_result(operation, await self._ask(method, params or None, limit))
        except RequestFailed as error:
            if may_be_half_done(operation) and _is_user_error(error.error):
                raise RequestFailed(error.error, Certainty.UNKNOWN) from error
            raise

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:
        """See :meth:`trio_signal.gateways.Gateway.call`."""
        await trio.lowlevel.checkpoint()
        if _PATH.fullmatch(what):
            raise Unsupported(
                f'{what[:100]!r} is for signal-cli-rest-api (gateway="rest"); signal-cli\'s own daemon takes '
                'the name of a JSON-RPC method, like "listDevices"'
            )
        if not _METHOD.fullmatch(what):
            raise ConfigurationError("what", f'{what[:100]!r} is no name of a method, like "listDevices"')
        return await self._ask(what, with_account(body, account or self._account), limit)

    @asynccontextmanager
    async def download(
        self, ref: AttachmentRef, *, account: str | None, limit: float
    ) -> AsyncGenerator[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""
        request = os.urandom(16).hex()
        call = encode_download(ref, account or self._account, request)

        def read_refusal(status: int, body: bytes) -> RequestFailed:
            return _refusal(status, body, request)

        async with open_download(self._requests, call, read_refusal, limit=limit) as answer:
            download = RpcDownload(answer, request)
            await download.begin()
            yield download

    async def _ask(self, method: str, params: object, limit: float) -> object:
        """Call a method and return its result. A checkpoint.

        Raises:
            RequestFailed: there is none.
        """
        request = os.urandom(16).hex()
        try:
            call = encode_call(method, params, request)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigurationError("body", f"it cannot be written as JSON: {error}") from None
        answer = await self._requests.ask(call, limit=limit)
        return read_rpc_result(answer.status, answer.body, request=request)


class RpcDownload:
    """A file that comes as base64 inside of a JSON answer. See :class:`trio_signal.gateways.Download`.

    Args:
        answer: the answer's bytes.
        request: the id of the request.

    """

    def __init__(self, answer: HttpDownload, request: str) -> None:
        self._answer: Final = answer
        self._request: Final = request
        self._reader: Final = FileReader()
        self._first = b""

    @property
    def size(self) -> None:
        """See :class:`trio_signal.gateways.Download`. signal-cli does not tell."""
        return

    def __aiter__(self) -> "RpcDownload":
        """Return itself: there is one stream of bytes."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece. A checkpoint; cancelled, nothing more can be read.

        Raises:
            StopAsyncIteration: that was all, and none is missing.
            RequestFailed: the rest does not come.
        """
        await trio.lowlevel.checkpoint()
        piece, self._first = self._first, b""
        while not piece and not self._reader.is_whole:
            piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def begin(self) -> None:
        """Wait until the file begins. A checkpoint.

        Raises:
            RequestFailed: the answer holds none.
        """
        await trio.lowlevel.checkpoint()
        while not self._reader.has_begun and self._reader.may_begin:
            piece = await anext(self._answer, None)
            if piece is None:
                break
            self._first = self._take(piece)
        if not self._reader.has_begun:
            raise _refusal(200, await self._whole(), self._request)

    async def _next(self) -> bytes:
        piece = await anext(self._answer, None)
        if piece is None:
            error = LinkLost("the answer ended in the middle of the file", reason=Reason.CONNECTION_LOST)
            raise RequestFailed(error, Certainty.NOT_SENT)
        return self._take(piece)

    def _take(self, piece: bytes) -> bytes:
        try:
            return self._reader.feed(piece)
        except RequestFailed as error:
            raise nothing_done(error) from error

    async def _whole(self) -> bytes:
        """Return an answer that holds no file, as far as it is of use. A checkpoint."""
        await trio.lowlevel.checkpoint()
        body = self._reader.head
        async for piece in self._answer:
            body += piece
            if len(body) > _MAX_REFUSAL:
                break
        return body


def _is_user_error(error: Exception) -> bool:
    return isinstance(error, AnswerError) and error.code == _USER_ERROR


def _refusal(status: int, body: bytes, request: str) -> RequestFailed:
    """Say why a file did not come."""
    error: Exception = unreadable().error
    try:
        read_rpc_result(status, body, request=request)
    except RequestFailed as failed:
        error = failed.error
    if isinstance(error, AnswerError) and _is_user_error(error):
        # The one thing that can be wrong with the request is that there is no such file.
        error = AnswerError(str(error), status=404, code=error.code, text=error.text)
    return RequestFailed(error, Certainty.NOT_SENT)
