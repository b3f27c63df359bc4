"""What there is at which path, who may have it, and how much of it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Final

import msgspec
import trio

from .. import __version__
from . import _protocol
from ._door import Visit
from ._fairness import Memory, Recoveries, Share
from ._http import Answer, HttpConnection, HttpError, Request, problem
from ._hub import Hub, HubLimits
from ._metrics import CONTENT_TYPE as METRICS_TYPE
from ._origins import Origins
from ._outlet import Outlet
from ._parameters import UPGRADE, epoch_of, handshake_key, number, single
from ._sends import Letter, parse_send, send
from ._socket import Session
from .auth import Authenticator, Identity, Tickets, Unauthorized

#: What :class:`SignalClient` with ``gateway="auto"`` knows a hub by.
MODE: Final = "trio-signal-hub"

#: Who somebody is where there is no key.
_ANYBODY: Final = Identity("anybody", None)

_MAX_LIMIT: Final = 100_000

#: How long a body may take to come, in seconds.
_BODY_TIMEOUT: Final = 60.0

#: When a send under way at a shutdown is answered, in seconds after it has begun; a second later all ends.
_LAST_ANSWERS: Final = 4.0

#: One subject may have a quarter of all recoveries.
_PARTS: Final = 4

#: What trio-websocket reads in place of the client's own request, which has been checked: no header that it
#: could stumble over, and no token.
_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _Call:
    """One request and the connection that it came on."""

    request: Request
    http: HttpConnection
    visit: Visit
    stream: trio.abc.Stream


_Handler = Callable[[_Call], Answer]
_AsyncHandler = Callable[[_Call], Awaitable[Answer]]


class Routes:
    """Answers requests.

    Args:
        hub: what they are about.
        limits: how much of everything.
        key: checks tokens; None lets everybody in.
        tickets: what a browser's WebSocket shows instead of a token.
        origins: which web pages may ask.
        wall_clock: tells the time of day in seconds since the epoch.
    """

    def __init__(
        self,
        hub: Hub,
        limits: HubLimits,
        *,
        key: Authenticator | None,
        tickets: Tickets,
        origins: Origins,
        wall_clock: Callable[[], float],
    ) -> None:
        self._hub: Final = hub
        self._limits: Final = limits
        self._key: Final = key
        self._tickets: Final = tickets
        self._origins: Final = origins
        self._wall_clock: Final = wall_clock
        self._recoveries: Final = Recoveries(
            rate=limits.recovery_rate,
            burst=limits.recovery_burst,
            at_once=limits.max_recoveries,
            # Without a key everybody is the same.
            parts=1 if key is None else _PARTS,
        )
        self._bodies: Final = Memory(limits.max_send_total)
        # To read one body takes others their time; to read several at once would take it at once.
        self._reading: Final = trio.Lock()
        self._table: Final[dict[str, tuple[str, _Handler | _AsyncHandler]]] = {
            "/websocket": ("GET", self._not_upgraded),
            "/websocket/messages": ("GET", self._recover),
            "/websocket/ticket": ("POST", self._issue_ticket),
            "/v2/send": ("POST", self._send),
            "/v1/about": ("GET", self._about),
            "/healthz": ("GET", self._alive),
            "/readyz": ("GET", self._ready),
            "/metrics": ("GET", self._metrics),
            "/status": ("GET", self._status),
            **{path: ("GET", _fixed(answer)) for path, answer in _files().items()},
        }

    # Reading a request is always a checkpoint, whatever comes of it.
    async def serve(self, stream: trio.abc.Stream, visit: Visit) -> None:  # noqa: ASYNC910
        """Answer one connection's requests until it ends. A checkpoint; cancelling ends it at once."""
        http = HttpConnection(stream)
        going_on = True
        while going_on:
            origin: tuple[tuple[str, str], ...] = ()
            try:
                request = await http.next_request()
                if request is None:
                    return
                origin = self._origins.headers(request)
                answer = await self._answer(_Call(request, http, visit, stream))
                if answer is None:
                    return
            except HttpError as error:
                answer = error.answer
            if answer.status >= 400:
                self._hub.counters.refused[answer.status] += 1
            answer = Answer(answer.status, answer.body, answer.content_type, answer.headers + origin)
            try:
                going_on = await http.send(answer, close=self._hub.stopping)
            finally:
                self._recoveries.end(visit)
            if not going_on:
                await http.linger()
            visit.release()

    async def _answer(self, call: _Call) -> Answer | None:  # noqa: ASYNC910
        """Return the answer, or None after a WebSocket has ended, and with it the connection.

        A checkpoint only where it has to wait: its caller has read a request and will send an answer.
        """
        request = call.request
        self._origins.check(request)
        if request.path == "/websocket" and request.is_upgrade:
            await self._open_socket(call)
            return None
        if (entry := self._table.get(request.path)) is None:
            raise HttpError(404, "there is nothing at this path")
        method, handler = entry
        if request.method == "OPTIONS" and self._origins.headers(request):
            return self._origins.preflight()  # noqa: ASYNC910
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            allowed = "GET, HEAD" if method == "GET" else method
            raise HttpError(405, f"use {method} here", headers=(("Allow", allowed),))
        answer = handler(call)
        return answer if isinstance(answer, Answer) else await answer  # noqa: ASYNC910

    def _admit(self, call: _Call) -> Identity:
        """Check the token and count the connection as admitted."""
        identity = self._identify(call.request)
        if not call.visit.admit():
            raise self._later(503, "too many connections", 1.0)
        return identity

    def _identify(self, request: Request) -> Identity:
        if self._key is None:
            return _ANYBODY
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            return self._key.check(token.strip() if scheme.lower() == "bearer" else "")
        except Unauthorized:
            raise _unauthorized() from None

    async def _open_socket(self, call: _Call) -> None:
        """Make a WebSocket of the connection. Whatever is wrong is answered before the upgrade."""
        request, visit = call.request, call.visit
        ticket, key = single(request, "ticket"), handshake_key(request)
        since, epoch = number(request, "since"), epoch_of(request)
        if self._hub.stopping:
            raise self._later(503, "the hub is shutting down", self._limits.shutdown_spread)
        # A ticket works once: not before all else is well.
        identity = self._identify(request) if ticket is None else self._redeem(ticket)
        if since is not None:
            self._take_recovery(identity)
        if not visit.admit():
            raise self._later(503, "too many connections", 1.0)
        outlet = Outlet(
            call.stream,
            _HANDSHAKE % key.encode(),
            behind=call.http.leftover(),
            max_frames=self._limits.max_queue,
            max_bytes=self._limits.max_queue_bytes,
        )
        session = Session(
            self._hub.connections,
            outlet,
            counters=self._hub.counters,
            subject=identity.subject,
            remote=visit.remote,
            expires_at=self._moment(identity.expires_at),
            heartbeat_interval=self._limits.heartbeat_interval,
            retry_after=round(self._hub.random.uniform(0.0, self._limits.shutdown_spread), 3),
        )
        await session.run(since=since, epoch=epoch)

    def _redeem(self, ticket: str) -> Identity:
        if self._key is None:
            return _ANYBODY
        identity = self._tickets.redeem(ticket)
        if identity is None or not self._key.is_current(identity):
            raise _unauthorized()
        return identity

    def _moment(self, expires_at: float | None) -> float:
        """Turn a time of day into one of Trio's clock."""
        if expires_at is None:
            return math.inf
        # That of a token that is taken within the leeway is over already: its grace begins now.
        return trio.current_time() + expires_at - self._wall_clock()

    def _not_upgraded(self, _: _Call) -> Answer:
        return problem(426, "this is a WebSocket", headers=(UPGRADE,))

    def _recover(self, call: _Call) -> Answer:
        identity = self._admit(call)
        request = call.request
        since, epoch, limit = number(request, "since"), epoch_of(request), number(request, "limit")
        if since is None:
            raise HttpError(422, "since: give the last sequence number that you have, or 0")
        if limit is not None and not 1 <= limit <= _MAX_LIMIT:
            raise HttpError(422, f"limit: give 1 to {_MAX_LIMIT}")
        if not self._recoveries.has_room(identity.subject):
            raise self._no_recovery(1.0)
        self._take_recovery(identity)
        page = self._hub.connections.get_messages_since(since, epoch=epoch, limit=limit)
        self._recoveries.begin(call.visit, identity.subject)
        self._hub.counters.recoveries += 1
        self._hub.counters.recovered_messages += len(page.messages)
        return Answer(200, _protocol.recovery(page))

    def _take_recovery(self, identity: Identity) -> None:
        """Keep a storm of clients that come back from starving the live ones (contract H12)."""
        if wait := self._recoveries.take(identity.subject):
            raise self._no_recovery(max(wait, 1.0))

    def _no_recovery(self, wait: float) -> HttpError:
        self._hub.counters.recoveries_limited += 1
        return self._later(429, "too many recoveries at once", wait)

    def _later(self, status: int, words: str, wait: float) -> HttpError:
        """Ask to come back later, not all at the same moment."""
        seconds = math.ceil(wait + self._hub.random.uniform(0.0, wait + 1.0))
        return HttpError(status, words, headers=(("Retry-After", str(seconds)),))

    def _issue_ticket(self, call: _Call) -> Answer:
        identity = self._admit(call)
        return _json(201, {"ticket": self._tickets.issue(identity), "expires_in": self._tickets.lifetime})

    async def _send(self, call: _Call) -> Answer:
        self._admit(call)
        kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "Content-Type: give application/json")
        if self._hub.stopping:
            raise self._later(503, "the hub is shutting down", self._limits.shutdown_spread)
        share = Share(self._bodies)
        try:
            answer = await send(
                self._hub.signal,
                await self._read_letter(call.http, share),
                wait=self._limits.send_wait,
                hung_up=call.http.wait_hung_up,
                going_down=self._wait_last_answers,
                on_taken=share.give_back,
            )
        finally:
            share.give_back()
        self._hub.counters.sends[answer.status] += 1
        return answer

    async def _read_letter(self, http: HttpConnection, share: Share) -> Letter:
        def take(size: int) -> None:
            if not share.take(size):
                raise self._later(429, "too many large messages at once", 1.0)

        body = await http.read_body(self._limits.max_send_bytes, timeout=_BODY_TIMEOUT, take=take)
        async with self._reading:
            return await parse_send(body, self._hub.signal.account)

    async def _wait_last_answers(self) -> None:
        """Wait until there is just time left to answer before a shutdown ends every connection."""
        await self._hub.wait_shutdown()
        await trio.sleep(_LAST_ANSWERS)

    def _about(self, _: _Call) -> Answer:
        return _json(200, {"mode": MODE, "version": __version__})

    def _alive(self, _: _Call) -> Answer:
        return _json(200, {"status": "ok"})

    def _ready(self, call: _Call) -> Answer:
        checks = self._hub.board.readiness()
        ready = all(check is True for check in checks.values()) and not self._hub.stopping
        said: dict[str, object] = {"status": "ok" if ready else "unavailable"}
        # What exactly is wrong is for those who may know.
        if self._key is None or "authorization" in call.request.headers:
            self._identify(call.request)
            said["checks"] = checks
        return _json(200 if ready else 503, said)

    def _metrics(self, call: _Call) -> Answer:
        self._admit(call)
        return Answer(200, self._hub.metrics(), METRICS_TYPE)

    def _status(self, call: _Call) -> Answer:
        self._admit(call)
        return _json(200, self._hub.board.snapshot(self._hub.connections.figures()))


def _files() -> dict[str, Answer]:
    """Read the page and the description of the API, which do not change while we run."""
    here = resources.files("trio_signal.hub")
    description = Answer(200, (here / "openapi.json").read_bytes())
    files = {"/openapi.json": description}
    for file in (here / "page").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in _TYPES:
            headers = (("Content-Security-Policy", _POLICY), ("X-Frame-Options", "DENY"))
            files[f"/page/{file.name}"] = Answer(200, file.read_bytes(), _TYPES[suffix], headers)
    files["/"] = files.pop("/page/index.html")
    return files


def _fixed(answer: Answer) -> _Handler:
    def give(_: _Call) -> Answer:
        return answer

    return give


def _json(status: int, value: object) -> Answer:
    return Answer(status, msgspec.json.encode(value))


def _unauthorized() -> HttpError:
    return HttpError(401, "unauthorized", headers=(("WWW-Authenticate", "Bearer"),))
