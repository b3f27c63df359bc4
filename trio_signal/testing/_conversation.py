"""The task behind each connection, as far as it is the same on both kinds of gateway."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import trio

from ._answers import SendAnswer
from ._core import Core
from ._dial_faults import DialFault
from ._http import BadRequest, Rendered, RequestReader
from ._link import Link
from ._records import HttpRequest, SendRequest

_TLS_DEADLINE = 10.0
_GARBAGE = b"220 mail.example ESMTP \x00\xff\r\n"


class Conversation(ABC):
    """One request after the other, and at the end of some a client that receives."""

    def __init__(self, core: Core, link: Link) -> None:
        self._core = core
        self._link = link
        self._reader = RequestReader(link.stream)

    async def run(self) -> None:
        """Serve the connection until it ends. A checkpoint.

        Raises:
            trio.BrokenResourceError: the client is gone.
            trio.ClosedResourceError: the link was ended meanwhile.
        """
        if self._core.dial_faults.at_connect() is not None:
            await self._link.drain()
            return
        if not await self._start_tls():
            return
        try:
            while await self._exchange():
                pass
        except BadRequest as error:
            await self._link.send(self._refusal(error))

    @abstractmethod
    def _is_handshake(self, request: HttpRequest) -> bool:
        """Whether ``request`` asks for what messages are received on."""

    @abstractmethod
    def _refusal(self, error: BadRequest) -> bytes:
        """What is answered to what is no HTTP."""

    @abstractmethod
    async def _answer(self, request: HttpRequest) -> bool:
        """Read the body of ``request`` and answer; False when the connection is to end."""

    async def _start_tls(self) -> bool:
        context = self._core.config.ssl_context
        if context is None:
            await trio.lowlevel.checkpoint()
            return True
        tls = trio.SSLStream(self._link.transport, context, server_side=True, https_compatible=True)
        self._link.stream = tls
        self._reader = RequestReader(tls)
        with trio.move_on_after(_TLS_DEADLINE):
            await tls.do_handshake()
            return True
        return False

    async def _exchange(self) -> bool:
        """Serve one request; False when the connection is to end."""
        request = await self._reader.head()
        if request is None:
            return False
        core = self._core
        core.records.requests.append(request)
        core.records.changed()
        fault = core.dial_faults.at_request(handshake=self._is_handshake(request))
        if fault is not None:
            return await self._suffer(fault)
        self._link.is_busy = True
        going_on = await self._answer(request)
        self._link.is_busy = False
        core.records.changed()
        return going_on

    async def _suffer(self, fault: DialFault) -> bool:
        await trio.lowlevel.checkpoint()
        match fault.kind:
            case "silence":
                await self._link.drain()
            case "garbage":
                await self._link.send(_GARBAGE)
            case "reject":
                await self._link.send(fault.response.render(self._core.now(), close=True))
            case _:  # hang up
                pass
        return False

    async def _misbehave(self, answer: SendAnswer, status: bytes = b"201 Created") -> bool:
        """Do what ``answer`` says if that is no proper answer; True when it did: the connection is over."""
        await trio.lowlevel.checkpoint()
        match answer.kind:
            case "hang":
                await self._link.drain()
            case "lost" | "cut_body":
                pass
            case "garbage" | "raw":
                await self._link.send(answer.data)
            case "endless":
                await self._endless(answer, status)
            case _:
                return False
        return True

    async def _endless(self, answer: SendAnswer, status: bytes) -> None:
        await self._link.send(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        while True:
            await self._link.send(b"%x\r\n%b\r\n" % (len(answer.data), answer.data))
            await trio.sleep(answer.every)

    async def _conclude(self, sends: Sequence[SendRequest], response: Rendered, request: HttpRequest) -> bool:
        # Before it is written, and taken back should that fail: who has read the answer must find it noted.
        written = False
        for send in sends:
            send.answered = True
        try:
            going_on = await self._respond(response, request)
            written = True
            return going_on
        finally:
            for send in sends:
                send.answered = written
            self._core.records.changed()

    async def _respond(self, response: Rendered, request: HttpRequest) -> bool:
        keep = self._reader.keep_alive
        await self._link.send(
            response.render(self._core.now(), close=not keep, head_only=request.method == "HEAD")
        )
        return keep
