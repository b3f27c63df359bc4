"""Streams and requests to one address, with its credentials."""

import math
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import trio

from .._connections import Answer
from .._credentials import Credentials
from .._dial import Address, Connect, open_stream
from .._errors import (
    TRANSIENT_STATUSES,
    AnswerError,
    Certainty,
    GatewayError,
    LinkLost,
    RequestFailed,
    Unsupported,
    forget_frames,
)
from .._http import Response, Unanswered, open_response
from .._outcomes import Failed
from . import SendResult
from ._calls import Call, LocalFileError
from ._clients import (
    FIRST_SHARE,
    Client,
    ForeignClient,
    Headers,
    OwnClient,
    RequestWriter,
    cause_of,
    certainty_of,
)
from ._look_ups import LOOKUP_LIMIT, LookUps

#: Read no more of an answer to a send or a look-up than this, in bytes.
_MAX_ANSWER: Final = 1024 * 1024

#: The same for operations: an account may be in a thousand groups.
_MAX_RESULT: Final = 32 * 1024 * 1024

#: How a proxy answers for a gateway that is not there, and for one whose answer it has lost.
_NOT_THERE: Final = frozenset({502, 503, 504})
_LOST: Final = frozenset({502, 504})

#: The time limit of the look-up that the present task makes. Others connect at the same time, without one.
_LOOKUP: Final[ContextVar[trio.CancelScope | None]] = ContextVar("_LOOKUP", default=None)

#: Says what an answer to a send means.
ReadAnswer = Callable[[Answer], SendResult]


class Requests:
    """Streams and HTTP requests to one address, with its credentials.

    Args:
        address: where it is.
        credentials: what goes with each request.
        connect: opens TCP.
        ssl_context: for https; the system's authorities by default.
        http_client: an ``httpx.AsyncClient`` or anything of its shape; none is needed.
        send_timeout: how long a send may take, in seconds (contract O11).
        max_in_flight: how many sends may be under way at once.

    Attributes:
        address: where it is.
        credentials: what goes with each request.
        max_in_flight: how many sends may be under way at once.
        send_timeout: how long a send may take, in seconds (contract O11).
        phase: what connecting is busy with.
        look_ups: what the gateway says of itself.
        lost_answers: see :meth:`trio_signal.gateways.Gateway.lost_answers`.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        connect: Connect,
        ssl_context: ssl.SSLContext | None,
        http_client: Any | None,
        send_timeout: float,
        max_in_flight: int = 1,
    ) -> None:
        self.address: Final = address
        self.credentials: Final = credentials
        self.max_in_flight: Final = max_in_flight
        self.send_timeout: Final = send_timeout
        self.phase = "connecting"
        self._connect = connect
        self._ssl_context = ssl_context
        self._writer = RequestWriter(address)
        self._client: Client = (
            OwnClient(self._writer, self.open_stream, most_idle=max_in_flight)
            if http_client is None
            else ForeignClient(http_client, address)
        )
        self.look_ups: Final = LookUps(address, self.fetch)
        self.lost_answers = 0
        self._is_closed = False

    async def begin(self) -> None:
        """Begin an attempt: nothing of the last one is used again, a token is asked for anew. A checkpoint.

        Raises:
            LinkLost: the token callable failed.
        """
        self.phase = "asking for a token"
        await self._client.renew()
        # A callable is asked for each attempt; a token that has expired meanwhile would only be refused.
        await self.credentials.renew()

    async def handshake_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what goes with a WebSocket handshake. A checkpoint."""
        headers = await self.credentials.headers()
        return [(name.encode(), value.encode("latin-1")) for name, value in headers]

    async def open_stream(self) -> trio.abc.Stream:
        """Open TCP, and TLS if the address says so. A checkpoint; see :func:`open_stream`."""
        scope, phase = _LOOKUP.get(), self.phase
        if scope is not None:
            # A look-up's limit is for an answer on a connection that stands: one that does not come about is
            # no gateway that hides something, and the attempt's own deadline deals with it.
            scope.deadline, self.phase = math.inf, "connecting"
        stream = await open_stream(self.address, self._connect, self._ssl_context, on_tls=self._note_tls)
        if scope is not None:
            scope.deadline, self.phase = trio.current_time() + LOOKUP_LIMIT, phase
        return stream

    async def fetch(self, path: str) -> Answer | None:
        """Return the answer to a look-up; None if there was none in time. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
        """
        self.phase = f"asking for {path}"
        answer: Answer | None = None
        handled = sys.exception()
        with trio.CancelScope(deadline=trio.current_time() + LOOKUP_LIMIT) as scope:
            token = _LOOKUP.set(scope)
            try:
                headers = await self.credentials.headers()
                answer = await self._client.request(
                    Call("GET", path), headers, limit=self.send_timeout, max_answer=_MAX_ANSWER
                )
            except GatewayError:
                raise
            except Exception as error:
                cause = cause_of(error, self.address, handled)
                raise (cause if isinstance(cause, GatewayError) else LinkLost(f"{path}: {cause}")) from error
            finally:
                _LOOKUP.reset(token)
        # A 500 is the gateway's own trouble with that one question; the others are a proxy's and will pass.
        if answer is not None and answer.status in TRANSIENT_STATUSES - {500}:
            raise LinkLost(
                f"{self.address} answered {path} with HTTP {answer.status}",
                status=answer.status,
                retry_after=answer.wait,
            )
        return answer

    async def send(self, write: Callable[[], Call], read: ReadAnswer, *, limit: float) -> SendResult:
        """Attempt one message. See :meth:`trio_signal.gateways.Gateway.send`.

        Args:
            write: makes the request; raises a :class:`SignalError` for what this gateway cannot send.
            read: says what an answer means.
            limit: how long it may take, in seconds. The caller sees to that; connecting, and asking for
                credentials, get less, so that it is certain that nothing was sent if they take too long.
        """
        handled, is_over = sys.exception(), False
        try:
            headers = self.credentials.known
            if headers is None:
                began = trio.current_time()
                headers = await self._new_headers(FIRST_SHARE * limit)
                limit -= trio.current_time() - began
            call = write()
            body = call.body
            if type(body) is not bytes and isinstance(body, AsyncGenerator):
                answer = await self._send_pieces(call, body, headers, limit)
            else:
                answer = await self._client.request(call, headers, limit=limit, max_answer=_MAX_ANSWER)
            is_over = answer.status not in _LOST
        except (LocalFileError, Unsupported) as error:
            is_over = True
            # The end of the JSON never left us, and the gateway acts on nothing less.
            await trio.lowlevel.checkpoint()
            return SendResult(Failed(error, Certainty.NOT_SENT))
        # Any client of httpx's shape may be given, with errors of its own.
        except Exception as error:  # noqa: BLE001
            is_over = _loses_nothing(error)
            await trio.lowlevel.checkpoint()
            return self._failed(error, handled)
        finally:
            self.lost_answers += not is_over
        return read(answer)

    async def ask_health(self, path: str) -> None:
        """See :meth:`trio_signal.gateways.Gateway.ask_health`.

        Args:
            path: what is asked for. Any answer will do but that of a proxy for who is not there.
        """
        handled, limit, answer = sys.exception(), LOOKUP_LIMIT, None
        with trio.move_on_after(limit):
            try:
                answer = await self._client.request(
                    Call("GET", path), await self.credentials.headers(), limit=limit, max_answer=_MAX_ANSWER
                )
            except AnswerError:
                # Too much of one is one.
                await trio.lowlevel.checkpoint()
            except Exception as error:
                cause = self._told(error, handled)
                raise LinkLost(f"{self.address} did not answer {path}: {cause}") from error
            if answer is not None and answer.status in _NOT_THERE:
                raise LinkLost(
                    f"{self.address} answered {path} with HTTP {answer.status}",
                    status=answer.status,
                    retry_after=answer.wait,
                )
            return
        raise LinkLost(f"{self.address} did not answer {path} within {limit:g} s")

    async def ask(self, call: Call, *, limit: float) -> Answer:
        """Make one request of an operation and return the answer, whatever it is. A checkpoint.

        Raises:
            RequestFailed: there was none within ``limit`` seconds.
        """
        handled, headers, is_over = sys.exception(), None, False
        if self._is_closed:
            raise RequestFailed(LinkLost("the client has been closed"), Certainty.NOT_SENT)
        deadline = trio.current_time() + limit
        try:
            with trio.move_on_at(deadline):
                headers = await self.credentials.headers()
                left = deadline - trio.current_time()
                answer = await self._client.request(call, headers, limit=left, max_answer=_MAX_RESULT)
                is_over = answer.status not in _LOST
                return answer
        except Exception as error:
            is_over = _loses_nothing(error)
            raise RequestFailed(self._told(error, handled), certainty_of(error)) from error
        finally:
            self.lost_answers += headers is not None and not is_over
        certainty = Certainty.NOT_SENT if headers is None else Certainty.UNKNOWN
        raise RequestFailed(LinkLost(f"the gateway did not answer within {limit:g} s"), certainty)

    @asynccontextmanager
    async def stream(
        self,
        call: Call,
        on_bytes: Callable[[int], None],
        on_dialled: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Response]:
        """Make a request on a connection of its own and give the response as soon as its head has come.

        A checkpoint; leaving the block closes the connection at once. It does not go through the caller's
        HTTP client: whatever is cancelled in a pool that lives on leaks there. No time limit.

        Args:
            call: the request.
            on_bytes: told how many bytes have come, whenever some have; 0 at the end of the connection.
            on_dialled: called when the connection stands, before the request is written.

        Raises:
            GatewayError: there is no connection, or the token callable failed.
            Unanswered: no response came; reading it raises the same.
        """
        request = self._writer.write(call, await self.credentials.headers())

        async def dial() -> trio.abc.Stream:
            stream = await self.open_stream()
            self.phase = "waiting for the response's head"
            on_dialled()
            return stream

        async with open_response(dial, request, on_bytes) as response:
            yield response

    async def aclose(self) -> None:
        """Close what is open between sends; nothing is asked any more. A checkpoint."""
        self._is_closed = True
        await self._client.aclose()

    def _note_tls(self) -> None:
        self.phase = "in the TLS handshake"

    async def _new_headers(self, limit: float) -> Headers:
        """Ask for the headers to send. A checkpoint.

        Raises:
            LinkLost: the token callable failed, or took too long.
        """
        with trio.move_on_after(limit):
            return await self.credentials.headers()
        raise LinkLost(f"the token callable gave nothing within {limit:g} s")

    async def _send_pieces(
        self, call: Call, pieces: AsyncGenerator[bytes], headers: Headers, limit: float
    ) -> Answer:
        # Closed here and now if it is not read to its end, not whenever the garbage collector comes by.
        async with aclosing(pieces):
            return await self._client.request(call, headers, limit=limit, max_answer=_MAX_ANSWER)

    def _failed(self, error: Exception, handled: BaseException | None) -> SendResult:
        """Say what an error means that a send ended with."""
        certainty, told = certainty_of(error), self._told(error, handled)
        # It is kept for as long as the outcome is.
        forget_frames(told, handled=handled)
        return SendResult(Failed(told, certainty), retry=certainty is Certainty.NOT_SENT)

    def _told(self, error: Exception, handled: BaseException | None) -> Exception:
        """Return what the application is told of an error."""
        cause = cause_of(error, self.address, handled)
        return cause.as_link_lost() if isinstance(cause, Unanswered) else cause


def _loses_nothing(error: Exception) -> bool:
    """Say whether an error lost no answer: none could come, or one did, of which there was too much."""
    return isinstance(error, AnswerError) or certainty_of(error) is Certainty.NOT_SENT
