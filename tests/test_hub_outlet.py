"""The stream under a client's WebSocket: in memory, and on sockets of the kernel's."""

import gc
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import Frame, frames_in, until
from tests.scene import closing_within, settled
from trio_signal.hub._outlet import Outlet
from trio_signal.hub._protocol import text_frame
from trio_signal.testing import MemoryStream, memory_connection
from trio_signal.testing._frames import Opcode

SMALL = text_frame(b"[1]")
KIB = text_frame(b"x" * 1020)
assert len(KIB) == 1024


def numbered(count: int, size: int = 1000) -> list[bytes]:
    """Frames that can be told apart."""
    return [text_frame(b"%d." % number + b"x" * size) for number in range(count)]


def numbers_of(frames: list[Frame]) -> list[int]:
    return [int(frame.payload.partition(b".")[0]) for frame in frames if frame.opcode is Opcode.TEXT]


def in_memory(
    *,
    window: int = 64 * 1024,
    max_frames: int = 1000,
    max_bytes: int = 1 << 20,
    behind: bytes = b"",
) -> tuple[Outlet, MemoryStream]:
    """An outlet, and the client's end of its connection."""
    ours, theirs = memory_connection(window)
    outlet = Outlet(ours, behind=behind, max_frames=max_frames, max_bytes=max_bytes)
    return outlet, theirs


@asynccontextmanager
async def on_sockets(
    *, max_frames: int = 100_000, max_bytes: int = 1 << 26
) -> AsyncGenerator[tuple[Outlet, trio.SocketStream]]:
    """An outlet on a socket of the kernel's with a small buffer, and the client's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client_end = socket.create_connection(server.getsockname())
        server_end = server.accept()[0]
    server_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    ours, theirs = (trio.socket.from_stdlib_socket(end) for end in (server_end, client_end))
    client = trio.SocketStream(theirs)
    outlet = Outlet(trio.SocketStream(ours), max_frames=max_frames, max_bytes=max_bytes)
    try:
        yield outlet, client
    finally:
        await trio.aclose_forcefully(outlet)
        await trio.aclose_forcefully(client)


async def read_all(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
    """Read to the end."""
    while data := await stream.receive_some():
        into += data


async def read_frames(stream: trio.abc.ReceiveStream) -> list[Frame]:
    """Read to the end, which must not come within a frame."""
    buffer = bytearray()
    await read_all(stream, buffer)
    frames = list(frames_in(buffer))
    assert not buffer, "the connection ended within a frame"
    return frames


# --- the queue ---


@pytest.mark.contract("H7")
async def test_what_is_pushed_leaves_in_order_once_it_is_flushed(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    frames = numbered(300)
    assert all(outlet.push(frame) for frame in frames)
    assert outlet.has_work
    assert outlet.queued == 300
    assert outlet.queued_bytes == sum(map(len, frames))
    async with trio.open_nursery() as nursery:
        received = bytearray()
        nursery.start_soon(read_all, client, received)
        await outlet.flush()
        assert (outlet.queued, outlet.queued_bytes) == (0, 0)
        await outlet.aclose()
    assert bytes(received) == b"".join(frames)


@pytest.mark.contract("H7")
async def test_the_queue_is_bounded_in_frames() -> None:
    outlet, _ = in_memory(max_frames=3)
    assert [outlet.push(SMALL) for _ in range(5)] == [True, True, True, False, False]
    assert outlet.queued == 3


@pytest.mark.contract("H7")
async def test_the_queue_is_bounded_in_bytes() -> None:
    outlet, _ = in_memory(max_bytes=3 * 1024)
    assert [outlet.push(KIB) for _ in range(5)] == [True, True, True, False, False]
    assert outlet.queued_bytes == 3 * 1024
    assert not outlet.push(SMALL)


@pytest.mark.contract("H7")
async def test_a_frame_over_the_bound_waits_alone() -> None:
    outlet, _ = in_memory(max_bytes=1000)
    assert outlet.push(KIB)
    assert not outlet.push(SMALL)
    other, _ = in_memory(max_bytes=1000)
    assert other.push(SMALL)
    assert not other.push(KIB)


async def test_put_has_no_bound_for_who_flushes_behind_it() -> None:
    outlet, _ = in_memory(max_frames=1, max_bytes=1)
    outlet.put(SMALL)
    outlet.put(KIB)
    assert outlet.queued == 2


async def test_nothing_is_queued_for_nothing() -> None:
    outlet, _ = in_memory()
    outlet.put(b"")
    assert outlet.queued == 0
    assert not outlet.has_work


async def test_writes_are_joined_up_to_a_bound(autojump_clock: MockClock) -> None:
    sizes: list[int] = []

    class Noting(MemoryStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            sizes.append(len(data))
            await super().send_all(data)

    ours, _ = memory_connection(1 << 20)
    noting = Noting(ours._incoming, ours._outgoing)
    outlet = Outlet(noting, max_frames=1000, max_bytes=1 << 20)
    for size in (200_000, 60_000, 5_000, 600, *[1_000] * 50):
        outlet.push(b"x" * size)
    await outlet.flush()
    assert max(sizes) <= 64 * 1024
    assert sum(sizes) == 315_600
    assert len(sizes) <= 7


@pytest.mark.contract("H7")
async def test_a_large_frame_may_take_its_time_as_long_as_it_goes_on(autojump_clock: MockClock) -> None:
    outlet, client = in_memory(window=1024)
    frame = text_frame(b"x" * 12_000_000)
    outlet.put(frame)
    took = bytearray()

    async def read_slowly() -> None:
        while len(took) < len(frame):
            await trio.sleep(1 / 260)
            took.extend(await client.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly)
        await outlet.flush()
        assert trio.current_time() > 40
    assert bytes(took) == frame


@pytest.mark.contract("H7")
async def test_who_sends_waits_for_what_was_before_it_and_for_no_more(autojump_clock: MockClock) -> None:
    outlet, client = in_memory(window=1024)
    for _ in range(5):
        outlet.push(KIB)

    async def read_steadily() -> None:
        while True:
            await trio.sleep(1)
            await client.receive_some()
            # There is always more behind it, as for a live client that reads no faster than messages come.
            outlet.push(KIB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_steadily)
        await outlet.send_all(text_frame(b"last words"))
        assert 3 < trio.current_time() < 20
        nursery.cancel_scope.cancel()


async def test_whoever_asked_last_is_told_of_work(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    told: list[str] = []
    outlet.call_on_work(lambda: told.append("first"))
    assert told == []
    outlet.call_on_work(lambda: told.append("second"))
    assert outlet.push(SMALL)
    assert told == ["second"]
    outlet.call_on_work(lambda: told.append("third"))
    assert told == ["second", "third"], "there is some already"
    await outlet.flush()
    assert not outlet.has_work
    outlet.call_on_work(lambda: told.append("fourth"))
    assert await client.receive_some() == SMALL
    outlet.end(1012, "going down")
    assert told == ["second", "third", "fourth"]


# --- the receiving side ---


@pytest.mark.contract("H7")
async def test_what_was_read_before_is_given_out_first(autojump_clock: MockClock) -> None:
    outlet, client = in_memory(behind=b"behind")
    await client.send_all(b"more")
    assert await outlet.receive_some() == b"behind"
    assert await outlet.receive_some() == b"more"
    await client.aclose()
    assert await outlet.receive_some() == b""


@pytest.mark.contract("H7")
async def test_cancelling_who_reads_loses_nothing_of_what_was_read_before() -> None:
    outlet, _ = in_memory(behind=b"behind")
    with trio.CancelScope() as scope:
        scope.cancel()
        await outlet.receive_some()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        assert await outlet.receive_some() == b"behind"


@pytest.mark.contract("H7")
async def test_any_byte_counts_as_life(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    start = trio.current_time()
    assert outlet.last_received == start
    await trio.sleep(10)
    await client.send_all(b"x")
    await outlet.receive_some()
    assert outlet.last_received == start + 10


@pytest.mark.contract("H7")
async def test_who_sends_more_than_any_client_needs_to_is_not_listened_to_any_more(
    autojump_clock: MockClock,
) -> None:
    outlet, client = in_memory()
    await client.send_all(b"x" * 17_000)
    taken = 0
    with trio.move_on_after(5) as scope:
        while True:
            taken += len(await outlet.receive_some())
    assert scope.cancelled_caught
    assert 15_000 <= taken <= 17_000
    assert outlet.abusive
    assert outlet.ending == (1008, "more than any client needs to send")


@pytest.mark.contract("H7")
async def test_who_sent_too_much_stays_abusive_while_the_allowance_grows(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    await client.send_all(b"x" * 16_400)
    for wait in (0, 1):
        await trio.sleep(wait)
        with trio.move_on_after(0.1):
            while True:
                await outlet.receive_some()
        await client.send_all(b"a close frame")
    with trio.move_on_after(0.1) as scope:
        await outlet.receive_some()
    assert scope.cancelled_caught
    assert outlet.abusive


@pytest.mark.contract("H7")
async def test_the_allowance_grows_with_time(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    for _ in range(10 * 60):
        await trio.sleep(1)
        await client.send_all(b"x" * 32)
        assert await outlet.receive_some()
    assert not outlet.abusive


@pytest.mark.contract("H7")
async def test_the_allowance_is_not_saved_up(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    await trio.sleep(86_400)
    await client.send_all(b"x" * 17_000)
    with trio.move_on_after(5):
        while True:
            await outlet.receive_some()
    assert outlet.abusive


# --- a client that does not take what is sent ---


@pytest.mark.contract("H7")
async def test_a_flush_that_takes_nothing_off_for_30_s_gives_up(autojump_clock: MockClock) -> None:
    outlet, _ = in_memory(window=10)
    outlet.push(KIB)
    start = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match="nothing for 30 s"):
        await outlet.flush()
    assert trio.current_time() == start + 30


@pytest.mark.contract("H7")
async def test_the_end_waits_a_second_for_what_is_queued(autojump_clock: MockClock) -> None:
    outlet, client = in_memory(window=10)
    outlet.push(KIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.flush)
        await settled()
        await trio.sleep(3)
        outlet.end(1012, "going down")
        outlet.end(4008, "too late to say something else")
        ending = trio.current_time()
    assert trio.current_time() == ending + 1
    assert outlet.ending == (1012, "going down")
    await client.aclose()


@pytest.mark.contract("H7")
async def test_a_flush_that_begins_after_the_end_takes_a_second_at_most(autojump_clock: MockClock) -> None:
    outlet, _ = in_memory(window=10)
    outlet.push(KIB)
    outlet.end(1012, "going down")
    with closing_within(1.0):
        await outlet.flush()


@pytest.mark.contract("H10")
async def test_what_is_queued_leaves_before_the_end_if_the_client_takes_it(autojump_clock: MockClock) -> None:
    outlet, client = in_memory(window=1024)
    frames = numbered(50)
    for frame in frames:
        outlet.push(frame)
    outlet.end(1012, "going down")
    async with trio.open_nursery() as nursery:
        received = bytearray()
        nursery.start_soon(read_all, client, received)
        await outlet.flush()
        await outlet.aclose()
    assert bytes(received) == b"".join(frames)


async def test_the_end_can_give_up_what_is_queued() -> None:
    outlet, _ = in_memory()
    outlet.push(KIB)
    outlet.push(KIB)
    outlet.end(4008, "too slow", flush=False)
    assert (outlet.queued, outlet.queued_bytes) == (0, 0)
    assert outlet.has_work


async def test_cancelling_a_flush_closes_a_stream_of_which_nobody_knows_what_has_left(
    autojump_clock: MockClock,
) -> None:
    outlet, client = in_memory(window=10)
    outlet.push(KIB)
    with trio.move_on_after(1):
        await outlet.flush()
    with pytest.raises(trio.ClosedResourceError):
        await outlet.send_all(SMALL)
    buffer = bytearray()
    await read_all(client, buffer)
    assert bytes(buffer) == KIB[:10]


# --- closing ---


async def test_after_closing_nothing_is_written_and_nothing_fails(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    await outlet.aclose()
    await outlet.aclose()
    assert outlet.push(SMALL)
    assert outlet.queued == 0
    assert await client.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await outlet.send_all(SMALL)
    with pytest.raises(trio.ClosedResourceError):
        await outlet.receive_some()


async def test_closing_wakes_who_waits_and_is_done_even_if_cancelled(autojump_clock: MockClock) -> None:
    outlet, client = in_memory()
    woken = trio.Event()
    outlet.call_on_work(woken.set)
    with trio.CancelScope() as scope:
        scope.cancel()
        await outlet.aclose()
    assert woken.is_set()
    assert await client.receive_some() == b""


# --- on sockets: written to without waiting ---


@pytest.mark.contract("H7", "H8")
async def test_a_plain_socket_is_written_to_at_once() -> None:
    async with on_sockets() as (outlet, client):
        assert outlet.push(KIB)
        assert outlet.queued == 0
        assert not outlet.has_work
        assert await client.receive_some() == KIB


async def fill(outlet: Outlet, *, size: int = 5000, behind: int = 10) -> list[bytes]:
    """Push until the socket is full and some frames wait behind it."""
    frames: list[bytes] = []
    while outlet.queued < behind:
        frames.append(text_frame(b"%d." % len(frames) + b"x" * size))
        assert outlet.push(frames[-1])
    return frames


@pytest.mark.contract("H7")
async def test_nothing_is_written_at_once_while_something_is_queued() -> None:
    async with on_sockets() as (outlet, client):
        frames = await fill(outlet)
        assert outlet.write(SMALL) == 0
        received = bytearray(await client.receive_some(1 << 20))
        assert outlet.write(SMALL) == 0, "whatever the socket would take by now"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, client, received)
            await outlet.flush()
            await until(lambda: len(received) == sum(map(len, frames)))
            assert outlet.write(SMALL) == len(SMALL)
            await outlet.aclose()
        assert bytes(received) == b"".join([*frames, SMALL])
        assert outlet.write(SMALL) == len(SMALL), "what comes now is nobody's trouble"


@pytest.mark.contract("H7", "H8")
async def test_what_was_joined_is_queued_frame_by_frame_from_where_it_was_cut() -> None:
    async with on_sockets() as (outlet, client):
        frames = numbered(3, 1000)
        joined = b"".join(frames)
        taken = outlet.write(joined[:1500])
        assert outlet.keep(frames, taken)
        assert outlet.queued == 2
        assert outlet.queued_bytes == len(joined) - 1500
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, client, received)
            await outlet.flush()
            await outlet.aclose()
        assert bytes(received) == joined


@pytest.mark.contract("H7")
@pytest.mark.parametrize(("frames", "size"), [(3, 1 << 20), (1000, 3 * 1024)])
async def test_what_was_joined_has_the_same_bounds(frames: int, size: int) -> None:
    for taken, fits in [(0, False), (999, False), (1024, True), (1500, True), (4096, True)]:
        outlet, _ = in_memory(max_frames=frames, max_bytes=size)
        assert outlet.keep([KIB] * 4, taken) is fits


@pytest.mark.contract("H7")
async def test_what_a_full_socket_does_not_take_follows_in_order_and_uncut() -> None:
    async with on_sockets() as (outlet, client):
        frames = await fill(outlet)
        assert outlet.queued_bytes < sum(map(len, frames))
        async with trio.open_nursery() as nursery:
            received = bytearray()
            nursery.start_soon(read_all, client, received)
            await outlet.flush()
            assert (outlet.queued, outlet.queued_bytes) == (0, 0)
            outlet.push(SMALL)
            await outlet.flush()
            await outlet.aclose()
        assert bytes(received) == b"".join([*frames, SMALL])


@pytest.mark.contract("H7")
async def test_control_frames_wait_behind_what_is_queued() -> None:
    async with on_sockets() as (outlet, client):
        frames = await fill(outlet)
        async with trio.open_nursery() as nursery:
            outlet.put(b"\x8a\x00")
            outlet.put(b"\x8a\x01x")
            assert outlet.queued == 12
            nursery.start_soon(outlet.flush)
            received = bytearray()
            nursery.start_soon(read_all, client, received)
            await until(lambda: outlet.queued == 0)
            await outlet.aclose()
        whole = b"".join(frames)
        assert received.startswith(whole)
        assert {bytes(frame.payload) for frame in frames_in(received[len(whole) :])} == {b"", b"x"}


@pytest.mark.contract("H7")
@pytest.mark.parametrize("flushed", [False, True], ids=["by the push", "by a flush"])
async def test_a_half_written_frame_is_finished_before_the_close_frame(flushed: bool) -> None:
    cut = sum([await _slow_client(size, flushed=flushed) for size in (70_000, 150_000, 400_000)])
    assert cut, "a frame must have been cut for this to prove anything"


async def _slow_client(size: int, *, flushed: bool) -> int:
    """Give up a client whose socket is full; return how many frames of it had to be finished."""
    received = bytearray()
    async with on_sockets() as (outlet, client):
        frames = await fill(outlet, size=size, behind=10)
        while flushed and outlet.queued > (0 if not outlet._first_is_a_rest else 7):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outlet.flush)
                received += await client.receive_some(50_000)
                nursery.cancel_scope.cancel()
        waiting = outlet.queued
        outlet.end(4008, "too slow", flush=False)
        begun = outlet.queued
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.send_all, b"\x88\x02\x0f\xa8")
            await settled()
            nursery.start_soon(read_all, client, received)
            await until(lambda: not outlet.queued)
            await outlet.aclose()
    got = list(frames_in(received))
    assert not received, "what cannot be parsed"
    assert got[-1].code == 4008
    assert numbers_of(got) == list(range(len(frames) - waiting + begun)), "what waited was given up"
    return begun


@pytest.mark.contract("H7")
async def test_cancelling_a_flush_loses_nothing_on_a_plain_socket() -> None:
    async with on_sockets() as (outlet, client):
        frames = await fill(outlet)
        received = bytearray()
        while outlet.queued:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outlet.flush)
                    received += await client.receive_some(3000)
                    scope.cancel()
        await outlet.aclose()
        await read_all(client, received)
        assert bytes(received) == b"".join(frames)


@pytest.mark.contract("H7")
async def test_a_full_socket_is_given_up_after_30_s_without_progress(mock_clock: MockClock) -> None:
    async with on_sockets() as (outlet, client):
        await fill(outlet, behind=1000)
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outlet.flush)
                for _ in range(3):
                    await settled()
                    mock_clock.jump(29)
                    before = outlet.queued_bytes
                    while outlet.queued_bytes == before:
                        await client.receive_some(2000)
                        await trio.lowlevel.checkpoint()
                await settled()
                mock_clock.jump(31)


class Thief(trio.abc.Instrument):
    """Takes what has come just before the task that was woken for it."""

    def __init__(self, outlet: Outlet) -> None:
        self.victim = trio.lowlevel.current_task()
        self.socket = outlet._socket
        self.stolen = b""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.victim and not self.stolen and self.socket is not None:
            with suppress(BlockingIOError):
                self.stolen = self.socket.recv(1)


async def test_who_is_woken_for_nothing_goes_on_waiting() -> None:
    async with on_sockets() as (outlet, client), trio.open_nursery() as nursery:
        thief = Thief(outlet)

        async def talk() -> None:
            await client.send_all(b"x")
            await until(lambda: thief.stolen)
            await client.send_all(b"y")

        trio.lowlevel.add_instrument(thief)
        nursery.start_soon(talk)
        assert await outlet.receive_some() == b"y"
        assert thief.stolen == b"x"
        trio.lowlevel.remove_instrument(thief)


async def test_a_client_that_is_gone_is_no_error_for_who_pushes() -> None:
    async with on_sockets() as (outlet, client):
        await client.aclose()
        for _ in range(3):
            assert outlet.push(KIB)
        assert outlet.queued == 0


async def test_a_client_that_goes_while_its_socket_is_full_is_noticed_by_the_flush() -> None:
    async with on_sockets() as (outlet, client):
        await fill(outlet)
        await client.aclose()
        await outlet.flush()
        assert outlet.queued == 0


async def test_closing_while_somebody_flushes_ends_the_flush() -> None:
    async with on_sockets() as (outlet, _):
        await fill(outlet)
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outlet.flush)
                await settled()
                await outlet.aclose()


async def test_a_flush_after_closing_says_so() -> None:
    async with on_sockets() as (outlet, _):
        await fill(outlet)
        await outlet.aclose()
        assert outlet.push(SMALL)
        with pytest.raises(trio.ClosedResourceError):
            await outlet.flush()


async def test_the_descriptor_is_closed_once() -> None:
    async with on_sockets() as (outlet, _):
        stream = outlet._stream
        assert isinstance(stream, trio.SocketStream)
        number = stream.socket.fileno()
        await outlet.aclose()
        one, other = socket.socketpair()
        with one, other:
            assert number in (one.fileno(), other.fileno()), "the number belongs to another now"
            await outlet.aclose()
            del outlet, stream
            gc.collect()
            one.sendall(b"still open")
            assert other.recv(100) == b"still open"
