"""What keeps one peer's trouble, or want of something, from becoming everybody's."""

import logging
import resource
import socket
import time
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import open_hub, open_real_hub, until
from trio_signal import ConfigurationError
from trio_signal.hub import Authenticator, HubLimits, Identity, make_token, serve_hub

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def connect_from(source: str, address: tuple[str, int]) -> socket.socket:
    """Open a connection that the hub sees coming from another address of this machine."""
    connection = socket.socket()
    connection.bind((source, 0))
    connection.settimeout(20)
    connection.connect(address)
    return connection


async def has_ended(connection: socket.socket) -> bool:
    return await trio.to_thread.run_sync(connection.recv, 100) == b""


@pytest.mark.contract("H7")
async def test_a_crowd_from_one_address_makes_room_among_itself() -> None:
    async with open_real_hub(limits=HubLimits(max_pending=4)) as scene:
        accepted = scene.hub.counters.accepted_connections
        honest = connect_from("127.0.0.2", scene.hub.address)
        await until(lambda: scene.hub.counters.accepted_connections == accepted + 1)
        crowd = [connect_from("127.0.0.3", scene.hub.address) for _ in range(10)]
        await until(lambda: scene.hub.counters.accepted_connections == accepted + 11)
        assert await has_ended(crowd[0])
        await trio.to_thread.run_sync(honest.sendall, HEAD)
        assert (await trio.to_thread.run_sync(honest.recv, 12)) == b"HTTP/1.1 200"
        for connection in (honest, *crowd):
            connection.close()


@pytest.mark.contract("H9")
async def test_without_a_key_no_listener_may_be_reached_from_elsewhere(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for host in ("0.0.0.0", "127.0.0.1"):
            listeners = await trio.open_tcp_listeners(0, host=host)
            serve = partial(serve_hub, scene.signal, listeners=listeners)
            with trio.move_on_after(1) as scope:
                if host == "127.0.0.1":
                    await serve()
                else:
                    with pytest.raises(ConfigurationError, match="loopback only, not on 0.0.0.0"):
                        await serve()
            assert scope.cancelled_caught == (host == "127.0.0.1")
            for listener in listeners:
                await listener.aclose()


@pytest.mark.contract("H7")
async def test_too_few_descriptors_are_told_at_the_start(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pending, told in ((most, True), (1, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "trio_signal.hub"):
            async with open_hub(limits=HubLimits(max_connections=1, max_pending=pending)):
                pass
        assert ("this process may open" in caplog.text) is told


@pytest.mark.contract("H7")
async def test_who_says_nothing_is_dropped_at_the_stated_time(autojump_clock: MockClock) -> None:
    async with open_hub(limits=HubLimits(heartbeat_interval=4)) as scene:
        await trio.sleep(1.7)
        visitor = await scene.visit()
        await visitor.open()
        opened = trio.current_time()
        assert await visitor.close_code() == 4009
        # And the closing handshake, which it does not answer either.
        assert 2 * 4 + 5 <= trio.current_time() - opened <= 2 * 4 + 5 + 1.5
        assert scene.hub.counters.closed_dead == 1


@pytest.mark.contract("H7")
async def test_who_takes_nothing_for_30_s_counts_as_slow(autojump_clock: MockClock) -> None:
    async with open_hub(limits=HubLimits(heartbeat_interval=600)) as scene:
        visitor = await scene.visit(window=10_000)
        await visitor.open()
        scene.hub.connections.broadcast(b'"' + b"x" * 50_000 + b'"')
        await trio.sleep(32)
        assert scene.hub.counters.closed_slow == 1
        assert scene.hub.statistics() == []


@pytest.mark.contract("H11")
async def test_what_holds_up_all_tasks_shows() -> None:
    async with open_real_hub() as scene:
        # This is the point: everybody is held up.
        time.sleep(1.2)  # noqa: ASYNC251
        await until(lambda: scene.hub.board.longest_pause > 0.1)


@pytest.mark.contract("H9")
def test_a_ticket_outlives_no_token() -> None:
    now = [1000.0]
    key = Authenticator(b"k" * 32, leeway=10, clock=lambda: now[0])
    identity = key.check(make_token(b"k" * 32, "somebody", ttl=60, clock=lambda: now[0]))
    for moment, current in ((1069.9, True), (1070.0, False)):
        now[0] = moment
        assert key.is_current(identity) is current
    assert key.is_current(Identity("anybody", None))
