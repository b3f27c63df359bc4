"""A client with a store: what survives a kill, and what is told of it."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import (
    Certainty,
    ClientClosed,
    ConfigurationError,
    Dropped,
    DropReason,
    Failed,
    Gap,
    MessageSettled,
    Outcome,
    OutgoingMessage,
    ReceivedMessage,
    RequestFailed,
    Sent,
    SignalClient,
    Store,
    StoreDamaged,
    StoreForeign,
    StoreFull,
    StoreInUse,
    open_signal_client,
)
from trio_signal.store import inline
from trio_signal.testing import FakeGateway, hang, open_fake_gateway, slow

from .scene import CONNECTED, PEER, connected, open_client, open_gateway
from .stores import KilledStore


@pytest.fixture
def kept(tmp_path: Path) -> KilledStore:
    return KilledStore(tmp_path)


class Killed(Exception):
    """Ends a client's block at once; what that does on its way out reaches only the old files."""


@asynccontextmanager
async def until_killed(
    gateway: FakeGateway, kept: KilledStore, **options: Any
) -> AsyncGenerator[SignalClient]:
    """Open a client on the store and kill it at the end of the block, with the store as it is then."""
    options = {"store": kept.store} | options
    with pytest.raises(Killed):
        async with open_client(gateway, **options) as client:
            yield client
            kept.kill()
            raise Killed


async def told(client: SignalClient, count: int) -> list[MessageSettled]:
    """Take so many outcomes of an earlier process."""
    found: list[MessageSettled] = []
    with trio.fail_after(300):
        async for event in client.events():
            if isinstance(event, MessageSettled):
                found.append(event)
            if len(found) == count:
                break
    return found


def waiting_outcomes(client: SignalClient) -> list[MessageSettled]:
    """What stands in the inbox, beside the gap over the time between two processes."""
    return [entry[0] for entry in client._inbox._entries if isinstance(entry[0], MessageSettled)]


def texts(gateway: FakeGateway) -> list[str]:
    """What arrived, in order."""
    return [request.message for request in gateway.received if request.timestamp is not None]


@pytest.mark.contract("D1", "O4")
async def test_what_waited_at_the_kill_is_sent_by_the_next_process_in_order(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            for n in range(5):
                await client.send_message(PEER, f"m{n}", id=f"id-{n}")
        assert texts(gateway) == []
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            assert client.statistics().buffer.outgoing.accepted == 5
            newer = await client.send_message(PEER, "newer")
            found = await told(client, 5)
            await newer.wait()
            assert [event.message_id for event in found] == [f"id-{n}" for n in range(5)]
            assert all(isinstance(event.outcome, Sent) and event.recipient == PEER for event in found)
        assert texts(gateway) == ["m0", "m1", "m2", "m3", "m4", "newer"]
        async with connected(gateway, store=kept.store) as client:
            assert client.statistics().buffer.outgoing.accepted == 0
            assert waiting_outcomes(client) == []


async def look_up_groups(client: SignalClient) -> None:
    """Ask for the groups, however that ends."""
    with suppress(ClientClosed, RequestFailed):
        await client.list_groups()


@pytest.mark.contract("D1", "O5", "O7")
@pytest.mark.parametrize(("seconds", "sent"), [(2, []), (5, ["first"])])
async def test_what_waits_behind_an_operation_at_the_kill_has_not_left_and_is_sent_by_the_next_process(
    autojump_clock: MockClock, kept: KilledStore, seconds: float, sent: list[str]
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        async with connected(gateway, store=kept.store):
            pass
        gateway.script(f"GET /v1/groups/{gateway.account}", slow(3), *[hang()] * 10)
        async with until_killed(gateway, kept) as client:
            await client.wait_state(CONNECTED)
            nursery.start_soon(look_up_groups, client)
            await wait_all_tasks_blocked()
            await client.send_message(PEER, "first", id="a")
            await client.send_message(PEER, "second", id="b")
            # The first message stands behind one operation, the second behind these too.
            for _ in range(3):
                nursery.start_soon(look_up_groups, client)
                await wait_all_tasks_blocked()
            await trio.sleep(seconds)
        assert texts(gateway) == sent
        gateway.heal()
        async with connected(gateway, store=kept.store) as client:
            found = await told(client, 2)
            assert all(isinstance(event.outcome, Sent) for event in found)
        assert texts(gateway) == ["first", "second"]


@pytest.mark.contract("D2", "O7")
async def test_a_message_that_waits_for_the_disk_keeps_no_operation_waiting(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    disk = FullDisk()
    async with (
        open_gateway(answer_delay=2.0) as gateway,
        connected(gateway, store=Store(tmp_path / "bot.db", run=disk)) as client,
    ):
        await client.send_message(PEER, "first")
        second = await client.send_message(PEER, "second")
        await trio.sleep(1)
        disk.is_full = True
        await trio.sleep(1.5)
        with trio.fail_after(5):
            await client.list_groups()
        await trio.sleep(30)
        with trio.fail_after(5):
            await client.list_groups()
        assert texts(gateway) == ["first"]
        disk.is_full = False
        await second.wait()
        with trio.fail_after(5):
            await client.list_groups()
        assert texts(gateway) == ["first", "second"]


@pytest.mark.contract("D1", "O5")
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_the_one_in_flight_at_the_kill_is_unknown_or_sent_again(
    autojump_clock: MockClock, kept: KilledStore, delivery: str
) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(hang())
        async with until_killed(gateway, kept) as client:
            await client.send_message(PEER, "in flight", id="a")
            await client.send_message(PEER, "behind", id="b")
            await trio.sleep(5)
        async with connected(gateway, store=kept.store, delivery=delivery) as client:
            first, second = await told(client, 2)
            assert (first.message_id, second.message_id) == ("a", "b")
            assert isinstance(second.outcome, Sent)
            if delivery == "at_most_once":
                assert isinstance(first.outcome, Failed)
                assert first.outcome.certainty is Certainty.UNKNOWN
                assert texts(gateway)[-1:] == ["behind"]
                assert texts(gateway).count("in flight") <= 1
            else:
                assert isinstance(first.outcome, Sent)
                assert texts(gateway)[-2:] == ["in flight", "behind"]


@pytest.mark.contract("D1", "O1")
async def test_what_was_answered_before_the_kill_is_not_sent_again_and_told_the_same(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        async with until_killed(gateway, kept) as client:
            unseen = await client.send_message(PEER, "nobody looked", id="unseen")
            seen = await client.send_message(PEER, "somebody looked", id="seen")
            sent = await seen.wait()
            await trio.sleep(1)
        assert unseen.outcome is not None
        async with connected(gateway, store=kept.store) as client:
            await trio.sleep(20)
            assert [event.message_id for event in await told(client, 1)] == ["unseen"]
            assert waiting_outcomes(client) == []
        assert sent.timestamp
        assert texts(gateway) == ["nobody looked", "somebody looked"]


@pytest.mark.contract("D1")
async def test_an_outcome_is_told_again_until_it_is_acknowledged(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            await client.send_message(PEER, "x", id="a")
        await gateway.start()
        outcomes: list[Outcome] = []
        for _ in range(3):
            async with until_killed(gateway, kept, acknowledge=True) as client:
                (event,) = await told(client, 1)
                outcomes.append(event.outcome)
        assert len(set(outcomes)) == 1
        async with connected(gateway, store=kept.store, acknowledge=True) as client:
            (event,) = await told(client, 1)
            client.acknowledge(event)
        async with connected(gateway, store=kept.store) as client:
            assert waiting_outcomes(client) == []
        assert texts(gateway) == ["x"]


@pytest.mark.contract("D1", "O2")
@pytest.mark.parametrize("reason", [DropReason.WITHDRAWN, DropReason.OVERFLOW, DropReason.EXPIRED])
async def test_what_was_dropped_is_not_sent_by_the_next_process(
    autojump_clock: MockClock, kept: KilledStore, reason: DropReason
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept, buffer_size=1) as client:
            await client.send_message(PEER, "in the slot")
            await wait_all_tasks_blocked()
            first = await client.send_message(PEER, "first", deadline=trio.current_time() + 5)
            if reason is DropReason.WITHDRAWN:
                assert first.withdraw()
                assert first.outcome is None  # not before it is written down
            elif reason is DropReason.OVERFLOW:
                await client.send_message(PEER, "second")
            else:
                await trio.sleep(6)
            with trio.move_on_after(1), pytest.raises(Exception, match=reason.value):
                await first.wait()
            assert first.outcome == Dropped(reason)
        await gateway.start()
        async with connected(gateway, store=kept.store):
            await trio.sleep(60)
        assert "first" not in texts(gateway)


@pytest.mark.contract("D1", "O8")
async def test_a_deadline_is_the_same_moment_in_the_next_process(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            await client.send_message(PEER, "late", id="late", deadline=trio.current_time() + 100)
            await client.send_message(PEER, "in time", id="in time", deadline=trio.current_time() + 1000)
        await trio.sleep(200)
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            outcomes = {event.message_id: event.outcome for event in await told(client, 2)}
        assert outcomes["late"] == Dropped(DropReason.EXPIRED)
        assert isinstance(outcomes["in time"], Sent)


@pytest.mark.contract("C5", "D1")
async def test_leaving_the_block_keeps_what_waits_for_the_next_process(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with open_client(gateway, store=kept.store, close_timeout=1) as client:
            message = await client.send_message(PEER, "later")
            await trio.sleep(3)
        assert message.outcome is None
        with pytest.raises(ClientClosed, match="the next process sends it"):
            await message.wait()
        assert client.statistics().buffer.outgoing.pending == 1
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            await told(client, 1)
        assert texts(gateway) == ["later"]


@pytest.mark.contract("C5", "O1")
async def test_the_one_in_flight_when_the_block_is_left_is_unknown(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(hang())
        async with connected(gateway, store=kept.store, close_timeout=1) as client:
            message = await client.send_message(PEER, "hangs")
            await trio.sleep(3)
        assert isinstance(message.outcome, Failed)
        assert message.outcome.certainty is Certainty.UNKNOWN
        async with connected(gateway, store=kept.store) as client:
            assert client.statistics().buffer.outgoing.accepted == 0


@pytest.mark.contract("R3", "R5", "D1")
async def test_the_cursor_survives_and_what_came_meanwhile_is_a_gap(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        async with until_killed(gateway, kept) as client:
            await client.wait_state(CONNECTED)
            gateway.deliver(text="before")
            events = client.events()
            event = await anext(events)
            assert isinstance(event, ReceivedMessage)
            await trio.sleep(100)
            alive_until = client.cursor
        await trio.sleep(50)
        async with connected(gateway, store=kept.store) as client:
            gap = await anext(client.events())
            assert isinstance(gap, Gap)
            assert alive_until is not None
            # It is written down every ten seconds that nothing has come, and pings tell so every ten seconds.
            assert alive_until.time - 20_500 <= gap.since <= alive_until.time
            assert gap.until - gap.since >= 50_000


@pytest.mark.contract("R6", "D1")
async def test_what_was_taken_before_the_kill_is_known_after_it(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        async with until_killed(gateway, kept) as client:
            await client.wait_state(CONNECTED)
            gateway.deliver(text="taken", timestamp=1)
            gateway.deliver(text="not taken", timestamp=2)
            await anext(client.events())
            await trio.sleep(1)
        async with connected(gateway, store=kept.store) as client:
            for text, timestamp in (("taken", 1), ("not taken", 2), ("new", 3)):
                gateway.deliver(text=text, timestamp=timestamp)
            received: list[str | None] = []
            with trio.move_on_after(5):
                async for event in client.events():
                    if isinstance(event, ReceivedMessage):
                        received.append(event.text)
            assert received == ["not taken", "new"]
            assert client.statistics().receiving.duplicates == 1


@pytest.mark.contract("D1", "O4")
async def test_many_at_once_are_sent_in_the_order_in_which_they_are_written_down(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            async with trio.open_nursery() as nursery:
                for n in range(30):
                    nursery.start_soon(client.send_message, PEER, f"m{n}")
            assert client._sender.in_flight
            waiting = [message.text for message in (*client._sender.in_flight, *client._buffer.drain())]
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            await told(client, 30)
        assert texts(gateway) == waiting


@pytest.mark.contract("D1", "O9")
async def test_a_cancelled_call_has_accepted_nothing(autojump_clock: MockClock, kept: KilledStore) -> None:
    """At each step of the call, until one is through."""
    async with open_gateway() as gateway:
        gateway.stop()
        async with open_client(gateway, store=kept.store, close_timeout=0) as client:
            steps = -1
            message: OutgoingMessage | None = None
            while message is None:
                steps += 1
                with trio.CancelScope() as scope:

                    async def cancel(scope: trio.CancelScope = scope, steps: int = steps) -> None:
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(cancel)
                        message = await client.send_message(PEER, f"step {steps}")
                        nursery.cancel_scope.cancel()
                await wait_all_tasks_blocked()
                assert client.statistics().buffer.outgoing.accepted == (message is not None)
                assert steps < 100
            assert steps > 2
            await trio.sleep(1)
            assert client.statistics().buffer.outgoing.accepted == 1
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            await told(client, 1)
            await trio.sleep(60)
        assert texts(gateway) == [f"step {steps}"]


async def test_an_id_is_refused_while_its_message_has_no_outcome(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            await client.send_message(PEER, "x", id="alert-1")
            with pytest.raises(ConfigurationError, match="alert-1"):
                await client.send_message(PEER, "x again", id="alert-1")
        async with open_client(gateway, store=kept.store) as client:
            with pytest.raises(ConfigurationError, match="alert-1"):
                await client.send_message(PEER, "x once more", id="alert-1")
            await gateway.start()
            await told(client, 1)
            await (await client.send_message(PEER, "another", id="alert-1")).wait()
        assert texts(gateway) == ["x", "another"]


@pytest.mark.contract("D1")
@pytest.mark.parametrize("kind", ["reference", "copy"])
async def test_files_go_out_after_the_kill(tmp_path: Path, kind: Literal["reference", "copy"]) -> None:
    """In real time: reading a file takes a thread."""
    file = tmp_path / "report.txt"
    file.write_bytes(b"the numbers")
    store = Store(tmp_path / "bot.db", attachments=kind)
    folder = tmp_path / "bot.db-files"
    with trio.fail_after(60):
        async with open_fake_gateway() as gateway:
            gateway.stop()
            async with open_signal_client(
                gateway.url, gateway.account, store=store, close_timeout=0
            ) as client:
                await client.send_message(PEER, "see", attachments=[file, b"in memory"])
            if kind == "copy":
                file.unlink()
                assert len(list(folder.iterdir())) == 1
            await gateway.start()
            async with open_signal_client(gateway.url, gateway.account, store=store) as client:
                (event,) = await told(client, 1)
                assert isinstance(event.outcome, Sent)
    (request,) = gateway.received
    sent = [base64.b64decode(text.rpartition(",")[2]) for text in request.body["base64_attachments"]]
    assert sent == [b"the numbers", b"in memory"]
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.contract("D2")
async def test_a_store_that_cannot_be_used_starts_nothing(
    autojump_clock: MockClock, kept: KilledStore, tmp_path: Path
) -> None:
    async with open_gateway() as gateway:
        async with open_client(gateway, store=kept.store):
            with pytest.raises(StoreInUse):
                async with open_client(gateway, store=kept.store):
                    pass
        with pytest.raises(StoreForeign):
            async with open_signal_client(gateway.url, "+15550199", store=kept.store):
                pass
        garbage = tmp_path / "garbage.db"
        garbage.write_bytes(b"no database at all, but somebody's letters" * 100)
        with pytest.raises(StoreDamaged):
            async with open_client(gateway, store=Store(garbage, run=inline)):
                pass
        assert garbage.read_bytes().startswith(b"no database")
        for wrong in (b"bytes", 7, Store):
            with pytest.raises(ConfigurationError, match="store"):
                async with open_client(gateway, store=wrong):
                    pass
        with pytest.raises(ConfigurationError, match=r"store\.durability"):
            Store("x", durability="none")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"store\.path"):
            Store("")
        with pytest.raises(ConfigurationError, match=r"store\.run"):
            Store("x", run=7)  # type: ignore[arg-type]


class FullDisk:
    """A runner that fails as a full disk does while it is told to."""

    def __init__(self) -> None:
        self.is_full = False
        self.tries = 0

    async def __call__(self, work: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            self.tries += 1
            raise StoreFull("no room")
        work()


@pytest.mark.contract("D2", "O5")
async def test_a_full_disk_is_an_error_at_the_call_and_what_was_accepted_stays(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    disk = FullDisk()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            first = await client.send_message(PEER, "first")
            disk.is_full = True
            with pytest.raises(StoreFull, match="no room"):
                await client.send_message(PEER, "refused")
            assert client.statistics().buffer.outgoing.accepted == 1
            await gateway.start()
            await client.wait_state(CONNECTED)
            await trio.sleep(100)
            # Nothing leaves of which no later process could know.
            assert texts(gateway) == []
            assert 1 < disk.tries < 20
            disk.is_full = False
            await first.wait()
            await (await client.send_message(PEER, "second")).wait()
        assert texts(gateway) == ["first", "second"]


@pytest.mark.contract("D2", "O1", "O8")
async def test_with_a_full_disk_outcomes_are_told_all_the_same(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway(answer_delay=2.0) as gateway:
        async with connected(gateway, store=kept.store) as client:
            message = await client.send_message(PEER, "in flight")
            waiting = await client.send_message(PEER, "behind", deadline=trio.current_time() + 10)
            await trio.sleep(1)
            disk.is_full = True
            await message.wait()
            with trio.fail_after(30), pytest.raises(Exception, match="expired"):
                await waiting.wait()
            await trio.sleep(100)
            disk.is_full = False
            await trio.sleep(60)
        assert caplog.text.count("cannot be written") == 1
        assert caplog.text.count("can be written again") == 1
        async with connected(gateway, store=kept.store) as client:
            assert waiting_outcomes(client) == []


@pytest.mark.contract("C5", "D2")
async def test_a_dead_disk_holds_up_nothing_at_the_end(autojump_clock: MockClock, tmp_path: Path) -> None:
    """It is full, or it does not answer at all."""

    class DeadDisk(FullDisk):
        async def __call__(self, work: Any) -> None:
            if self.is_full:
                await trio.sleep_forever()
            await super().__call__(work)

    for disk in (FullDisk(), DeadDisk()):
        (folder := tmp_path / type(disk).__name__).mkdir()
        kept = KilledStore(folder, run=disk)
        async with open_gateway() as gateway:
            async with connected(gateway, store=kept.store, close_timeout=1) as client:
                await (await client.send_message(PEER, "x")).wait()
                disk.is_full = True
                if isinstance(disk, DeadDisk):
                    with trio.move_on_after(5) as scope:
                        await client.send_message(PEER, "y")
                    assert scope.cancelled_caught
                before = trio.current_time()
            assert trio.current_time() - before <= 5
            disk.is_full = False


async def test_the_repr_of_what_is_told_shows_no_text(autojump_clock: MockClock, kept: KilledStore) -> None:
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            await client.send_message(PEER, "secret words", id="a")
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            (event,) = await told(client, 1)
            assert "secret" not in repr(event)
