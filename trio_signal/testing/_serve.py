"""The task behind each connection of the REST gateway, and how a connection is served at all."""

from collections import deque
from contextlib import suppress

import trio

from ._answers import SendAnswer
from ._cli_serve import DaemonConversation
from ._conversation import Conversation
from ._core import Core
from ._http import BadRequest
from ._records import HttpRequest, SendRequest
from ._rest_operations import operate
from ._rest_sends import Sending, parse_sending, sending_of
from ._routes import Upgrade, is_handshake, path_of, route
from ._streams import Transport


async def serve(core: Core, transport: Transport) -> None:
    """Serve one connection until it ends. Whatever the client does ends this connection and nothing else."""
    link = core.new_link(transport)
    if not core.door.is_open:  # It closed before this connection was accepted.
        link.end()
    kind = DaemonConversation if core.config.is_signal_cli else RestConversation
    try:
        await trio.lowlevel.checkpoint()
        # The client is gone, or a fault ended the link: either way the conversation is over.
        with link.scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await kind(core, link).run()
    finally:
        del core.links[link]
        link.end()
        core.records.changed()


class RestConversation(Conversation):
    """A connection to signal-cli-rest-api."""

    def _is_handshake(self, request: HttpRequest) -> bool:
        return is_handshake(request)

    def _refusal(self, error: BadRequest) -> bytes:
        return error.render()

    async def _answer(self, request: HttpRequest) -> bool:
        sending = sending_of(request.method, path_of(self._core, request))
        if sending is not None and (sending.kind == "send" or not self._scripts(request)):
            return await self._send_message(request, sending)
        request.body = await self._reader.body()
        return await self._answer_other(request)

    async def _answer_other(self, request: HttpRequest) -> bool:
        if scripts := self._scripts(request):
            return await self._give(scripts.popleft(), request)
        answer = operate(self._core, request, path_of(self._core, request)) or route(self._core, request)
        if isinstance(answer, Upgrade):
            await self._receive(request, answer)
            return False
        return await self._respond(answer, request)

    def _scripts(self, request: HttpRequest) -> deque[SendAnswer] | None:
        return self._core.other_scripts.get(f"{request.method} {request.path}")

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

    async def _send_message(self, request: HttpRequest, sending: Sending) -> bool:
        scripts = self._core.scripts
        if scripts and scripts[0].kind == "cut_body":
            await self._reader.body_up_to(scripts.popleft().status)
            return False
        request.body = await self._reader.body()
        parsed, refusal = parse_sending(request.body, sending)
        send = SendRequest(
            body=parsed or {},
            headers=request.headers,
            time=trio.current_time(),
            outcome="invalid",
            kind=sending.kind,
            path_number=sending.number,
        )
        self._core.records.received.append(send)
        self._core.records.changed()
        if refusal is not None:
            return await self._conclude([send], refusal, request)
        answer = self._core.next_answer(send)
        send.outcome = answer.kind
        return await self._through_daemon(answer, send, request, sending)

    async def _through_daemon(
        self, answer: SendAnswer, send: SendRequest, request: HttpRequest, sending: Sending
    ) -> bool:
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
            response = sending.response(
                answer, send.timestamp or 0, send.number, array=self._core.config.answers_array
            )
            return await self._conclude([send], response, request)

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
