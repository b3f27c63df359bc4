"""The task behind each connection to signal-cli's own daemon: JSON-RPC and Server-Sent Events."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import trio

from ._answers import SendAnswer, ok
from ._conversation import Conversation
from ._http import BadRequest, Rendered, Response
from ._java_http import JavaResponse, bad_request, server_refusal, stream_head
from ._records import HttpRequest, SendRequest
from ._routes import barrier, inside
from ._rpc import (
    Params,
    RpcBatch,
    RpcCall,
    RpcError,
    call_id,
    encode,
    failure,
    object_of,
    params_of,
    read_batch,
    read_call,
    success,
)
from ._rpc_methods import needed_account, perform
from ._rpc_sends import SENDS, check_send, results_of, rpc_result_of

RPC, EVENTS, CHECK = "/api/v1/rpc", "/api/v1/events", "/api/v1/check"

_TOO_MUCH = 30_000_000
"""Bytes of a body at which the daemon resets the connection (measured)."""
_MEMORY_PORT = 8080
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_A_SEND = re.compile(rb'"method"\s*:\s*"(send|sendReaction|remoteDelete)"')
_ANY_METHOD = re.compile(rb'"method"\s*:\s*"')

_Doing = Callable[[], Awaitable[Any]]


@dataclass
class _Work:
    """One HTTP request full of calls, while it is worked on."""

    scope: trio.CancelScope
    headers: Mapping[str, str]
    replies: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    """When each was ready, its place in the batch, and what it is."""
    sends: list[SendRequest] = field(default_factory=list)
    instead: SendAnswer | Rendered | None = None
    """What is done instead of answering."""

    def reply(self, place: int, reply: dict[str, Any]) -> None:
        """Note a reply."""
        self.replies.append((trio.current_time(), place, reply))

    def response(self, batch: RpcBatch) -> JavaResponse:
        """Build the answer: replies in the order in which they were ready."""
        replies = [reply for _, _, reply in sorted(self.replies, key=lambda each: each[:2])]
        if not replies:
            return JavaResponse(status=HTTPStatus.CREATED)
        return JavaResponse(body=encode(replies if batch.is_list else replies[0]))

    def interrupt(self, instead: SendAnswer | Rendered) -> None:
        """Have the whole request answered in another way; the first one counts."""
        if self.instead is None:
            self.instead = instead
        self.scope.cancel()


class DaemonConversation(Conversation):
    """A connection to signal-cli's daemon."""

    def _is_handshake(self, request: HttpRequest) -> bool:
        return inside(self._core, request) == EVENTS

    def _refusal(self, error: BadRequest) -> bytes:
        return bad_request(error)

    async def _answer(self, request: HttpRequest) -> bool:
        if await self._is_cut(request):
            return False
        request.body = await self._reader.body()
        scripts = self._core.other_scripts.get(f"{request.method} {request.path}")
        if scripts:
            return await self._give(scripts.popleft(), request)
        if (stopped := barrier(self._core, request)) is not None:
            return await self._respond(stopped, request)
        path = inside(self._core, request)
        if _BAD_ESCAPE.search(request.target):
            await self._link.send(server_refusal(HTTPStatus.BAD_REQUEST, "URISyntaxException thrown"))
            return False
        if not path.startswith((RPC, EVENTS, CHECK)):
            await self._link.send(server_refusal(HTTPStatus.NOT_FOUND, "No context found for request"))
            return False
        return await self._handle(path, request)

    async def _handle(self, path: str, request: HttpRequest) -> bool:
        if self._core.config.checks_host and not self._is_our_host(request.headers.get("host", "")):
            return await self._respond(JavaResponse(status=HTTPStatus.MISDIRECTED_REQUEST), request)
        if path not in {RPC, EVENTS, CHECK}:
            return await self._respond(JavaResponse(status=HTTPStatus.NOT_FOUND), request)
        if request.method != ("POST" if path == RPC else "GET"):
            return await self._respond(JavaResponse(status=HTTPStatus.METHOD_NOT_ALLOWED), request)
        if path == EVENTS:
            return await self._open_stream(request)
        if path == RPC:
            return await self._call_methods(request)
        return await self._respond(JavaResponse(), request)

    def _is_our_host(self, host: str) -> bool:
        ours = self._core.config.host
        names = ("127.0.0.1", "localhost", "[::1]", f"[{ours}]" if ":" in ours else ours)
        return host.lower() in {f"{name}:{self._core.door.port or _MEMORY_PORT}" for name in names}

    async def _is_cut(self, request: HttpRequest) -> bool:
        """Whether the body is to be cut, and has been."""
        scripts = self._core.scripts
        await trio.lowlevel.checkpoint()
        if not scripts or scripts[0].kind != "cut_body" or inside(self._core, request) != RPC:
            return False
        start = await self._reader.body_up_to(scripts[0].status)
        if _ANY_METHOD.search(start) and not _A_SEND.search(start):
            return False
        scripts.popleft()
        return True

    async def _give(self, answer: SendAnswer, request: HttpRequest) -> bool:
        """Give what was scripted for a path."""
        await trio.sleep(answer.delay)
        if await self._misbehave(answer, b"200 OK"):
            return False
        return await self._respond(answer.response(0, self._core.config.account, array=False), request)

    # --- events ---

    async def _open_stream(self, request: HttpRequest) -> bool:
        account = _account_in(request)
        core = self._core
        if account and account not in core.config.accounts:
            return await self._respond(JavaResponse(status=HTTPStatus.BAD_REQUEST), request)
        head = stream_head(core.now())
        stream = core.new_stream(self._link, account, request.headers)
        if core.config.holds_headers_back:
            stream.hold_back(head)
        else:
            await self._link.send(head)
        core.office.go_on()
        await stream.run(b"")
        return False

    # --- JSON-RPC ---

    async def _call_methods(self, request: HttpRequest) -> bool:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return await self._respond(JavaResponse(status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE), request)
        if len(request.body) >= _TOO_MUCH:
            self._link.end(reset=True)
            await trio.lowlevel.checkpoint()
            return False
        try:
            batch = read_batch(request.body)
        except RpcError as error:
            return await self._respond(JavaResponse(body=encode(failure(None, error))), request)
        work = await self._do_all(batch, request)
        if isinstance(work.instead, SendAnswer):
            await self._misbehave(work.instead, b"200 OK")
            return False
        return await self._conclude(work.sends, work.instead or work.response(batch), request)

    async def _do_all(self, batch: RpcBatch, request: HttpRequest) -> _Work:
        """Carry out all calls at the same time, as the daemon does."""
        async with trio.open_nursery() as nursery:
            work = _Work(nursery.cancel_scope, request.headers)
            for place, item in enumerate(batch.items):
                self._begin(place, item, work, nursery)
        return work

    def _begin(self, place: int, item: object, work: _Work, nursery: trio.Nursery) -> None:
        try:
            call = read_call(item)
        except RpcError as error:
            work.reply(place, failure(call_id(item), error))
            return
        if call is not None:
            scripts = self._core.other_scripts.get(f"RPC {call.method}")
            scripted = scripts.popleft() if scripts else None
            nursery.start_soon(self._do_one, place, call, self._prepare(call, scripted, work), work)

    async def _do_one(self, place: int, call: RpcCall, doing: _Doing, work: _Work) -> None:
        await trio.lowlevel.checkpoint()
        try:
            reply = success(call.id, await doing())
        except RpcError as error:
            reply = failure(call.id, error)
        if not call.is_notification:
            work.reply(place, reply)

    def _prepare(self, call: RpcCall, scripted: SendAnswer | None, work: _Work) -> _Doing:
        """Decide, in the order of the batch, what a call gets."""
        if call.method not in SENDS:
            return partial(self._perform, call, scripted, work)
        send = SendRequest(
            body=object_of(call),
            headers=work.headers,
            time=trio.current_time(),
            outcome="invalid",
            kind=SENDS[call.method],
        )
        self._core.records.received.append(send)
        self._core.records.changed()
        work.sends.append(send)
        try:
            answer = self._decide(call, scripted, send)
        except RpcError as error:
            return partial(_fail, error)
        send.outcome = answer.kind
        if answer.sends:
            send.timestamp = self._core.next_timestamp()
        return partial(self._send, answer, send, work)

    async def _perform(self, call: RpcCall, scripted: SendAnswer | None, work: _Work) -> Any:
        await trio.sleep(0 if scripted is None else scripted.delay)
        if scripted is None or scripted.kind == "ok":
            return perform(self._core, call)
        return await self._answered(scripted, self._core.next_timestamp(), [], work)

    async def _send(self, answer: SendAnswer, send: SendRequest, work: _Work) -> Any:
        core = self._core
        with core.flight(send):
            if answer.kind != "daemon_down":
                await trio.sleep(core.config.answer_delay + answer.delay)
            results = results_of(Params(send.body), core.state, send.number)
            return await self._answered(answer, send.timestamp or core.next_timestamp(), results, work)

    def _decide(self, call: RpcCall, scripted: SendAnswer | None, send: SendRequest) -> SendAnswer:
        """Return the answer that a send gets, scripted ones first."""
        core = self._core
        expected = scripted is not None or bool(core.scripts)
        if not expected:
            try:
                send.path_number = needed_account(core, call)
            except RpcError:
                send.outcome = "error"
                raise
        elif "account" not in send.body and len(core.config.accounts) == 1:
            send.path_number = core.config.accounts[0]
        check_send(send.kind, Params(params_of(call)))
        return scripted or (core.scripts.popleft() if expected else ok())

    async def _answered(
        self, answer: SendAnswer, timestamp: int, results: list[dict[str, Any]], work: _Work
    ) -> Any:
        """Return the result that ``answer`` is, or have the whole request end in another way."""
        instead: SendAnswer | Response | None = None
        if answer.kind in {"hang", "lost", "cut_body", "garbage", "raw", "endless"}:
            instead = answer
        elif answer.kind == "daemon_down":
            instead = SendAnswer(kind="lost")
        elif answer.kind == "reply" or (answer.kind == "error" and answer.status != HTTPStatus.BAD_REQUEST):
            instead = answer.response(timestamp, self._core.config.account, array=False)
        if instead is None:
            await trio.lowlevel.checkpoint()
            return rpc_result_of(answer, timestamp, results)
        work.interrupt(instead)
        return await trio.sleep_forever()


async def _fail(error: RpcError) -> Any:
    await trio.lowlevel.checkpoint()
    raise error


def _account_in(request: HttpRequest) -> str:
    """The account in the query; of several the last."""
    pairs = (pair.partition("=") for pair in request.target.partition("?")[2].split("&"))
    return {name: unquote(value) for name, _, value in pairs}.get("account", "")
