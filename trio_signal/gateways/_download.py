"""Files that come over HTTP, piece by piece, on a connection of their own."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import httpx
import trio

from .._errors import Certainty, GatewayError, LinkLost, Reason, RequestFailed, Unsupported
from ._calls import Call
from ._operation_answers import is_success, nothing_done
from ._requests import Requests

#: Read no more of a refusal than this, in bytes.
_MAX_REFUSAL: Final = 64 * 1024

#: Closing needs no peer, so this is never reached, in seconds.
_CLOSE_LIMIT: Final = 1.0

#: Says what a status and a body mean that are no success.
ReadRefusal = Callable[[int, bytes], RequestFailed | Unsupported]


class HttpDownload:
    """A file that is coming in. See :class:`trio_signal.gateways.Download`.

    Args:
        requests: knows what is behind an error.
        response: what it comes with.
        pieces: its bytes.
        limit: how long the gateway may say nothing, in seconds.

    Attributes:
        size: how many bytes it will be; None where the gateway does not tell.
    """

    def __init__(
        self, requests: Requests, response: httpx.Response, pieces: AsyncIterator[bytes], limit: float
    ) -> None:
        self.size: Final = _size(response)
        self._requests: Final = requests
        self._pieces: Final = pieces
        self._limit: Final = limit

    def __aiter__(self) -> "HttpDownload":
        """Return itself: there is one stream of bytes."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece. A checkpoint; cancelled, nothing more can be read.

        Raises:
            StopAsyncIteration: that was all, and none is missing.
            RequestFailed: the rest does not come.
        """
        try:
            with trio.fail_after(self._limit):
                return await anext(self._pieces)
        except trio.TooSlowError:
            raise _silent(self._limit) from None
        except (httpx.HTTPError, GatewayError) as error:
            raise _lost(self._requests, error) from error


@asynccontextmanager
async def open_download(
    requests: Requests,
    call: Call,
    read_refusal: ReadRefusal,
    *,
    limit: float,
) -> AsyncGenerator[HttpDownload]:
    """Ask for a file and give it as soon as the response's head has come.

    A checkpoint; leaving the block closes the connection, whatever has come by then.

    Args:
        requests: how to reach the gateway.
        call: what to ask for.
        read_refusal: says what an answer means that is no success.
        limit: how long the gateway may say nothing, in seconds.

    Raises:
        RequestFailed: it does not come. Nothing was done.
        Unsupported: the gateway has no files to give.
    """
    async with AsyncExitStack() as stack:
        response = await _answered(requests, call, stack, limit)
        pieces = await stack.enter_async_context(_pieces(response))
        download = HttpDownload(requests, response, pieces, limit)
        if response.status_code != 200:
            raise _refusal(read_refusal, response.status_code, await _beginning(download))
        if encoding := response.headers.get("content-encoding"):
            error = LinkLost(f"the file came packed ({encoding!r:.50}), though it was asked for as it is")
            raise RequestFailed(error, Certainty.NOT_SENT)
        yield download


async def _answered(requests: Requests, call: Call, stack: AsyncExitStack, limit: float) -> httpx.Response:
    """Wait for the response's head. A checkpoint."""
    try:
        with trio.fail_after(limit):
            return await stack.enter_async_context(requests.stream(call, lambda _: None))
    except trio.TooSlowError:
        raise _silent(limit) from None
    except (httpx.HTTPError, GatewayError) as error:
        raise _lost(requests, error) from error


@asynccontextmanager
async def _pieces(response: httpx.Response) -> AsyncGenerator[AsyncIterator[bytes]]:
    """Give the iterator over the body, and see that nothing of it is left over."""
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        # httpx nests generators. None may be left in its middle; with the connection closed the end is near.
        with (
            trio.move_on_after(_CLOSE_LIMIT, shield=True),
            suppress(httpx.HTTPError, httpx.StreamError),
        ):
            await response.aclose()
            async for _ in pieces:
                pass


async def _beginning(download: HttpDownload) -> bytes:
    """Return the words of a refusal, as far as they are of use. A checkpoint."""
    body = bytearray()
    async for piece in download:
        body += piece
        if len(body) > _MAX_REFUSAL:
            break
    return bytes(body)


def _size(response: httpx.Response) -> int | None:
    size = response.headers.get("content-length")
    return None if size is None else int(size)


def _refusal(read_refusal: ReadRefusal, status: int, body: bytes) -> RequestFailed | Unsupported:
    if is_success(status):
        return RequestFailed(LinkLost(f"HTTP {status} brings no file"), Certainty.NOT_SENT)
    error = read_refusal(status, body)
    return nothing_done(error) if isinstance(error, RequestFailed) else error


def _silent(limit: float) -> RequestFailed:
    error = LinkLost(f"the gateway said nothing for {limit:g} s", reason=Reason.NO_ANSWER)
    return RequestFailed(error, Certainty.NOT_SENT)


def _lost(requests: Requests, error: Exception) -> RequestFailed:
    cause = requests.cause(error)
    if not isinstance(cause, GatewayError):
        cause = LinkLost(f"the file did not come whole: {cause}", reason=Reason.CONNECTION_LOST)
    return RequestFailed(cause, Certainty.NOT_SENT)
