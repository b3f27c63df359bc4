"""A plain socket, read and written without the layers of Trio's streams: nothing is lost or hidden."""

import socket
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import open_hub
from trio_signal.hub._direct import Direct
from trio_signal.hub._http import Answer, HttpConnection
from trio_signal.testing import memory_connection

GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def connected() -> tuple[socket.socket, trio.SocketStream]:
    """Return a peer's blocking socket and a stream on ours."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    peer.settimeout(5.0)
    ours.setblocking(False)
    return peer, trio.SocketStream(trio.socket.from_stdlib_socket(ours))


async def test_what_comes_is_read_and_what_is_written_comes() -> None:
    peer, stream = connected()
    direct = Direct(stream)
    with peer:
        peer.sendall(b"hello")
        assert await direct.read(3) == b"hel"
        assert await direct.read(100) == b"lo"
        assert direct.write(b"answer") == 6
        assert peer.recv(100) == b"answer"
    assert await direct.read(100) == b""
    await stream.aclose()


async def test_it_takes_what_the_socket_takes_and_no_more() -> None:
    peer, stream = connected()
    direct, taken = Direct(stream), 0
    while size := direct.write(b"x" * 1_000_000):
        taken += size
    assert taken % 1_000_000 != 0
    assert direct.write(b"x") == 0
    with peer:
        while taken:
            taken -= len(peer.recv(1_000_000))
    await stream.aclose()


async def test_waiting_can_be_cancelled_and_loses_nothing() -> None:
    peer, stream = connected()
    direct = Direct(stream)
    with trio.move_on_after(0) as scope:
        await direct.read(100)
    assert scope.cancelled_caught
    with peer:
        peer.sendall(b"still here")
        assert await direct.read(100) == b"still here"
    await stream.aclose()


@pytest.mark.contract("H7")
@pytest.mark.parametrize("how", ["reset", "closed by ourselves", "closed before"])
async def test_however_a_connection_ends_it_is_an_end(how: str) -> None:
    peer, stream = connected()
    direct = Direct(stream)
    with peer:
        async with trio.open_nursery() as nursery:
            if how == "reset":
                # Linger of 0 s: a close sends RST.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.close()
            elif how == "closed before":
                await stream.aclose()
            else:
                nursery.start_soon(close_soon, stream)
            assert await direct.read(100) == b""
        assert direct.write(b"x") == 0
    await stream.aclose()


async def close_soon(stream: trio.SocketStream) -> None:
    await trio.testing.wait_all_tasks_blocked()
    await stream.aclose()


async def test_another_stream_is_used_as_it_is() -> None:
    peer, ours = memory_connection()
    direct = Direct(ours)
    assert direct.write(b"x") == 0
    await peer.send_all(b"hello")
    assert await direct.read(100) == b"hello"
    peer.reset()
    assert await direct.read(100) == b""


@pytest.mark.contract("H7")
async def test_who_does_not_read_gets_the_whole_answer_once_it_does() -> None:
    peer, stream = connected()
    connection = HttpConnection(stream)
    body = bytes(range(256)) * 80_000  # more than all buffers on the way
    received = bytearray()

    async def read() -> None:
        await trio.testing.wait_all_tasks_blocked()
        while data := await trio.to_thread.run_sync(peer.recv, 1_000_000):
            received.extend(data)

    with peer:
        peer.sendall(GET)
        assert await connection.next_request() is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            assert await connection.send(Answer(200, body))
            await stream.aclose()
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest == body


async def test_a_long_answer_lets_others_run_though_all_of_it_is_taken() -> None:
    peer, stream = connected()
    connection, turns = HttpConnection(stream, answer_timeout=1.0), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    with peer:
        peer.sendall(GET)
        assert await connection.next_request() is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            assert await connection.send(Answer(200, [b"x" * 40_000] * 2))
            nursery.cancel_scope.cancel()
    assert turns >= 1
    await stream.aclose()


@pytest.mark.contract("H7")
async def test_silence_ends_a_connection_and_work_does_not(autojump_clock: MockClock) -> None:
    """10 s after connecting, 60 s after an answer, as each wait's own limit did."""
    async with open_hub() as scene:
        silent = await scene.visit()
        assert not await silent.more()
        assert trio.current_time() == 10
        visitor = await scene.visit()
        await trio.sleep(9)
        assert (await visitor.ask("/healthz")).status == 200
        await trio.sleep(50)
        assert (await visitor.ask("/healthz")).status == 200
        start = trio.current_time()
        assert not await visitor.more()
        assert trio.current_time() == start + 60
