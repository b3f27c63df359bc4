"""Files that the hub hands through: whole or noticeably not, whoever stalls, and at nobody else's cost."""

import logging
import tracemalloc
from collections.abc import Sequence
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from tests.hub_upstream import (
    Upstream,
    answer,
    bytes_,
    chunks_of,
    hang,
    head_of,
    lose,
    open_hub_on_upstream,
)
from tests.hubs import Scene, Visitor, limits
from tests.scene import PEER, logged, settled
from trio_signal.hub._exchange import Answer, Stream, StreamBroken
from trio_signal.hub._http import HttpConnection
from trio_signal.hub._pace import chunk
from trio_signal.testing import memory_connection

PATH: Final = "/v1/attachments/a-file.jpg"
KIB: Final = 1024
DATA: Final = bytes(range(256)) * 1024  # 256 KiB

#: A request beside the download that must be answered at once.
BESIDE: Final = "/status"


def known(size: int, *pieces: bytes | float) -> tuple[bytes | float, ...]:
    """Return an answer of a known length, and whatever follows its head."""
    return (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % size, *pieces)


def chunked(*pieces: bytes | float) -> tuple[bytes | float, ...]:
    """Return an answer in chunks, as far as they go."""
    framed = [b"%x\r\n%b\r\n" % (len(p), p) if isinstance(p, bytes) else p for p in pieces]
    return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *framed)


LAST: Final = b"0\r\n\r\n"


async def ask(scene: Scene, target: str = PATH, **options: Any) -> Visitor:
    """Ask for a file and do not wait for anything."""
    visitor = await scene.visit(**options)
    await visitor.write(visitor.head(target))
    await settled()
    return visitor


# --- what comes ---


@pytest.mark.parametrize("step", [1000, 64 * KIB, len(DATA)])
async def test_a_file_comes_as_the_gateway_has_it(step: int, autojump_clock: MockClock) -> None:
    pieces = [DATA[start : start + step] for start in range(0, len(DATA), step)]
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(len(DATA), *pieces)))
        visitor = await scene.visit()
        reply = await visitor.ask(f"{PATH}?place=%2B15550002")
        assert (reply.status, reply.body) == (200, DATA)
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["content-disposition"] == "attachment"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"] == "sandbox"
        assert reply.headers["cache-control"] == "no-store"
        # The connection goes on.
        assert (await visitor.ask(BESIDE)).status == 200
        assert scene.hub.counters.downloads == {200: 1}


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_a_file_of_unknown_length_comes_in_chunks(size: int, autojump_clock: MockClock) -> None:
    pieces = [DATA[start : start + 7000] for start in range(0, size, 7000)]
    pieces = [piece[: size - 7000 * n] for n, piece in enumerate(pieces)]
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*chunked(*pieces), LAST))
        visitor = await ask(scene)
        status, headers = await head_of(visitor)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert "content-length" not in headers
        assert await chunks_of(visitor) == (DATA[:size], True)
        assert (await visitor.ask(BESIDE)).status == 200


async def test_an_empty_file_is_one(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(0)))
        reply = await scene.ask(PATH)
        assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


async def test_head_tells_the_length_and_takes_nothing(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(len(DATA), 1000.0)))
        visitor = await scene.visit()
        reply = await visitor.ask(PATH, "HEAD")
        assert (reply.status, reply.headers["content-length"], reply.body) == (200, str(len(DATA)), b"")
        await settled()
        assert (trio.current_time(), upstream.at_once) == (0, 0)
        assert (await visitor.ask(BESIDE)).status == 200


async def test_http_1_0_gets_what_has_a_known_length(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(3, b"abc")), bytes_(*chunked(b"abc"), LAST))
        for status, body in ((200, b"abc"), (505, None)):
            visitor = await scene.visit()
            await visitor.write(visitor.head(PATH).replace(b"HTTP/1.1", b"HTTP/1.0"))
            reply = await visitor.reply()
            assert reply.status == status
            assert body is None or reply.body == body
            assert await visitor.rest() == b""


# --- which file ---


@pytest.mark.threat("T7")
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a.jpg", "a.jpg"),
        ("%61.jpg", "a.jpg"),
        ("+a=b_c-d", "+a%3Db_c-d"),
        ("%2Ba", "+a"),
        ("a..b", "a..b"),
        ("a%3Fb", "a%3Fb"),
        ("a%23b", "a%23b"),
        ("%C3%A4", "%C3%A4"),
        ("a%20(b)%20%5B1%5D", "a%20%28b%29%20%5B1%5D"),
        ("%252e%252e", "%252e%252e"),
        ("%252F", "%252F"),
        ("*", "%2A"),
        ("x" * 255, "x" * 255),
        ("%C3%A4" * 127, "%C3%A4" * 127),
        ("..", None),
        ("%2e%2e", None),
        (".", None),
        ("%2e", None),
        ("a%2Fb", None),
        ("%2Fetc%2Fpasswd", None),
        ("..%2Fx", None),
        ("a%5Cb", None),
        ("a%00", None),
        ("a%0D%0AX:y", None),
        ("x" * 256, None),
        ("%C3%A4" * 128, None),
        ("x" * 3000, None),
        ("", None),
        ("a/b", None),
        ("../a", None),
    ],
)
async def test_only_what_can_be_a_file_is_asked_for(
    name: str, asked: str | None, autojump_clock: MockClock
) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        before = len(upstream.asked)
        upstream.script(f"/v1/attachments/{asked}", bytes_(*known(3, b"abc")))
        reply = await scene.ask(f"/v1/attachments/{name}")
        assert reply.status == (200 if asked else 404)
        paths = [request.path for request in upstream.asked[before:]]
        assert paths == ([f"/v1/attachments/{asked}"] if asked else [])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?place=%2B15550002", 200),
        ("?place=group.QUFB", 200),
        ("", 200),
        ("?place=+15550002", 422),
        ("?place=", 422),
        ("?place=Ada", 422),
        ("?place=%2B15550002&place=%2B15550002", 422),
        (f"?place={'x' * 2000}", 422),
        ("?place=%ff", 400),
    ],
)
async def test_the_place_is_somebody_who_can_be_written_to(
    query: str, status: int, autojump_clock: MockClock
) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(3, b"abc")))
        reply = await scene.ask(PATH + query)
        assert reply.status == status
        assert status != 422 or reply.error.startswith("place: ")


@pytest.mark.parametrize("status", [400, 404])
async def test_what_the_gateway_does_not_have_is_not_there(status: int, autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, answer(status, {"error": "No attachment with that id found"}))
        reply = await scene.ask(PATH)
        assert (reply.status, reply.error) == (404, "the gateway has no such file")


async def test_a_gateway_that_is_away_or_says_nothing(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, lose, answer(503, {"error": "busy"}), hang)
        for _ in range(2):
            reply = await scene.ask(PATH)
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert trio.current_time() == 0
        assert (await scene.ask(PATH)).status in (503, 504)
        assert trio.current_time() == 30
        upstream.refuses = True
        assert (await scene.ask(PATH)).status == 503
        assert upstream.at_once == 0


# --- what breaks off ---


BROKEN: Final[dict[str, tuple[tuple[bytes | float, ...], bytes, float]]] = {
    "it stalls": (known(100, b"abc", 1000.0), b"abc", 30),
    "it stalls at once": (known(100, 1000.0), b"", 30),
    "it stalls later": (known(100, b"a", 29.0, b"b", 29.0, b"c", 1000.0), b"abc", 88),
    "it ends": (known(100, b"abc"), b"abc", 0),
}


@pytest.mark.contract("H7")
@pytest.mark.parametrize("fault", BROKEN)
async def test_what_breaks_off_ends_short_of_its_length(
    fault: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    pieces, came, after = BROKEN[fault]
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*pieces))
        visitor = await ask(scene)
        assert (await scene.ask(BESIDE)).status == 200
        status, headers = await head_of(visitor)
        assert (status, headers["content-length"]) == (200, "100")
        assert await visitor.rest() == came
        assert trio.current_time() == after
        [warning] = logged(caplog.records, logging.WARNING)
        assert "a file broke off on its way" in warning
        await settled()
        assert upstream.at_once == 0


@pytest.mark.contract("H7")
@pytest.mark.parametrize("pieces", [(b"abc", 1000.0), (b"abc",), (b"abc", b"")])
async def test_what_breaks_off_lacks_its_last_chunk(
    pieces: Sequence[bytes | float], autojump_clock: MockClock
) -> None:
    framed = chunked(*[piece for piece in pieces if piece != b""])
    if b"" in pieces:
        framed = (*framed, b"no chunk\r\n")
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*framed))
        visitor = await ask(scene)
        assert (await head_of(visitor))[0] == 200
        assert await chunks_of(visitor) == (b"abc", False)
        assert trio.current_time() == (30 if 1000.0 in pieces else 0)


async def served(stream: Stream) -> bytes:
    """Return all that a peer gets of an answer with this body."""
    peer, ours = memory_connection()
    connection = HttpConnection(ours)
    await peer.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await connection.next_request()
    assert not await connection.send(Answer(200, stream), close=True)
    await ours.aclose()
    got = b""
    while data := await peer.receive_some():
        got += data
    return got.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("size", "pieces", "body"),
    [
        (4, [b"ab", b"", b"cd"], b"abcd"),
        (4, [b"ab", b"cde"], b"ab"),
        (4, [b"abcd", b"e"], b"abcd"),
        (4, [b"ab", StreamBroken()], b"ab"),
        (None, [b"ab", b"", b"c"], b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (None, [b"ab", StreamBroken()], b"2\r\nab\r\n"),
        (None, [], b"0\r\n\r\n"),
    ],
)
async def test_no_more_and_no_less_than_was_promised_goes_out(
    size: int | None, pieces: list[bytes | Exception], body: bytes, autojump_clock: MockClock
) -> None:
    class Pieces:
        def __init__(self) -> None:
            self.left = list(pieces)

        def __aiter__(self) -> "Pieces":
            return self

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            if not self.left:
                raise StopAsyncIteration
            piece = self.left.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece

    assert await served(Stream(size, Pieces())) == body
    assert chunk(b"") == []


# --- who takes it ---


@pytest.mark.contract("H7")
async def test_who_stops_reading_costs_the_hub_that_connection_only(autojump_clock: MockClock) -> None:
    large = 8 * KIB * KIB
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(large, *[DATA] * (large // len(DATA)))))
        tracemalloc.start()
        try:
            visitor = await ask(scene, window=KIB)
            assert tracemalloc.get_traced_memory()[1] < 4 * len(DATA), "what is on its way, not the file"
        finally:
            tracemalloc.stop()
        assert upstream.at_once == 1
        assert (await scene.ask(BESIDE)).status == 200
        assert trio.current_time() == 0
        await trio.sleep(31)
        assert upstream.at_once == 0
        assert len(await visitor.rest()) <= KIB


@pytest.mark.contract("H7")
@pytest.mark.parametrize("pause", [0.25, 1])
async def test_who_reads_a_little_now_and_then_is_cut_off_too(
    pause: float, autojump_clock: MockClock
) -> None:
    """Each piece may take its time, all of them together may not."""
    large = 8 * KIB * KIB
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(large, *[DATA] * (large // len(DATA)))))
        visitor = await ask(scene, window=KIB)
        while await visitor.more(KIB):  # noqa: ASYNC110  (it is slow, and waits for nothing)
            await trio.sleep(pause)
        assert trio.current_time() < 70
        assert upstream.at_once == 0


async def test_a_slow_gateway_is_not_the_fault_of_who_asks(autojump_clock: MockClock) -> None:
    pieces = [piece for n in range(200) for piece in (DATA[n : n + 1], 25.0)]
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(200, *pieces)))
        reply = await scene.ask(PATH)
        assert reply.body == DATA[:200]
        assert trio.current_time() > 199 * 25 - 1


@pytest.mark.parametrize("reset", [False, True])
async def test_who_is_gone_is_noticed_with_the_next_piece(reset: bool, autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(PATH, bytes_(*known(100, b"a", 5.0, b"b", 5.0, b"c", 1000.0)))
        visitor = await ask(scene)
        visitor.vanish(reset=reset)
        await trio.sleep(6)
        assert upstream.at_once == 0


async def stalled(scene: Scene, upstream: Upstream, subject: str) -> Visitor:
    """Ask for a file that never comes whole."""
    upstream.script(PATH, bytes_(*known(100, b"a", 1000.0)))
    visitor = await ask(scene, token=scene.token(subject))
    assert (await head_of(visitor))[0] == 200
    return visitor


@pytest.mark.contract("H12")
async def test_one_subject_leaves_files_for_the_others(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream(limits=limits(max_downloads=8)) as (scene, upstream):
        for _ in range(2):
            await stalled(scene, upstream, "greedy")
        refused = await (await scene.visit(token=scene.token("greedy"))).ask(PATH)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        for subject in ("a", "a", "b", "b", "c", "c"):
            await stalled(scene, upstream, subject)
        assert (await (await scene.visit(token=scene.token("d"))).ask(PATH)).status == 429
        assert upstream.at_once == 8
        assert trio.current_time() == 0
        await trio.sleep(31)
        upstream.script(PATH, bytes_(*known(3, b"abc")))
        assert (await (await scene.visit(token=scene.token("greedy"))).ask(PATH)).body == b"abc"


async def test_a_refusal_takes_no_place(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream(limits=limits(max_downloads=4)) as (scene, upstream):
        upstream.script(PATH, *[answer(404)] * 5, bytes_(*known(3, b"abc")))
        visitor = await scene.visit()
        for _ in range(5):
            assert (await visitor.ask(PATH)).status == 404
        assert (await visitor.ask(PATH)).body == b"abc"


async def test_sends_go_on_beside_a_file(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        await stalled(scene, upstream, "somebody")
        body = b'{"recipients":["%b"],"message":"hi"}' % PEER.encode()
        assert (await scene.ask("/v2/send", "POST", body=body)).status == 201
        typing = b'{"operation":"SendTyping","recipient":"%b"}' % PEER.encode()
        assert (await scene.ask("/v1/operations", "POST", body=typing)).status == 200
        assert trio.current_time() == 0


@pytest.mark.contract("H10")
async def test_a_hub_that_goes_down_waits_for_no_file(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        visitor = await stalled(scene, upstream, "somebody")
        scene.hub.shutdown()
        assert await visitor.rest() == b"a"
        assert trio.current_time() <= 5
        await scene.finished.wait()
        assert upstream.at_once == 0
