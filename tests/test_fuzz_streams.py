"""Streams that never end: what is held of them stays within the stated limits, however they are cut."""

import contextlib
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, repeat
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from tests.fuzz_examples import FRAMES, HUB_FRAMES
from tests.hubs import masked
from tests.peers import Dialled, Peer, Script, answers
from tests.test_sse import Counted
from trio_signal import AnswerError, RequestFailed, SignalError
from trio_signal._cli.lines import MAX_LINE, LineSplitter
from trio_signal._connections import Connections
from trio_signal._decoding import decode_frame
from trio_signal._http import Request, Unanswered, open_response
from trio_signal._websocket import open_websocket
from trio_signal.gateways._hub_frames import HubFrames
from trio_signal.gateways._rpc_results import FileReader
from trio_signal.gateways._sse import EventParser
from trio_signal.hub._exchange import HttpError
from trio_signal.hub._http import HttpConnection
from trio_signal.testing import MemoryStream, memory_connection, server_frame
from trio_signal.testing._frames import Opcode

KIB: Final = 1024

#: How much of each stream comes, and in which pieces: many times what may be held.
LENGTH: Final = 512 * KIB
PIECE: Final = 16 * KIB

#: The limit that is given to whatever has one.
LIMIT: Final = 8 * KIB

#: What may be held on top of the limit: pieces on their way through several hands, buffers of streams.
SLACK: Final = 300 * KIB


@contextmanager
def holding(most: int) -> Generator[None]:
    """Check that no more than so many bytes are ever held at once within a block, beyond those before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        held = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert held <= most, f"{held:,} bytes were held, over {most:,}"


def stream(shape: bytes, start: bytes = b"", *, length: int = LENGTH) -> Iterator[bytes]:
    """Give a beginning, and then one shape on and on; in pieces that cut it anywhere."""
    whole = shape * (PIECE // len(shape) + 2)
    return chain([start], (whole[n % len(shape) :][:PIECE] for n in range(0, length, PIECE)))


def test_more_than_may_be_held_is_noticed() -> None:
    with pytest.raises(AssertionError, match="bytes were held"), holding(LIMIT + SLACK):
        b"".join(stream(b"x"))


# --- Readers that are fed. ---

EVENTS: Final = {
    "a line of data": (b"x", b"event:receive\ndata:"),
    "lines of data": (b"data:x\n", b"event:receive\n"),
    "empty lines of data": (b"data\n", b"event:receive\n"),
    "a comment": (b"x", b":"),
    "comments": (b":\n", b""),
    "a name": (b"x", b"event:"),
    "a line without a name": (b"x", b""),
    "a field that nobody knows": (b"xy:z\r", b""),
    "blank lines": (b"\r\n", b""),
    "CRs": (b"\r", b""),
    "events": (b"event:receive\ndata:{}\n\n", b""),
    "events of another name": (b"event:x\ndata:{}\n\n", b""),
    "byte order marks": (b"\xef\xbb\xbf", b""),
    "noise": (bytes(range(256)), b""),
}


@pytest.mark.contract("R7")
@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", EVENTS)
def test_a_stream_of_events_without_an_end(name: str) -> None:
    parser = EventParser(LIMIT)
    with holding(3 * LIMIT + SLACK):
        for piece in stream(*EVENTS[name]):
            parser.feed(piece)
            assert len(parser._line) + len(parser._data) <= LIMIT + 64


@pytest.mark.threat("T2")
@pytest.mark.parametrize("shape", [b"x", b" ", b"{}\n" + b" " * 3000, b"\n" * 50 + b" " * 3000])
def test_standard_input_without_an_end(shape: bytes) -> None:
    splitter, count = LineSplitter(), 0
    with holding(4 * MAX_LINE + SLACK):
        for piece in stream(shape, length=3 * MAX_LINE):
            count += sum(len(line) > 0 for _, line in splitter.feed(piece))
            assert len(splitter._rest) <= MAX_LINE + 1
    assert (count == 0) is (b"{" not in shape)


@pytest.mark.threat("T2")
def test_a_line_that_comes_byte_by_byte_is_not_copied_again_and_again() -> None:
    splitter = LineSplitter()
    splitter._rest = counted = Counted()
    for _ in range(20 * KIB):
        assert list(splitter.feed(b"x")) == []
    assert counted.work <= 4 * 20 * KIB
    assert len(splitter._rest) == 20 * KIB


@pytest.mark.threat("T2")
@pytest.mark.parametrize(
    ("start", "shape"),
    [
        (b"", b" "),
        (b"", b"{"),
        (b'{"a":"', b"x"),
        (b'{"a":"', b"\\"),
        (b"{", b'"a":1,'),
        (b'{"result":{', b'"a":"b",'),
        (b'{"result":{"data":"', b"AAAA"),
        (b'{"result":{"data":""', b"x"),
    ],
)
def test_a_file_of_signal_cli_without_an_end(start: bytes, shape: bytes) -> None:
    reader, given = FileReader(), 0
    with holding(8 * PIECE + SLACK), contextlib.suppress(RequestFailed):
        for piece in stream(shape, start):
            given += len(reader.feed(piece))
            assert len(reader.head) <= 4096 + PIECE
    assert given <= LENGTH


@pytest.mark.contract("R7")
@pytest.mark.threat("T2")
@pytest.mark.parametrize(
    "frame", [*HUB_FRAMES[1:], b'{"type":"new"}', b"garbage", b'{"type":"gap","last":9}'], ids=range(12)
)
def test_a_hub_that_repeats_itself(frame: bytes) -> None:
    reader = HubFrames(None)
    reader.read(HUB_FRAMES[0], 5)
    with holding(SLACK), contextlib.suppress(SignalError):
        for number in range(1000):
            reader.read(frame.replace(b'"sequence_number": 3', b'"sequence_number": %d' % (number + 5)), 5)


@pytest.mark.threat("T2")
@pytest.mark.parametrize("shape", [b"[1],", b"9", b'{"a":1},', b"\\u0041", b"[", b"null,", b"1e9,"])
def test_a_frame_that_holds_much_costs_a_multiple_of_its_bytes(shape: bytes) -> None:
    """About 40 bytes for each, whatever is in it: the price of objects."""
    for start in (
        b'{"envelope":{"dataMessage":{"mentions":[',
        b'{"envelope":{"dataMessage":{"contacts":[{"a":[',
    ):
        frame = start + shape * (32 * KIB // len(shape))
        with holding(60 * len(frame)):
            decode_frame(frame + b"0]}}}")
            decode_frame(frame + b"0]}]}}}")


# --- Connections. ---

HEADS: Final = {
    "a target": (b"x", b"GET /"),
    "a header": (b"x", b"GET / HTTP/1.1\r\nX: "),
    "headers": (b"X: y\r\n", b"GET / HTTP/1.1\r\n"),
    "blanks": (b" ", b"GET / HTTP/1.1\r\nHost:"),
    "a method": (b"G", b""),
    "blank lines": (b"\r\n", b""),
    "a chunk": (b"x", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
    "chunks": (b"1\r\nx\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a chunk's size": (b"0", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a chunk's extension": (b"x", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"),
    "trailers": (b"X: y\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
    "a body": (b"x", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"),
    "requests": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 900 + b"\r\n\r\n", b""),
}


async def pour(peer: MemoryStream, parts: Iterator[bytes]) -> None:
    """Write until it is all written or nobody takes it any more."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for part in parts:
            await peer.send_all(part)
        await peer.send_eof()


@asynccontextmanager
async def pouring(parts: Iterator[bytes]) -> AsyncGenerator[MemoryStream]:
    """Give a connection on which so much comes."""
    peer, ours = memory_connection()
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour, peer, parts)
            try:
                yield ours
            finally:
                ours.close()
                nursery.cancel_scope.cancel()


@pytest.mark.contract("H7")
@pytest.mark.threat("T2", "T9")
@pytest.mark.parametrize("name", HEADS)
async def test_a_request_to_the_hub_without_an_end(autojump_clock: MockClock, name: str) -> None:
    async with pouring(stream(*HEADS[name])) as ours:
        connection = HttpConnection(ours)
        with holding(LIMIT + SLACK), contextlib.suppress(HttpError):
            while await connection.next_request() is not None:
                await connection.read_body(LIMIT, timeout=30)


REQUEST: Final = Request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
RESPONSES: Final = {
    "a status line": (b"x", b"HTTP/1.1 200 "),
    "a header": (b"x", OK + b"X: "),
    "headers": (b"X: y\r\n", OK),
    "informational answers": (b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 900 + b"\r\n\r\n", b""),
    "a body": (b"x", OK + b"Content-Length: 99999999\r\n\r\n"),
    "a body to the end": (b"x", OK + b"\r\n"),
    "a chunk": (b"x", CHUNKED + b"fffffff\r\n"),
    "chunks": (b"64\r\n" + b"x" * 100 + b"\r\n", CHUNKED),
    "a chunk's extension": (b"x", CHUNKED + b"1;"),
    "trailers": (b"X: y\r\n", CHUNKED + b"0\r\n"),
    "more behind the answer": (b"x", OK + b"Content-Length: 2\r\n\r\nok"),
    "what was packed": (b"\x1f\x8b\x08\x00", OK + b"Content-Encoding: gzip\r\n\r\n"),
}


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", RESPONSES)
async def test_an_answer_of_the_gateway_without_an_end(autojump_clock: MockClock, name: str) -> None:
    async with pouring(stream(*RESPONSES[name])) as ours:
        connections = Connections(repeated(ours))
        with trio.fail_after(3600), holding(2 * LIMIT + SLACK), contextlib.suppress(Unanswered, AnswerError):
            assert len((await connections.exchange(REQUEST, max_answer=LIMIT)).body) <= LIMIT


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", RESPONSES)
async def test_an_answer_that_is_read_as_it_comes_is_not_kept(autojump_clock: MockClock, name: str) -> None:
    async with pouring(stream(*RESPONSES[name])) as ours:
        with trio.fail_after(3600), holding(SLACK), contextlib.suppress(Unanswered):
            async with open_response(repeated(ours), REQUEST, lambda _: None) as response:
                async for _ in response:
                    pass


def repeated(ours: trio.abc.Stream) -> Callable[[], Any]:
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    return dial


def greets(shape: bytes, start: bytes = b"") -> Script:
    """Accept the handshake, and go on and on."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await pour(peer.stream, stream(shape, start))

    return script


GREETINGS: Final[dict[str, Script]] = {
    "an answer": answers(*stream(b"x", b"HTTP/1.1 101 ")),
    "headers": answers(*stream(b"X: y\r\n", b"HTTP/1.1 101 Switching Protocols\r\n")),
    "a refusal": answers(*stream(b"x", b"HTTP/1.1 400 Bad\r\nContent-Length: 99999999\r\n\r\n")),
    "a frame": greets(b"x", b"\x81\x7f" + (1 << 40).to_bytes(8, "big")),
    "fragments": greets(server_frame(b"x" * 50, 0, final=False), server_frame(b"x", final=False)),
    "empty fragments": greets(
        server_frame(b"", 0, final=False) + server_frame(b"x" * 125, Opcode.PING),
        server_frame(b"x", final=False),
    ),
    "pings": greets(server_frame(b"x" * 100, Opcode.PING)),
    "masked frames": greets(masked(b"x" * 100)),
}


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", GREETINGS)
async def test_a_websocket_of_the_gateway_without_an_end(
    autojump_clock: MockClock, nursery: trio.Nursery, name: str
) -> None:
    dialled = Dialled(nursery, GREETINGS[name])
    with trio.move_on_after(3600), holding(4 * LIMIT + SLACK), contextlib.suppress(SignalError):
        async with open_websocket(
            dialled.stream, host="x", resource="/", headers=(), max_message_size=LIMIT
        ) as link:
            while True:
                assert all(len(message) <= LIMIT for message in await link.receive())


# --- Much of what is good. ---


@pytest.mark.threat("T2")
def test_what_was_read_is_let_go() -> None:
    parser, read = EventParser(LIMIT), 0
    event = b"event:receive\ndata:" + FRAMES[0] + b"\n\n"
    with holding(SLACK):
        for piece in repeat(event * 10, 100):
            read += sum(isinstance(decode_frame(bytes(found)), object) for found in parser.feed(piece))
    assert read == 1000
