"""Files that come over HTTP, piece by piece, on a connection of their own."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from .._errors import Certainty, GatewayError, LinkLost, Reason, RequestFailed, Unsupported
from .._http import Response, Unanswered
from ._calls import Call
from ._operation_answers import is_success, nothing_done
from ._requests import Requests

#: Read no more of a refusal than this, in bytes.
_MAX_REFUSAL: Final = 64 * 1024

#: Says what a status and a body mean that are no success.
ReadRefusal = Callable[[int, bytes], RequestFailed | Unsupported]


class HttpDownload:
    """A file that is coming in. See :class:`trio_signal.gateways.Download`.

    Args:
        response: what it comes with.
        limit: how long the gateway may say nothing, in seconds.

    Attributes:
        size: how many bytes it will be; None where the gateway does not tell.
    """

    def __init__(self, response: Response, limit: float) -> None:
        self.size: Final = _size(response)
        self._response: Final = response
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
                return await anext(self._response)
        except trio.TooSlowError:
            raise _silent(self._limit) from None
        except (Unanswered, GatewayError) as error:
            raise _lost(error) from error


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
        download = HttpDownload(response, limit)
        if response.status != 200:
            raise _refusal(read_refusal, response.status, await _beginning(download))
        if encoding := response.headers.get("content-encoding"):
            error = LinkLost(f"the file came packed ({encoding!r:.50}), though it was asked for as it is")
            raise RequestFailed(error, Certainty.NOT_SENT)
        yield download


async def _answered(requests: Requests, call: Call, stack: AsyncExitStack, limit: float) -> Response:
    """Wait for the response's head. A checkpoint."""
    try:
        with trio.fail_after(limit):
            return await stack.enter_async_context(requests.stream(call, lambda _: None))
    except trio.TooSlowError:
        raise _silent(limit) from None
    except (Unanswered, GatewayError) as error:
        raise _lost(error) from error


async def _beginning(download: HttpDownload) -> bytes:
    """Return the words of a refusal, as far as they are of use. A checkpoint."""
    body = bytearray()
    async for piece in download:
        body += piece
        if len(body) > _MAX_REFUSAL:
            break
    return bytes(body)


def _size(response: Response) -> int | None:
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


def _lost(error: Unanswered | GatewayError) -> RequestFailed:
    if isinstance(error, Unanswered):
        error = LinkLost(f"the file did not come whole: {error}", reason=Reason.CONNECTION_LOST)
    return RequestFailed(error, Certainty.NOT_SENT)
