"""The stream of events as a link, byte by byte: opening, refusals, silence, ends, and what each may lose."""

import gc
import json
import math
import re
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import (
    GapReason,
    GatewayRefused,
    LinkLost,
    Reason,
    Undecodable,
    UnknownAccount,
    WrongGatewayMode,
)
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal._errors import PermanentError, Remedy, remedy_for
from trio_signal._http_answers import Headers
from trio_signal.gateways import Absence
from trio_signal.gateways._event_answers import has_left_all, is_the_daemons, read_refusal
from trio_signal.gateways._event_link import EventLink
from trio_signal.gateways._requests import Requests
from trio_signal.testing import MemoryStream, memory_connection

ACCOUNT: Final = "+15550001"
URL: Final = "http://127.0.0.1:8080"
NOW: Final = 1_795_302_674_000
UNNOTICED: Final = 1100.0

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 19 Nov 2026 00:00:00 GMT\r\nTransfer-encoding: chunked\r\n"
    b"Content-type: text/event-stream\r\n\r\n"
)
KEEP_ALIVE: Final = b"2\r\n:\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def told(data: bytes) -> bytes:
    """An event as the daemon writes it."""
    return chunk(b"event:receive\ndata:" + data + b"\n\n")


def frame(received: int = 0, delivered: int = 0, **more: object) -> bytes:
    envelope = {"serverReceivedTimestamp": received, "serverDeliveredTimestamp": delivered, **more}
    return json.dumps({"envelope": envelope, "account": ACCOUNT}).encode()


class Daemon:
    """The other end of each connection, led by the test."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = b""
        self.stream: MemoryStream | None = None
        self.refuses = False
        self.hangs = False

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.count += 1
        if self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        if self.hangs:
            await trio.sleep_forever()
        ours, self.stream = memory_connection(1 << 20)
        return ours

    async def read_request(self) -> None:
        while b"\r\n\r\n" not in self.asked:
            await wait_all_tasks_blocked()
            assert self.stream is not None
            self.asked += await self.stream.receive_some()

    async def write(self, *parts: bytes) -> None:
        assert self.stream is not None
        await self.stream.send_all(b"".join(parts))

    async def end(self) -> None:
        assert self.stream is not None
        await self.stream.send_eof()

    def reset(self) -> None:
        assert self.stream is not None
        self.stream.reset()


def make_requests(daemon: Daemon, url: str = URL, **headers: str) -> Requests:
    return Requests(
        parse_url(url),
        Credentials(headers, None, None),
        connect=daemon.connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60,
    )


@asynccontextmanager
async def open_link(
    daemon: Daemon, *, requests: Requests | None = None, account: str | None = ACCOUNT, **options: Any
) -> AsyncGenerator[EventLink]:
    """Open a link that nobody reads yet."""
    defaults: dict[str, Any] = {
        "keeps": True,
        "quiet_time": 5.0,
        "max_event": 10_000,
        "now": lambda: NOW,
    }
    async with AsyncExitStack() as stack:
        yield EventLink(requests or make_requests(daemon), account, stack, **(defaults | options))


class Reader:
    """What a link gave, and how it ended."""

    def __init__(self) -> None:
        self.events: list[bytes | Undecodable] = []
        self.error: Exception | None = None
        self.ended = trio.Event()

    async def run(self, link: EventLink) -> None:
        try:
            while True:
                self.events += await link.receive()
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            self.error = error
        self.ended.set()


@asynccontextmanager
async def reading(daemon: Daemon, *parts: bytes, **options: Any) -> AsyncGenerator[tuple[EventLink, Reader]]:
    """Open a link, read it in the background, and answer its request."""
    reader = Reader()
    async with open_link(daemon, **options) as link, trio.open_nursery() as nursery:
        nursery.start_soon(reader.run, link)
        await daemon.read_request()
        await daemon.write(*parts)
        await wait_all_tasks_blocked()
        yield link, reader
        nursery.cancel_scope.cancel()


# --- Opening. ---


async def test_it_asks_for_the_events_of_its_account(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    requests = make_requests(daemon, URL + "/base", **{"X-Key": "v"})
    async with reading(daemon, HEAD, requests=requests) as (link, _):
        await link.probe()
    lines = daemon.asked.split(b"\r\n")
    assert lines[0] == b"GET /base/api/v1/events?account=%2B15550001 HTTP/1.1"
    assert b"X-Key: v" in lines
    assert b"Accept: text/event-stream" in lines
    assert re.search(rb"(?m)^Accept-Encoding: identity\r$", daemon.asked)


async def test_without_an_account_it_asks_for_all(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD, account=None) as (link, _):
        await link.probe()
    assert daemon.asked.startswith(b"GET /api/v1/events HTTP/1.1\r\n")


async def test_events_are_given_as_they_come_many_at_once(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD, told(b'{"a":1}'), KEEP_ALIVE, told(b"2")[:10]) as (link, reader):
        assert reader.events == [b'{"a":1}']
        await daemon.write(told(b"2")[10:], told(b"3"), chunk(b"event:other\ndata:x\n\n"))
        await wait_all_tasks_blocked()
        assert reader.events == [b'{"a":1}', b"2", b"3"]
        assert link.bytes_received > len(HEAD)
        assert link.last_received == trio.current_time()
        assert reader.error is None


@pytest.mark.contract("B5")
async def test_headers_that_come_late_are_no_failure(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon) as (link, _):
        assert link.patience == 16
        answered = trio.Event()
        async with trio.open_nursery() as nursery:

            async def probe() -> None:
                await link.probe()
                answered.set()

            nursery.start_soon(probe)
            await trio.sleep(15)
            assert not answered.is_set()
            await daemon.write(HEAD, KEEP_ALIVE)
        assert trio.current_time() == 15


async def test_the_probe_reads_nothing_itself(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with open_link(daemon) as link:
        with trio.move_on_after(60):
            await link.probe()
        assert daemon.count == 0


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    ("status", "kind", "remedy", "words"),
    [
        (
            400,
            UnknownAccount,
            Remedy.GIVE_UP,
            r"account \+15550001; link or register it .* or none \(account=None\) for all",
        ),
        (401, GatewayRefused, Remedy.RENEW_CREDENTIALS, "HTTP 401"),
        (403, GatewayRefused, Remedy.RENEW_CREDENTIALS, "HTTP 403"),
        (404, LinkLost, Remedy.GIVE_UP, "HTTP 404; look at the URL, and at what stands between"),
        (405, LinkLost, Remedy.GIVE_UP, "HTTP 405"),
        (421, PermanentError, Remedy.GIVE_UP, "--http=0.0.0.0"),
        (301, LinkLost, Remedy.GIVE_UP, "HTTP 301"),
        (429, LinkLost, Remedy.RETRY, "HTTP 429"),
        (408, LinkLost, Remedy.RETRY, "HTTP 408"),
        (503, LinkLost, Remedy.RETRY, "HTTP 503"),
        (204, LinkLost, Remedy.GIVE_UP, "HTTP 204"),
    ],
)
async def test_refusals_say_what_to_do(
    autojump_clock: MockClock, status: int, kind: type[Exception], remedy: Remedy, words: str
) -> None:
    daemon = Daemon()
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n" % status
    async with reading(daemon, answer) as (link, reader):
        await reader.ended.wait()
        assert type(reader.error) is kind
        assert re.search(words, str(reader.error))
        assert reader.error is not None
        assert remedy_for(reader.error) is remedy
        if isinstance(reader.error, LinkLost | GatewayRefused):
            assert (reader.error.status, reader.error.retry_after) == (status, 7)
        # Nobody listened, so nothing of what is missing is missing because of this attempt.
        assert link.absence is None
        with trio.move_on_after(60) as scope:
            await link.probe()
        assert scope.cancelled_caught


@pytest.mark.contract("R3", "C6")
@pytest.mark.parametrize("status", [500, 502, 504, 520])
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_request_that_a_proxy_gave_up_may_have_arrived(
    autojump_clock: MockClock, status: int, keeps: bool
) -> None:
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
    async with reading(Daemon(), answer, keeps=keeps) as (link, reader):
        await reader.ended.wait()
        assert type(reader.error) is LinkLost
        assert remedy_for(reader.error) is Remedy.RETRY
        assert link.absence == (Absence(GapReason.GATEWAY, 0, UNNOTICED) if keeps else None)


def refusal(status: int, words: bytes) -> bytes:
    return b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(words), words)


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, b"<h1>404 Not Found</h1>No context found for request", WrongGatewayMode),
        (404, b"404 page not found", WrongGatewayMode),
        (404, b"<h1>404 Not Found</h1>nginx", LinkLost),
        # Only the daemon's own 400, which is empty, says that there is no such account.
        (400, b"The plain HTTP request was sent to HTTPS port", LinkLost),
        (400, b"x" * 10_000, LinkLost),
    ],
)
async def test_only_what_is_known_ends_the_client(
    autojump_clock: MockClock, status: int, words: bytes, kind: type[Exception]
) -> None:
    async with reading(Daemon(), refusal(status, words)) as (link, reader):
        await reader.ended.wait()
        assert type(reader.error) is kind
        assert link.absence is None
        if isinstance(reader.error, LinkLost):
            assert reader.error.status == status
            assert "account" not in str(reader.error)
            assert "no signal-cli" not in str(reader.error)


@pytest.mark.contract("C6")
@pytest.mark.parametrize(("how", "expected"), [("silence", 5), ("reset", 0), ("endless", 0)])
async def test_a_refusal_whose_words_do_not_come_is_one_all_the_same(
    autojump_clock: MockClock, how: str, expected: float
) -> None:
    daemon = Daemon()
    async with reading(daemon, refusal(400, b"x" * 100_000)[:-100_000]) as (_, reader):
        if how == "reset":
            daemon.reset()
        elif how == "endless":
            await daemon.write(b"x" * 5000)
        await reader.ended.wait()
        assert type(reader.error) is LinkLost
        assert reader.error.status == 400
        assert trio.current_time() == expected


async def test_400_without_an_account_is_no_unknown_account(autojump_clock: MockClock) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    async with reading(Daemon(), answer, account=None) as (_, reader):
        await reader.ended.wait()
        assert type(reader.error) is LinkLost


@pytest.mark.parametrize("kind", ["application/json", "text/html", "", "text/event-streams"])
async def test_another_content_type_is_another_kind_of_gateway(autojump_clock: MockClock, kind: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % kind.encode()
    async with reading(Daemon(), answer) as (link, reader):
        await reader.ended.wait()
        assert type(reader.error) is WrongGatewayMode
        assert link.absence is None


@pytest.mark.contract("C6", "R3")
@pytest.mark.parametrize(
    ("head", "words"),
    [
        ((b"Content-Encoding: gzip", b"Server: nginx"), "^the proxy 'nginx' at http://127.0.0.1:8080 packs"),
        ((b"content-encoding: BR", b"Via: 1.1 box"), "^the proxy '1.1 box' at .* [(]'br'[)]"),
        ((b"Content-Encoding: zstd",), "^a proxy at .* switch its compression off for text/event-stream"),
    ],
)
async def test_a_proxy_that_packs_the_events_is_told(
    autojump_clock: MockClock, head: Sequence[bytes], words: str
) -> None:
    async with reading(Daemon(), headed(*head)) as (link, reader):
        await reader.ended.wait()
        assert type(reader.error) is WrongGatewayMode
        assert re.search(words, str(reader.error))
        # The daemon has begun to give messages.
        assert link.absence == Absence(GapReason.GATEWAY, 0, UNNOTICED)


async def test_identity_is_no_packing(autojump_clock: MockClock) -> None:
    async with reading(Daemon(), headed(b"Content-Encoding: identity"), told(b"1")) as (link, reader):
        await link.probe()
        assert reader.events == [b"1"]


@pytest.mark.parametrize("kind", ["text/event-stream;charset=UTF-8", "Text/Event-Stream ; x=y"])
async def test_the_content_type_may_have_parameters(autojump_clock: MockClock, kind: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\nevent:receive\ndata:1\n\n" % kind.encode()
    async with reading(Daemon(), answer) as (link, reader):
        await link.probe()
        assert reader.events == [b"1"]


@pytest.mark.contract("C6")
async def test_a_refused_connection_is_tried_again_and_misses_nothing(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    daemon.refuses = True
    async with open_link(daemon) as link:
        with pytest.raises(LinkLost, match="cannot connect to http://127.0.0.1:8080: Connection refused"):
            await link.receive()
        assert link.absence is None


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Endless: yes\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\nzz\r\n",
        HEAD + b"f" * 30 + b"\r\n",
    ],
)
async def test_what_is_no_http_ends_the_attempt(autojump_clock: MockClock, answer: bytes) -> None:
    async with reading(Daemon(), answer) as (_, reader):
        await reader.ended.wait()
        assert type(reader.error) is LinkLost
        assert remedy_for(reader.error) is Remedy.RETRY


async def test_a_token_that_cannot_be_had_is_the_cause(autojump_clock: MockClock) -> None:
    daemon = Daemon()

    def token() -> str:
        raise RuntimeError("no token today")

    requests = Requests(
        parse_url(URL),
        Credentials({}, token, None),
        connect=daemon.connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60,
    )
    async with open_link(daemon, requests=requests) as link:
        with pytest.raises(LinkLost, match="token"):
            await link.receive()
        assert link.absence is None
        assert daemon.count == 0


# --- Life. ---


@pytest.mark.contract("L3")
async def test_nothing_for_40_s_means_dead(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD) as (link, _):
        with pytest.raises(LinkLost, match="not even a keep-alive") as caught:
            await link.watch()
        assert caught.value.reason is Reason.NO_ANSWER
        assert trio.current_time() == 40


@pytest.mark.contract("L3")
@pytest.mark.parametrize("life", [KEEP_ALIVE, KEEP_ALIVE[:1], told(b"1")])
async def test_any_byte_is_life(autojump_clock: MockClock, life: bytes) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD) as (link, _):
        await trio.sleep(39)
        await daemon.write(life)
        with pytest.raises(LinkLost):
            await link.watch()
        assert trio.current_time() == 79


@pytest.mark.parametrize("life", [KEEP_ALIVE, KEEP_ALIVE[:4], told(b"1")])
async def test_whatever_comes_wakes_whoever_waits_for_a_sign_of_life(
    autojump_clock: MockClock, life: bytes
) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD) as (link, reader), trio.open_nursery() as nursery:
        heard: list[tuple[float, float, int]] = []

        async def wait(since: float) -> None:
            await link.heard(since)
            heard.append((since, trio.current_time(), len(reader.events)))

        for since in (0, 3, 5.5, 5.6):
            nursery.start_soon(wait, since)
        with trio.move_on_after(5.5) as scope:
            await link.heard(1)
        assert scope.cancelled_caught
        await daemon.write(life)
        await wait_all_tasks_blocked()
        count = len(reader.events)
        assert sorted(heard) == [(0, 0, 0), (3, 5.5, count), (5.5, 5.5, count)]
        # The end is no sign of life.
        await daemon.end()
        await trio.sleep(1)
        assert len(heard) == 3
        nursery.cancel_scope.cancel()


# --- Ends, and what may be lost by them. ---

LAST: Final = "last chunk"
EOF: Final = "eof"
RESET: Final = "reset"
GARBAGE: Final = "garbage"


async def finish(daemon: Daemon, how: str) -> None:
    if how == LAST:
        await daemon.write(LAST_CHUNK)
    elif how == EOF:
        await daemon.end()
    elif how == RESET:
        daemon.reset()
    else:
        await daemon.write(b"no chunk\r\n")


def headed(*lines: bytes) -> bytes:
    return HEAD[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.contract("R3", "C6")
@pytest.mark.parametrize(
    ("how", "head", "rest", "lasts"),
    [
        (LAST, HEAD, b"", 0),
        # A forwarder that dies alone ends so too, while the daemon writes on.
        (EOF, HEAD, b"", UNNOTICED),
        (RESET, HEAD, b"", UNNOTICED),
        (GARBAGE, HEAD, b"", UNNOTICED),
        # A proxy ends its own connection when the daemon's may be dead or alive.
        (LAST, headed(b"Server: nginx"), b"", UNNOTICED),
        (LAST, headed(b"Via: 1.1 proxy"), b"", UNNOTICED),
        (EOF, headed(b"Via: 1.1 proxy"), b"", UNNOTICED),
        # Many a proxy does not say so, but none spells like the daemon: HAProxy, Go.
        (LAST, HEAD.lower().replace(b"http/", b"HTTP/"), b"", UNNOTICED),
        (LAST, HEAD.replace(b"-e", b"-E").replace(b"-t", b"-T"), b"", UNNOTICED),
        (LAST, HEAD.replace(b"-t", b"-T"), b"", UNNOTICED),
        # Of a message that has not come whole the daemon keeps nothing.
        (LAST, HEAD, chunk(b"event:receive\n"), UNNOTICED),
        (EOF, HEAD, told(b"half an event")[:-9], UNNOTICED),
        (LAST, HEAD, chunk(b":half a keep-alive"), 0),
    ],
)
async def test_only_what_the_daemon_wrote_before_it_noticed_can_be_lost(
    autojump_clock: MockClock, how: str, head: bytes, rest: bytes, lasts: float
) -> None:
    daemon = Daemon()
    async with reading(daemon, head, told(b"1")) as (link, reader):
        await trio.sleep(10)
        await daemon.write(KEEP_ALIVE)
        await trio.sleep(10)
        if rest:
            await daemon.write(rest)
        await finish(daemon, how)
        await reader.ended.wait()
        assert isinstance(reader.error, LinkLost)
        closed = how == LAST
        assert reader.error.reason is (Reason.CLOSED_BY_GATEWAY if closed else Reason.CONNECTION_LOST)
        assert remedy_for(reader.error) is Remedy.RETRY
        assert reader.events == [b"1"]
        # What has come in part had been the daemon's before: it is not covered.
        since = 20 if rest.startswith(chunk(b":half a keep-alive")) else 10
        assert link.absence == Absence(GapReason.GATEWAY, since, lasts)


@pytest.mark.contract("R3")
@pytest.mark.parametrize(("url", "expected"), [(URL, True), ("https://127.0.0.1", False)])
def test_the_daemon_speaks_no_tls(url: str, expected: bool) -> None:
    headers = Headers([(b"Transfer-encoding", b"chunked"), (b"Content-type", b"text/event-stream")])
    assert is_the_daemons(parse_url(url), headers) is expected


@pytest.mark.contract("R3")
@pytest.mark.parametrize("how", [LAST, EOF, RESET])
async def test_where_nothing_is_kept_every_end_misses_all(autojump_clock: MockClock, how: str) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD, KEEP_ALIVE, keeps=False) as (link, reader):
        await trio.sleep(10)
        await finish(daemon, how)
        await reader.ended.wait()
        assert link.absence == Absence(GapReason.GATEWAY, 0, math.inf)


@pytest.mark.contract("R3")
async def test_while_it_is_open_the_worst_is_assumed(autojump_clock: MockClock) -> None:
    async with open_link(Daemon()) as link:
        assert link.absence == Absence(GapReason.GATEWAY, 0, UNNOTICED)
    async with reading(Daemon(), HEAD) as (link, _):
        assert link.absence == Absence(GapReason.GATEWAY, 0, UNNOTICED)


@pytest.mark.contract("R3")
@pytest.mark.parametrize(
    ("keeps", "absence"),
    [
        # Events may have come to a request that was never answered.
        (True, Absence(GapReason.GATEWAY, 3, UNNOTICED)),
        # What nobody keeps is missing since the link before.
        (False, None),
    ],
)
async def test_an_attempt_that_was_never_answered(
    autojump_clock: MockClock, keeps: bool, absence: Absence | None
) -> None:
    daemon = Daemon()
    await trio.sleep(3)
    async with open_link(daemon, keeps=keeps) as link:
        with trio.move_on_after(30) as scope:
            await link.receive()
        assert scope.cancelled_caught
        assert link.absence == absence
        with pytest.raises(LinkLost, match="cancelled"):
            await link.receive()


@pytest.mark.contract("R3")
async def test_an_attempt_that_never_got_a_connection_misses_nothing(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    daemon.hangs = True
    async with open_link(daemon) as link:
        with trio.move_on_after(10) as scope:
            await link.receive()
        assert scope.cancelled_caught
        assert link.absence is None


async def test_a_connection_that_breaks_before_the_head(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon) as (link, reader):
        daemon.reset()
        await reader.ended.wait()
        assert isinstance(reader.error, LinkLost)
        assert reader.error.reason is Reason.ATTEMPT_FAILED
        assert link.absence == Absence(GapReason.GATEWAY, 0, UNNOTICED)


async def test_a_cancelled_read_ends_the_link_and_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with open_link(daemon) as link:
        with trio.move_on_after(1):
            await link.receive()
        with pytest.raises(LinkLost, match="cancelled"):
            await link.receive()
    assert daemon.stream is not None
    with pytest.raises(trio.BrokenResourceError):
        await daemon.stream.send_all(b"x")


async def test_a_read_that_is_cancelled_between_events_does_not_look_like_an_end_of_the_daemons(
    autojump_clock: MockClock,
) -> None:
    daemon = Daemon()
    async with open_link(daemon) as link, trio.open_nursery() as nursery:

        async def answer() -> None:
            await daemon.read_request()
            await daemon.write(HEAD, told(b"1"))

        nursery.start_soon(answer)
        assert await link.receive() == [b"1"]
        with trio.move_on_after(1):
            await link.receive()
        with pytest.raises(LinkLost, match="cancelled"):
            await link.receive()
        assert link.absence == Absence(GapReason.GATEWAY, 0, UNNOTICED)


async def test_a_link_that_is_left_between_two_reads_is_closed(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with open_link(daemon) as link, trio.open_nursery() as nursery:

        async def answer() -> None:
            await daemon.read_request()
            await daemon.write(HEAD, told(b"1"), told(b"2"))

        nursery.start_soon(answer)
        assert (await link.receive())[0] == b"1"
    assert daemon.stream is not None
    with pytest.raises(trio.BrokenResourceError):
        await daemon.stream.send_all(b"x")


async def test_a_link_that_is_cancelled_between_two_reads_leaves_no_generator(
    autojump_clock: MockClock,
) -> None:
    daemon = Daemon()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with trio.CancelScope() as scope:
            async with open_link(daemon) as link, trio.open_nursery() as nursery:

                async def answer() -> None:
                    await daemon.read_request()
                    await daemon.write(HEAD, told(b"1"), told(b"2"))

                nursery.start_soon(answer)
                assert (await link.receive())[0] == b"1"
                scope.cancel()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert daemon.stream is not None
    with pytest.raises(trio.BrokenResourceError):
        await daemon.stream.send_all(b"x")


async def test_the_goodbye_breaks_nothing(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with reading(daemon, HEAD) as (link, reader):
        await link.close()
        await wait_all_tasks_blocked()
        assert not reader.ended.is_set()
        await daemon.write(told(b"1"))
        await wait_all_tasks_blocked()
        assert reader.events == [b"1"]
    assert daemon.stream is not None
    with pytest.raises(trio.BrokenResourceError):
        await daemon.stream.send_all(b"x")


# --- What comes. ---


@pytest.mark.contract("R7", "R8")
async def test_an_event_that_is_too_large_is_told_and_costs_nothing_else(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    parts = (HEAD, told(b"1"), told(b"x" * 101), told(b"3"))
    async with reading(daemon, *parts, max_event=100) as (_, reader):
        assert reader.error is None
        first, middle, last = reader.events
        assert (first, last) == (b"1", b"3")
        assert isinstance(middle, Undecodable)
        assert "101 bytes" in middle.reason
        assert not middle.raw


@pytest.mark.contract("R7")
@pytest.mark.parametrize("data", [b"no json", b"[]", b"null", b'{"error":"x"}', b"\xff\xfe", b"[" * 5000])
@pytest.mark.parametrize("keeps", [True, False])
async def test_whatever_an_event_says_it_is_given(
    autojump_clock: MockClock, data: bytes, keeps: bool
) -> None:
    async with reading(Daemon(), HEAD, told(data), told(b"2"), keeps=keeps) as (_, reader):
        assert reader.events == [data, b"2"]
        assert reader.error is None


# --- When all that waited has come. ---


class Syncing:
    """When a link was synchronised."""

    def __init__(self) -> None:
        self.at: float | None = None

    async def run(self, link: EventLink) -> None:
        await link.probe()
        await link.synchronise()
        self.at = trio.current_time()


async def sync_time(
    steps: Sequence[tuple[float, bytes]],
    *,
    keeps: bool = True,
    quiet_time: float = 5.0,
    account: str | None = ACCOUNT,
) -> float | None:
    """Play bytes at their times to a link that begins at 0, and tell when it was synchronised."""
    daemon, syncing = Daemon(), Syncing()
    async with (
        reading(daemon, HEAD, keeps=keeps, quiet_time=quiet_time, account=account) as (link, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(syncing.run, link)
        for at, data in steps:
            await trio.sleep_until(at)
            await daemon.write(data)
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return syncing.at


@pytest.mark.contract("C3")
async def test_where_nothing_is_kept_nothing_is_waited_for(autojump_clock: MockClock) -> None:
    assert await sync_time([(1, told(frame()))], keeps=False) == 0


@pytest.mark.contract("C3")
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # Quiet from the beginning; keep-alives are no events.
        ([(4.5, KEEP_ALIVE), (6, KEEP_ALIVE)], 5),
        # Each message of the backlog begins the quiet time anew.
        ([(1, told(frame(10, 2000))), (5, told(frame(20, 6000))), (11, KEEP_ALIVE)], 10),
        # By the server's own clock: it was 1000 when we connected.
        ([(1, told(frame(10, 2000))), (2, told(frame(1000, 1500))), (3, told(frame(1001, 1502)))], 3),
        # A copy from before a crash comes first; what waited comes after it.
        ([(0.1, told(frame(10, 20))), *[(at, told(frame(500, 9000))) for at in range(1, 9)]], 13),
        # By ours where the server tells nothing.
        ([(1, told(frame(NOW))), (2, told(frame(NOW + 1)))], 2),
        # An event that does not end is none.
        ([(at, chunk(b"x")) for at in range(1, 9)], 5),
        # One that is too large is one.
        ([(1, told(b"x" * 20_000)), (8, KEEP_ALIVE)], 6),
        # What tells no time holds nothing up for ever.
        ([(1, told(b"[]")), (2, told(b"{}")), (8, KEEP_ALIVE)], 7),
        ([(at, told(frame())) for at in range(1, 700)], 600),
    ],
)
async def test_synchronised_when_what_waited_has_come_or_nothing_comes(
    autojump_clock: MockClock, steps: Sequence[tuple[float, bytes]], expected: float
) -> None:
    assert await sync_time([*steps, (steps[-1][0] + 6, KEEP_ALIVE)]) == expected


@pytest.mark.contract("C3")
@pytest.mark.parametrize(("account", "expected"), [(ACCOUNT, 2), (None, 12)])
async def test_a_new_message_of_one_account_says_nothing_about_another(
    autojump_clock: MockClock, account: str | None, expected: float
) -> None:
    """Of two accounts, one is up to date while what waited for the other still comes."""
    old = [(at, told(frame(10, 1000 + 1000 * at, account="+15550002"))) for at in (1, 4, 7)]
    new = [(at, told(frame(1000 + 1000 * at, 1000 + 1000 * at))) for at in (2, 3, 8, 9, 10, 11)]
    steps = sorted([*old, *new])
    assert await sync_time([*steps, (18, KEEP_ALIVE)], account=account) == expected


@pytest.mark.contract("C3")
async def test_synchronised_only_when_the_events_were_taken(autojump_clock: MockClock) -> None:
    daemon, syncing = Daemon(), Syncing()
    async with open_link(daemon) as link, trio.open_nursery() as nursery:

        async def answer() -> None:
            await daemon.read_request()
            await daemon.write(HEAD, told(frame(NOW + 1)))

        nursery.start_soon(answer)
        nursery.start_soon(syncing.run, link)
        assert len(await link.receive()) == 1
        await trio.sleep(1)
        assert syncing.at is None
        with trio.move_on_after(1):
            await link.receive()
        assert syncing.at == 1


@pytest.mark.parametrize(
    ("status", "kind", "has_left"),
    [
        (200, "text/event-stream", False),
        (200, "text/html", True),
        (404, "text/event-stream", True),
        (499, "", True),
        (500, "", False),
        (502, "", False),
        (503, "", True),
        (504, "", False),
    ],
)
def test_which_answers_prove_that_nothing_was_given(status: int, kind: str, has_left: bool) -> None:
    assert has_left_all(status, Headers([(b"Content-Type", kind.encode())])) == has_left


def test_what_gives_no_events_is_told_by_what_it_gave() -> None:
    address = parse_url("http://127.0.0.1:8080")
    error = read_refusal(address, None, 200, Headers([(b"Content-Type", b"text/html")]), None)
    assert "answered with 'text/html' where signal-cli's daemon gives events" in str(error)


@pytest.mark.parametrize(
    "spelled", [["Transfer-encoding"], ["Content-type"], ["Transfer-encoding", "Content-Type"]]
)
def test_half_of_the_jdks_spelling_is_not_the_daemons(spelled: list[str]) -> None:
    headers = Headers([(name.encode(), b"chunked") for name in spelled])
    assert not is_the_daemons(parse_url("http://127.0.0.1:8080"), headers)
