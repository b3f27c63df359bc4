"""Who gets in: how many at once, TLS, and that nobody's trouble becomes another's."""

import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.hubs import Visitor, limits, masked, open_hub, open_real_hub, trusting
from tests.scene import closing_within, connected, living_tasks, logged, open_gateway, settled
from trio_signal import ConfigurationError
from trio_signal.hub import serve_hub
from trio_signal.hub._door import Door, Visit
from trio_signal.hub._status import HubCounters
from trio_signal.testing import MemoryListener, MemoryStream, memory_connection
from trio_signal.testing._frames import Opcode


class Hall:
    """A door behind which everybody waits until the end of their connection."""

    def __init__(self, nursery: trio.Nursery, *, max_pending: int = 3, max_admitted: int = 2) -> None:
        self.counters = HubCounters()
        self.visits: list[Visit] = []
        self.door = Door(self._serve, None, self.counters, max_pending=max_pending, max_admitted=max_admitted)
        self._nursery = nursery

    async def _serve(self, stream: trio.abc.Stream, visit: Visit) -> None:
        self.visits.append(visit)
        while await stream.receive_some():
            pass

    async def enter(self) -> tuple[MemoryStream, Visit]:
        """Come in; give the client's end and what the door knows of it."""
        ours, theirs = memory_connection()
        self._nursery.start_soon(self.door._handle, theirs)
        await settled()
        return ours, self.visits[-1]


async def is_open(stream: MemoryStream) -> bool:
    """Say whether the hub has not ended it."""
    with trio.move_on_after(1):
        await stream.receive_some()
        return False
    return True


# --- how many at once ---


@pytest.mark.contract("H7", "H10")
async def test_who_is_being_answered_stays_while_others_are_idle(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery)
        visitors = [await hall.enter() for _ in range(3)]
        visitors[0][1].is_at_work = True
        visitors.append(await hall.enter())
        assert [await is_open(stream) for stream, _ in visitors] == [True, False, True, True]
        hall.door.close_idle()
        assert [await is_open(stream) for stream, _ in visitors] == [True, False, False, False]
        nursery.cancel_scope.cancel()


@pytest.mark.contract("H7")
async def test_of_those_who_are_all_being_answered_the_oldest_ends(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery)
        visitors = [await hall.enter() for _ in range(3)]
        for _, visit in visitors:
            visit.is_at_work = True
        visitors.append(await hall.enter())
        assert [await is_open(stream) for stream, _ in visitors] == [False, True, True, True]
        nursery.cancel_scope.cancel()


@pytest.mark.contract("H7")
async def test_one_stranger_too_many_ends_the_oldest(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery)
        streams = [(await hall.enter())[0] for _ in range(5)]
        assert [await is_open(stream) for stream in streams] == [False, False, True, True, True]
        assert hall.counters.accepted_connections == 5
        nursery.cancel_scope.cancel()


@pytest.mark.contract("H7")
async def test_who_is_admitted_is_no_stranger_any_more(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery)
        inside = [await hall.enter() for _ in range(2)]
        assert [visit.admit() for _, visit in inside] == [True, True]
        outside = [await hall.enter() for _ in range(4)]
        assert [await is_open(stream) for stream, _ in inside] == [True, True]
        assert [await is_open(stream) for stream, _ in outside] == [False, True, True, True]
        assert not outside[-1][1].admit(), "full"
        inside[0][0].close()
        await settled()
        assert outside[-1][1].admit(), "a place is free again"
        nursery.cancel_scope.cancel()


@pytest.mark.contract("H7")
async def test_who_is_released_waits_outside_as_the_youngest(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery)
        idle, visit = await hall.enter()
        visit.admit()
        others = [(await hall.enter())[0] for _ in range(3)]
        visit.release()
        visit.release()
        assert [await is_open(stream) for stream in (idle, *others)] == [True, False, True, True]
        late = await hall.enter()
        assert [await is_open(stream) for stream in (idle, *others[1:], late[0])] == [True, False, True, True]
        nursery.cancel_scope.cancel()


async def test_a_place_is_given_back_however_the_connection_ends(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hall = Hall(nursery, max_admitted=1)
        for how in ("close", "reset", "cancel"):
            stream, visit = await hall.enter()
            assert visit.admit()
            if how == "cancel":
                visit.scope.cancel()
            else:
                getattr(stream, how)()
            await settled()
        stream, _ = await hall.enter()
        stream.close()
        await settled()
        assert hall.door._admitted == set()
        assert hall.door._pending == {}
        nursery.cancel_scope.cancel()


async def test_who_has_been_answered_waits_outside_again(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_connections=1)) as scene:
        visitors = [await scene.visit() for _ in range(3)]
        for _ in range(3):
            for visitor in visitors:
                assert (await visitor.ask("/status")).status == 200
                await settled()
        assert (await visitors[0].upgrade()).status == 101
        refused = await visitors[1].ask("/status")
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert (await visitors[1].ask("/healthz")).status == 200, "which needs no place"
        await visitors[0].write(masked(b"", Opcode.CLOSE))
        await visitors[0].rest()
        await settled()
        assert (await visitors[1].ask("/status")).status == 200


@pytest.mark.contract("H7")
async def test_who_leaves_takes_nobody_along(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_pending=1)) as scene:
        leaving = await scene.visit()
        await leaving.open()
        staying = await scene.visit()
        await settled()
        await leaving.write(masked(b"", Opcode.CLOSE))
        await leaving.rest()
        await settled()
        assert (await staying.ask("/status")).status == 200


@pytest.mark.threat("T8")
@pytest.mark.contract("H7")
async def test_a_flood_of_strangers_does_not_keep_out_who_has_a_token(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_pending=10)) as scene, trio.open_nursery() as nursery:
        before = scene.hub.counters.accepted_connections

        async def flood() -> None:
            while True:
                for _ in range(5):
                    await (await scene.visit(token=None)).write(b"GET ")
                await trio.sleep(0.1)

        for _ in range(3):
            nursery.start_soon(flood)
        subscriber = await scene.subscribe()
        for number in range(1, 20):
            await trio.sleep(1)
            scene.tell()
            assert (await scene.messages(0))["head"] == number
        await subscriber.wait_for(19)
        assert scene.hub.counters.accepted_connections - before > 2000
        nursery.cancel_scope.cancel()


@pytest.mark.threat("T8")
@pytest.mark.contract("H7")
async def test_a_crowd_from_one_address_costs_nobody_else_a_place(mock_clock: MockClock) -> None:
    """Even who is slow to show a token stays: those leave first of whom there are most."""
    async with open_real_hub(limits=limits(max_pending=5)) as scene:
        far = await trio.open_tcp_stream(*scene.hub.address, local_address="127.0.0.2")
        honest = await scene.visit(stream=far)
        head = honest.head("/status")
        await honest.write(head[:10])
        crowd = [await scene.visit(token=None) for _ in range(20)]
        for visitor in crowd[:-4]:
            assert await visitor.rest() == b"", "the oldest of the crowd are gone"
        await honest.write(head[10:])
        assert (await honest.reply()).status == 200


# --- trouble ---


class Odd(trio.abc.Stream):
    """A stream that fails as no stream should."""

    def __init__(self) -> None:
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError("odd")

    async def wait_send_all_might_not_block(self) -> None:
        raise RuntimeError("odd")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("odd")

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@pytest.mark.contract("H7")
async def test_an_error_that_nobody_thought_of_costs_its_connection_and_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    odd, listener = Odd(), MemoryListener()
    listener._door.send_nowait(odd)  # type: ignore[arg-type]
    async with open_hub(listeners=[listener], secured=False) as scene:
        await settled()
        assert odd.closed
        visitor = Visitor(await listener.connect(), "127.0.0.1", None)
        assert (await visitor.ask("/healthz")).status == 200
        assert scene.hub.counters.accepted_connections == 2
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)


# --- TLS ---


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What the client uses, and the hub."""
    authority: Any = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return client, server


@pytest.mark.contract("H2", "H4", "H10")
async def test_everything_works_over_tls(
    autojump_clock: MockClock, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, server = contexts
    async with open_hub(ssl_context=server) as scene:
        assert scene.hub.url.startswith("https://")
        scene.tell(300)
        subscriber = await scene.subscribe(
            "/websocket?since=0", stream=trusting(client, await scene.dial(window=4096))
        )
        await subscriber.wait_for(300)
        for _ in range(300):
            scene.tell()
        await subscriber.wait_for(600)
        visitor = await scene.visit(stream=trusting(client, await scene.dial()))
        for _ in range(3):
            recovered = (await visitor.ask("/websocket/messages?since=300")).json
            assert recovered["messages"] == subscriber.got[300:]
        await trio.sleep(45)
        assert len(subscriber.beats) >= 2
        scene.hub.shutdown()
        await subscriber.ended.wait()
        assert subscriber.code == 1012
        await scene.finished.wait()


@pytest.mark.contract("H2")
async def test_tls_on_a_port(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    client, server = contexts
    async with open_real_hub(ssl_context=server) as scene:
        subscriber = await scene.subscribe(stream=trusting(client, await scene.dial()))
        scene.tell(10)
        await subscriber.wait_for(10)
        [figures] = scene.hub.statistics()
        assert figures.remote == "127.0.0.1"


@pytest.mark.contract("H7", "H10")
async def test_a_handshake_under_way_does_not_hold_up_the_end(
    autojump_clock: MockClock, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    _, server = contexts
    async with open_hub(ssl_context=server) as scene:
        # What the hub starts with has to have come to rest before tasks are counted.
        await settled()
        before = living_tasks()
        await (await scene.visit()).write(b"\x16\x03\x01")
        await settled()
        assert living_tasks() > before
        scene.hub.shutdown()
        with closing_within(0.1):
            await scene.finished.wait()


# --- where it listens ---


class Watched(trio.abc.Listener[trio.abc.Stream]):
    """A listener that nobody calls, which knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@pytest.mark.contract("H10")
@pytest.mark.parametrize("how", ["shutdown", "cancel"])
async def test_all_listeners_are_closed_at_the_end(autojump_clock: MockClock, how: str) -> None:
    listeners: Sequence[Watched] = [Watched() for _ in range(3)]
    async with open_hub(listeners=listeners) as scene:
        if how == "shutdown":
            scene.hub.shutdown()
            await scene.finished.wait()
    assert [listener.closed for listener in listeners] == [True, True, True]


@pytest.mark.contract("H9")
async def test_a_listener_that_others_can_reach_needs_a_key(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        [reachable] = await trio.open_tcp_listeners(0, host="0.0.0.0")
        async with reachable:
            with pytest.raises(ConfigurationError, match="loopback"):
                await serve_hub(signal, listeners=[MemoryListener(), reachable])


async def test_a_port_that_is_taken_is_an_error_at_once(autojump_clock: MockClock) -> None:
    taken = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken[0].socket.getsockname()[1]
    async with open_hub() as scene:
        with pytest.raises(OSError, match="in use"):
            await serve_hub(scene.signal, port=port)
    await taken[0].aclose()


async def test_where_a_connection_comes_from_is_in_the_figures() -> None:
    async with open_real_hub() as scene:
        await scene.subscribe()
        assert [figures.remote for figures in scene.hub.statistics()] == ["127.0.0.1"]
        assert scene.hub.url == f"http://127.0.0.1:{scene.hub.address[1]}"
        assert repr(scene.hub) == f"<Hub {scene.hub.url}>"


async def test_nobody_has_an_address_on_a_unix_socket(tmp_path: Path) -> None:
    place = str(tmp_path / "hub")
    server = trio.socket.socket(socket.AF_UNIX)
    await server.bind(place)
    server.listen()
    async with open_real_hub(listeners=[trio.SocketListener(server)]) as scene:
        await scene.subscribe(stream=await trio.open_unix_socket(place))
        assert [figures.remote for figures in scene.hub.statistics()] == ["local"]


async def test_nothing_is_logged_of_ordinary_ends(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as scene:
        for how in ("close", "reset"):
            visitor = await scene.visit()
            await visitor.write(b"GET / HT")
            visitor.vanish(reset=how == "reset")
        await settled()
    assert logged(caplog.records, logging.WARNING) == []
