"""Files from signal-cli-rest-api and from a hub: whole, or an error; never a short one."""

import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.peers import Dialled, Peer
from trio_signal import (
    AnswerError,
    Certainty,
    ConfigurationError,
    LinkLost,
    Reason,
    RequestFailed,
    Unsupported,
)
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal.gateways import AttachmentRef, Download
from trio_signal.gateways._http_gateway import HttpGateway
from trio_signal.gateways._requests import Requests
from trio_signal.gateways.hub import HubGateway
from trio_signal.gateways.rest import RestGateway

ACCOUNT: Final = "+15550001"
PEER: Final = "+15550002"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
URL: Final = "http://gateway.example:8080/base"
FILE: Final = bytes(range(256)) * 4
REF: Final = AttachmentRef("x1.jpg", PEER)

Script = Callable[[Peer], Awaitable[None]]


class Broken:
    """An HTTP client that nothing may go through."""

    def stream(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a download goes over a connection of its own")


class Scene:
    """A way to a gateway whose connections follow a script."""

    def __init__(self, nursery: trio.Nursery, kind: str, script: Script) -> None:
        self._nursery = nursery
        self._script = script
        self.connections: list[Dialled] = []
        self.refuses = False
        address = parse_url(URL)
        requests = Requests(
            address,
            Credentials((("X-Key", "s3cret"),), None, address.authorization),
            connect=self._connect,
            ssl_context=None,
            http_client=Broken(),
            send_timeout=60.0,
        )
        limits: dict[str, Any] = {"ping_interval": 10.0, "pong_timeout": 5.0, "max_message_size": 1 << 20}
        self.route: HttpGateway = (
            RestGateway(requests, ACCOUNT, **limits)
            if kind == "rest"
            else HubGateway(requests, ACCOUNT, now=lambda: 0, **limits)
        )

    async def _connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise ConnectionRefusedError("nobody is there")
        self.connections.append(Dialled(self._nursery, self._script))
        return self.connections[-1].stream

    def download(
        self, ref: AttachmentRef = REF, limit: float = 10.0
    ) -> AbstractAsyncContextManager[Download]:
        return self.route.download(ref, account=ACCOUNT, limit=limit)

    async def whole(self) -> bytes:
        async with self.download() as download:
            return b"".join([piece async for piece in download])

    async def failure(self) -> RequestFailed:
        with pytest.raises(RequestFailed) as caught:
            await self.whole()
        assert caught.value.certainty is Certainty.NOT_SENT
        return caught.value

    @property
    def head(self) -> str:
        """What was asked, in one line."""
        (connection,) = self.connections
        return connection.peer.head.decode("latin-1")


@pytest.fixture(params=["rest", "hub"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kinds of gateway that download in the same way."""
    assert isinstance(request.param, str)
    return request.param


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode()


def says(*parts: bytes, then: str = "stay", every: float = 0.0) -> Script:
    """Answer with these bytes, one part each so many seconds."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        for part in parts:
            await trio.sleep(every)
            await peer.stream.send_all(part)
        if then == "end":
            await peer.stream.send_eof()
        elif then == "reset":
            peer.stream.reset()
        else:
            # Whatever else comes is the end.
            assert not await peer.stream.receive_some()

    return script


WHOLE: Final = head(f"Content-Length: {len(FILE)}", "Content-Type: image/jpeg") + FILE


@asynccontextmanager
async def scene(kind: str, *parts: bytes, **options: Any) -> AsyncGenerator[Scene]:
    """Open a way to a gateway that says this on each connection, for an hour by Trio's clock."""
    with trio.fail_after(3600):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            yield Scene(nursery, kind, says(*parts, **options))
            nursery.cancel_scope.cancel()


@pytest.mark.contract("A1")
async def test_a_file_comes_whole_with_its_size(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, WHOLE) as here:
        async with here.download() as download:
            assert download.size == len(FILE)
            assert b"".join([piece async for piece in download]) == FILE
        target = "/base/v1/attachments/x1.jpg" + ("" if kind == "rest" else "?place=%2B15550002")
        assert here.head.startswith(f"GET {target} HTTP/1.1\r\n")
        assert "x-key: s3cret\r\n" in here.head.lower()
        assert "accept-encoding: identity\r\n" in here.head.lower()


async def test_a_file_may_be_large_and_slow_as_long_as_it_comes(autojump_clock: MockClock, kind: str) -> None:
    parts = [FILE] * 300
    async with scene(kind, head(f"Content-Length: {300 * len(FILE)}"), *parts, every=9.0) as here:
        assert await here.whole() == FILE * 300


async def test_a_slow_reader_is_no_silent_gateway(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, WHOLE) as here, here.download(limit=1) as download:
        await trio.sleep(100)
        got = b""
        async for piece in download:
            got += piece
            await trio.sleep(100)
        assert got == FILE


async def test_an_empty_file_is_a_file(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, head("Content-Length: 0")) as here:
        assert await here.whole() == b""


@pytest.mark.parametrize("ending", ["5\r\nhello\r\n0\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"])
async def test_chunks_have_no_size_beforehand(autojump_clock: MockClock, kind: str, ending: str) -> None:
    async with scene(kind, head("Transfer-Encoding: chunked") + ending.encode()) as here:
        async with here.download() as download:
            assert download.size is None
            assert b"".join([piece async for piece in download]) == b"hello"


async def test_a_file_that_somebody_packed_on_the_way_is_refused(
    autojump_clock: MockClock, kind: str
) -> None:
    packed = gzip.compress(FILE)
    async with scene(kind, head(f"Content-Length: {len(packed)}", "Content-Encoding: gzip") + packed) as here:
        assert "the file came packed ('gzip')" in str(await here.failure())


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    "parts",
    [
        (WHOLE[:-1],),
        (WHOLE[: -len(FILE)],),
        (head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n",),
        (head("Transfer-Encoding: chunked") + b"5\r\nhel",),
        (head("Transfer-Encoding: chunked") + b"no number\r\nhello",),
        (b"",),
        (b"\x00\x01 no HTTP\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
    ],
)
@pytest.mark.parametrize("then", ["end", "reset"])
async def test_a_file_that_does_not_come_whole_is_an_error(
    autojump_clock: MockClock, kind: str, parts: tuple[bytes, ...], then: str
) -> None:
    async with scene(kind, *parts, then=then) as here:
        failed = await here.failure()
        assert isinstance(failed.error, LinkLost)
        assert failed.error.reason is Reason.CONNECTION_LOST
        assert "nothing was done" in str(failed)


@pytest.mark.contract("A1")
@pytest.mark.parametrize("parts", [(), (b"HTTP/1.1 200 OK\r\n",), (WHOLE[:-1],), (head(status=404),)])
async def test_a_gateway_that_falls_silent_is_left_in_time(
    autojump_clock: MockClock, kind: str, parts: tuple[bytes, ...]
) -> None:
    async with scene(kind, *parts) as here:
        start = trio.current_time()
        failed = await here.failure()
        assert trio.current_time() - start == pytest.approx(10)
        assert isinstance(failed.error, LinkLost)
        assert failed.error.reason is Reason.NO_ANSWER
        assert "said nothing for 10 s" in str(failed)


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"error":"No attachment with that name found"}', "No attachment with that name found"),
        (400, b'{"error":"Please provide a valid attachment name"}', "valid attachment name"),
        (401, b"", "HTTP 401"),
        (403, b"", "HTTP 403"),
        (500, b'{"error":"Couldn\'t read attachment"}', "read attachment"),
        (503, b"<h1>later</h1>", "HTTP 503"),
        (302, b"", "HTTP 302"),
        (429, b"x" * 200_000, "HTTP 429"),
    ],
)
async def test_a_refusal_is_told_in_the_gateways_words(
    autojump_clock: MockClock, kind: str, status: int, body: bytes, words: str
) -> None:
    async with scene(kind, head(f"Content-Length: {len(body)}", status=status) + body) as here:
        failed = await here.failure()
        assert isinstance(failed.error, AnswerError)
        assert failed.error.status == status
        assert words in str(failed)


@pytest.mark.parametrize("status", [201, 204, 206])
async def test_another_success_is_no_file(autojump_clock: MockClock, kind: str, status: int) -> None:
    async with scene(kind, head("Content-Length: 0", status=status)) as here:
        assert f"HTTP {status} brings no file" in str(await here.failure())


async def test_a_gateway_that_is_not_there_has_done_nothing(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind) as here:
        here.refuses = True
        assert "nobody is there" in str(await here.failure())


async def test_a_hub_whose_gateway_keeps_no_files_says_so(autojump_clock: MockClock) -> None:
    body = b'{"error":"the gateway behind cannot","certainty":"not_sent","unsupported":true}'
    async with scene("hub", head(f"Content-Length: {len(body)}", status=501) + body) as here:
        with pytest.raises(Unsupported, match="the gateway behind cannot"):
            await here.whole()


@pytest.mark.threat("T7")
async def test_the_place_of_a_group_is_escaped(autojump_clock: MockClock) -> None:
    async with scene("hub", WHOLE) as here:
        async with here.download(AttachmentRef("a+b=.jpg", GROUP)) as download:
            assert download.size
        place = GROUP.replace("=", "%3D")
        assert here.head.startswith(f"GET /base/v1/attachments/a+b%3D.jpg?place={place} HTTP/1.1\r\n")


@pytest.mark.threat("T7")
async def test_whatever_a_file_is_called_is_escaped(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, WHOLE) as here:
        async with here.download(AttachmentRef("a.b (1) [ä]?x=1#%2F&", PEER)) as download:
            assert download.size
        target = here.head.split(" ")[1]
        path = "/base/v1/attachments/a.b%20%281%29%20%5B%C3%A4%5D%3Fx%3D1%23%252F%26"
        assert target.removesuffix("?place=%2B15550002") == path


@pytest.mark.contract("A1")
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\\b", "a\n", "a\0", "\ud800", "x" * 256])
async def test_what_is_no_id_is_refused_before_anything_is_asked(
    autojump_clock: MockClock, kind: str, name: str
) -> None:
    async with scene(kind) as here:
        with pytest.raises(ConfigurationError):
            async with here.download(AttachmentRef(name, PEER)):
                pytest.fail("it was opened")
        assert not here.connections


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("parts", [(WHOLE[:-1],), (head("Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 5,)])
async def test_leaving_half_way_closes_the_connection(
    autojump_clock: MockClock, kind: str, pieces: int, parts: tuple[bytes, ...]
) -> None:
    async with scene(kind, *parts) as here:
        async with here.download() as download:
            steps = aiter(download)
            for _ in range(pieces):
                await anext(steps)
        (connection,) = here.connections
        with trio.fail_after(1):
            await connection.finished.wait()


async def test_a_cancelled_download_closes_the_connection(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, WHOLE[:-1]) as here:
        with trio.move_on_after(5) as scope:
            await here.whole()
        assert scope.cancelled_caught
        (connection,) = here.connections
        with trio.fail_after(1):
            await connection.finished.wait()


async def test_an_error_of_the_readers_own_goes_through(autojump_clock: MockClock, kind: str) -> None:
    async with scene(kind, WHOLE) as here:
        with pytest.raises(httpx.ReadError, match="mine"):
            async with here.download():
                raise httpx.ReadError("mine")
