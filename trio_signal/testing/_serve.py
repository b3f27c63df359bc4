"""The task behind each connection: one request after the other, and a WebSocket at the end of some."""

from contextlib import suppress

import trio

from ._answers import SendAnswer
from ._core import Core
from ._dial_faults import DialFault
from ._http import BadRequest, RequestReader, Response
from ._link import Link
from ._records import HttpRequest, SendRequest
from ._routes import Upgrade, is_handshake, is_send, route
from ._sends import parse_send, refusal_of
from ._streams import Transport

_TLS_DEADLINE = 10.0
_GARBAGE = b"220 mail.example ESMTP \x00\xff\r\n"


async def serve(core: Core, transport: Transport) -> None:
    """Serve one connection until it ends. Whatever the client does ends this connection and nothing else."""
    link = core.new_link(transport)
    try:
        await trio.lowlevel.checkpoint()
        # The client is gone, or a fault ended the link: either way the conversation is over.
        with link.scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await _Conversation(core, link).run()
    finally:
        del core.links[link]
        link.end()


class _Conversation:
    def __init__(self, core: Core, link: Link) -> None:
        self._core = core
        self._link = link
        self._reader = RequestReader(link.stream)

    async def run(self) -> None:
        if self._core.dial_faults.at_connect() is not None:
            await self._link.drain()
            return
        if not await self._start_tls():
            return
        try:
            while await self._exchange():
                pass
        except BadRequest as error:
            await self._link.send(error.render())

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
        fault = core.dial_faults.at_request(handshake=is_handshake(request))
        if fault is not None:
            return await self._suffer(fault)
        if is_send(core, request):
            return await self._send_message(request)
        request.body = await self._reader.body()
        return await self._answer_other(request)

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

    async def _answer_other(self, request: HttpRequest) -> bool:
        scripts = self._core.other_scripts.get(f"{request.method} {request.path}")
        if scripts:
            return await self._give(scripts.popleft(), request)
        answer = route(self._core, request)
        if isinstance(answer, Upgrade):
            await self._receive(request, answer)
            return False
        return await self._respond(answer, request)

    async def _receive(self, request: HttpRequest, upgrade: Upgrade) -> None:
        # Consumer first, answer second: a test that has seen its client connected may deliver at once. The
        # real gateway does it the other way round and loses what comes between; so does the fake under
        # lose_bursts.
        answer = upgrade.render()
        if self._core.config.lose_bursts:
            await self._link.send(answer)
        sock = self._core.new_socket(self._link, upgrade.account, request.headers)
        if not self._core.config.lose_bursts:
            await self._link.send(answer)
        await sock.run(self._reader.rest)

    async def _send_message(self, request: HttpRequest) -> bool:
        scripts = self._core.scripts
        if scripts and scripts[0].kind == "cut_body":
            await self._reader.body_up_to(scripts.popleft().status)
            return False
        request.body = await self._reader.body()
        body = parse_send(request.body)
        send = SendRequest(
            body=body or {}, headers=request.headers, time=trio.current_time(), outcome="invalid"
        )
        self._core.records.received.append(send)
        self._core.records.changed()
        if (refusal := refusal_of(body)) is not None:
            return await self._conclude(send, refusal, request)
        answer = self._core.next_answer(send)
        send.outcome = answer.kind
        return await self._through_daemon(answer, send, request)

    async def _through_daemon(self, answer: SendAnswer, send: SendRequest, request: HttpRequest) -> bool:
        if answer.sends:
            send.timestamp = self._core.next_timestamp()
        with self._core.flight(send) as lost:
            if answer.kind != "daemon_down":
                with trio.move_on_after(self._core.config.answer_delay + answer.delay):
                    await lost.wait()
            if lost.is_set():  # signal-cli went away with the request: the gateway never answers (measured).
                await self._link.drain()
                return False
            if await self._misbehave(answer):
                return False
            response = answer.response(
                send.timestamp or 0, send.number, array=self._core.config.answers_array
            )
            return await self._conclude(send, response, request)

    async def _conclude(self, send: SendRequest, response: Response, request: HttpRequest) -> bool:
        # Before it is written, and taken back should that fail: who has read the answer must find it noted.
        written, send.answered = False, True
        try:
            going_on = await self._respond(response, request)
            written = True
            return going_on
        finally:
            send.answered = written
            self._core.records.changed()

    async def _give(self, answer: SendAnswer, request: HttpRequest) -> bool:
        """Give a scripted answer to something else than a send."""
        await trio.sleep(answer.delay)
        if await self._misbehave(answer):
            return False
        core = self._core
        response = answer.response(
            core.next_timestamp(), core.config.account, array=core.config.answers_array
        )
        return await self._respond(response, request)

    async def _misbehave(self, answer: SendAnswer) -> bool:
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
                await self._endless(answer)
            case _:
                return False
        return True

    async def _endless(self, answer: SendAnswer) -> None:
        await self._link.send(
            b"HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        while True:
            await self._link.send(b"%x\r\n%b\r\n" % (len(answer.data), answer.data))
            await trio.sleep(answer.every)

    async def _respond(self, response: Response, request: HttpRequest) -> bool:
        keep = self._reader.keep_alive
        await self._link.send(
            response.render(self._core.now(), close=not keep, head_only=request.method == "HEAD")
        )
        return keep
