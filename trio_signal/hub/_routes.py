"""What there is at which path, and what is asked for there."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import msgspec
import trio

from .. import __version__
from ._account_routes import AccountRoutes, AsyncHandler
from ._door import Visit
from ._exchange import HeaderPairs
from ._fairness import Recoveries, Turnstile
from ._guard import Call, Guard
from ._http import Answer, HttpConnection, HttpError, problem
from ._hub import Hub, HubLimits
from ._metrics import CONTENT_TYPE as METRICS_TYPE
from ._origins import Origins
from ._outlet import Outlet
from ._parameters import UPGRADE, epoch_of, handshake_key, number, single
from ._recovered import Recovered
from ._socket import Session
from ._static import read_files
from .auth import Identity

#: What :class:`SignalClient` with ``gateway="auto"`` knows a hub by.
MODE: Final = "trio-signal-hub"

_MAX_LIMIT: Final = 100_000

_Handler = Callable[[Call], Answer]


class Routes:
    """Answers requests.

    Args:
        hub: what they are about.
        limits: how much of everything.
        guard: who may ask.
        origins: which web pages may ask.

    Attributes:
        turnstile: what all requests pass through.
    """

    def __init__(self, hub: Hub, limits: HubLimits, guard: Guard, origins: Origins) -> None:
        self._hub: Final = hub
        self._limits: Final = limits
        self._guard: Final = guard
        self._origins: Final = origins
        self._recoveries: Final = Recoveries(
            rate=limits.recovery_rate,
            burst=limits.recovery_burst,
            at_once=limits.max_recoveries,
            parts=guard.parts,
        )
        self._recovered: Final = Recovered(hub.connections)
        self.turnstile: Final = Turnstile()
        readable: dict[str, _Handler | AsyncHandler] = {
            "/websocket": self._not_upgraded,
            "/websocket/messages": self._recover,
            "/v1/about": self._about,
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/status": self._status,
            **{path: _fixed(answer) for path, answer in read_files().items()},
        }
        self._table: Final[dict[str, Mapping[str, _Handler | AsyncHandler]]] = {
            "/websocket/ticket": {"POST": self._issue_ticket},
            **{path: {"GET": handler} for path, handler in readable.items()},
            **AccountRoutes(hub, limits, guard).table(),
        }

    async def serve(self, stream: trio.abc.Stream, visit: Visit) -> None:
        """Answer one connection's requests until it ends. A checkpoint; cancelling ends it at once."""
        http = HttpConnection(stream, visit, self.turnstile)
        # Used anew for each request.
        stack = AsyncExitStack()
        while (then := await self._serve_one(http, stream, visit, stack)) is True:
            visit.release()
        if isinstance(then, Session):
            # It may last for days, and needs nothing of what led to it.
            del http, stream, stack, visit
            await then.run()
        else:
            await http.linger()

    async def _serve_one(
        self, http: HttpConnection, stream: trio.abc.Stream, visit: Visit, stack: AsyncExitStack
    ) -> bool | Session:
        """Answer the next request.

        A checkpoint: reading a request is one, whatever comes of it.

        Returns:
            Whether there may be another request; or the WebSocket that the connection becomes.
        """
        try:
            request = await http.next_request()
        except HttpError as error:
            return await self._give(http, error.answer, ())
        if request is None:
            return False
        origin = self._origins.headers(request) if "origin" in request.headers else ()
        try:
            call = Call(request, request.path.rpartition("/")[2], http, visit, stream, stack)
            answer = self._answer(call)
            if isinstance(answer, Answer):
                return await self._give(http, answer, origin)
        except HttpError as error:
            return await self._give(http, error.answer, origin)
        finally:
            self._recoveries.end(visit)
        if isinstance(answer, Session):
            return answer
        async with stack:
            return await self._give(http, await _outcome(answer), origin)

    async def _give(self, http: HttpConnection, answer: Answer, origin: HeaderPairs) -> bool:
        """Send an answer; return whether the connection goes on. As much a checkpoint as that sending is."""
        if answer.status >= 400:
            self._hub.counters.refused[answer.status] += 1
        if origin:
            answer = replace(answer, headers=answer.headers + origin, wire=())
        return await http.send(answer, close=self._hub.stopping)

    def _answer(self, call: Call) -> Answer | Awaitable[Answer] | Session:
        request = call.request
        self._origins.check(request)
        if request.path == "/websocket" and request.is_upgrade:
            return self._session(call)
        methods = self._table.get(request.path)
        if methods is None and call.argument:
            methods = self._table.get(request.path.removesuffix(call.argument) + "*")
        if methods is None:
            raise HttpError(404, "there is nothing at this path")
        if request.method == "OPTIONS" and self._origins.headers(request):
            return self._origins.preflight()
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = [*methods, "HEAD"] if "GET" in methods else [*methods]
            words = f"use {' or '.join(methods)} here"
            raise HttpError(405, words, headers=(("Allow", ", ".join(allowed)),))
        return handler(call)

    def _session(self, call: Call) -> Session:
        """Make a WebSocket of the connection. Whatever is wrong is answered before the upgrade."""
        request, visit = call.request, call.visit
        ticket, key = single(request, "ticket"), handshake_key(request)
        since, epoch = number(request, "since"), epoch_of(request)
        self._guard.check_open()
        # A ticket works once: not before all else is well.
        identity = self._guard.identify(request) if ticket is None else self._guard.redeem(ticket)
        if since is not None:
            self._take_recovery(identity)
        self._guard.count(visit)
        outlet = Outlet(
            call.stream,
            behind=call.http.leftover(),
            max_frames=self._limits.max_queue,
            max_bytes=self._limits.max_queue_bytes,
        )
        return Session(
            self._hub.connections,
            outlet,
            counters=self._hub.counters,
            key=key,
            since=since,
            epoch=epoch,
            subject=identity.subject,
            remote=visit.remote,
            expires_at=self._guard.moment(identity.expires_at),
            heartbeat_interval=self._limits.heartbeat_interval,
            retry_after=round(self._hub.random.uniform(0.0, self._limits.shutdown_spread), 3),
        )

    def _not_upgraded(self, _: Call) -> Answer:
        return problem(426, "this is a WebSocket", headers=(UPGRADE,))

    def _recover(self, call: Call) -> Answer:
        identity = self._guard.admit(call)
        request = call.request
        since, epoch, limit = number(request, "since"), epoch_of(request), number(request, "limit")
        if since is None:
            raise HttpError(422, "since: give the last sequence number that you have, or 0")
        if limit is not None and not 1 <= limit <= _MAX_LIMIT:
            raise HttpError(422, f"limit: give 1 to {_MAX_LIMIT}")
        if not self._recoveries.has_room(identity.subject):
            raise self._no_recovery(1.0)
        self._take_recovery(identity)
        # Until the answer has left.
        self._recoveries.begin(call.visit, identity.subject)
        answer, count = self._recovered.since(since, epoch, limit)
        self._hub.counters.recoveries += 1
        self._hub.counters.recovered_messages += count
        return answer

    def _take_recovery(self, identity: Identity) -> None:
        """Keep a storm of clients that come back from starving the live ones (contract H12)."""
        if wait := self._recoveries.take(identity.subject):
            raise self._no_recovery(max(wait, 1.0))

    def _no_recovery(self, wait: float) -> HttpError:
        self._hub.counters.recoveries_limited += 1
        return self._guard.later(429, "too many recoveries at once", wait)

    def _issue_ticket(self, call: Call) -> Answer:
        identity = self._guard.admit(call)
        return _json(
            201, {"ticket": self._guard.tickets.issue(identity), "expires_in": self._guard.tickets.lifetime}
        )

    def _about(self, _: Call) -> Answer:
        return _json(200, {"mode": MODE, "version": __version__})

    def _alive(self, _: Call) -> Answer:
        return _json(200, {"status": "ok"})

    def _ready(self, call: Call) -> Answer:
        checks = self._hub.board.readiness()
        ready = all(check is True for check in checks.values()) and not self._hub.stopping
        said: dict[str, object] = {"status": "ok" if ready else "unavailable"}
        # What exactly is wrong is for those who may know.
        if self._guard.is_open or "authorization" in call.request.headers:
            self._guard.identify(call.request)
            said["checks"] = checks
        return _json(200 if ready else 503, said)

    def _metrics(self, call: Call) -> Answer:
        self._guard.admit(call)
        return Answer(200, self._hub.metrics(), METRICS_TYPE)

    def _status(self, call: Call) -> Answer:
        self._guard.admit(call)
        return _json(200, self._hub.board.snapshot(self._hub.connections.figures()))


async def _outcome(answer: Awaitable[Answer]) -> Answer:
    """Return what comes of a request that takes its time, a refusal too. A checkpoint."""
    try:
        return await answer
    except HttpError as error:
        return error.answer  # noqa: ASYNC910


def _fixed(answer: Answer) -> _Handler:
    def give(_: Call) -> Answer:
        return answer

    return give


def _json(status: int, value: object) -> Answer:
    return Answer(status, msgspec.json.encode(value))
