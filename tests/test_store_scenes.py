"""Scenes in which a client with a store once did the wrong thing. See ``tests/test_store_client.py``."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import (
    ClientClosed,
    Gap,
    MessageDropped,
    OutgoingAttachment,
    OutgoingMessage,
    RequestFailed,
    Sent,
    SignalClient,
    Store,
    StoreFull,
    Text,
    open_signal_client,
)
from trio_signal.testing import hang, lost, open_fake_gateway, reply

from .scene import CONNECTED, PEER, connected, open_client, open_gateway
from .stores import KilledStore
from .test_store_client import FullDisk, texts, told, until_killed


@pytest.fixture
def kept(tmp_path: Path) -> KilledStore:
    return KilledStore(tmp_path)


async def next_gap(client: SignalClient) -> Gap:
    """Take what comes until a gap does."""
    with trio.fail_after(300):
        while True:
            event = await anext(client.events())
            if isinstance(event, Gap):
                return event


@pytest.mark.contract("R3", "R5", "D1")
@pytest.mark.parametrize("how", ["killed", "left"])
async def test_an_outcome_that_waits_does_not_move_the_cursor_over_an_absence(
    autojump_clock: MockClock, kept: KilledStore, how: str
) -> None:
    async with open_gateway() as gateway:
        async with until_killed(gateway, kept) as client:
            await client.wait_state(CONNECTED)
            await client.send_message(PEER, "nobody looked")
            await trio.sleep(15)
            assert client.cursor is not None
            covered = client.cursor.time
        gateway.stop()
        await trio.sleep(1000)
        if how == "killed":
            async with until_killed(gateway, kept):
                await trio.sleep(25)
        else:
            async with open_client(gateway, store=kept.store, close_timeout=0):
                await trio.sleep(1)
        await gateway.start()
        async with connected(gateway, store=kept.store) as client:
            assert (await next_gap(client)).since <= covered


@pytest.mark.contract("C5", "O1", "D1")
async def test_what_waits_for_its_turn_at_the_end_is_left_to_the_next_process(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    """It is written down already that it may leave; it did not."""
    async with open_gateway() as gateway:
        gateway.script(f"GET /v1/groups/{gateway.account}", hang())
        async with trio.open_nursery() as nursery:
            async with connected(gateway, store=kept.store, close_timeout=1) as client:

                async def ask(client: SignalClient = client) -> None:
                    with pytest.raises((ClientClosed, RequestFailed)):
                        await client.list_groups()

                nursery.start_soon(ask)
                await trio.sleep(1)
                message = await client.send_message(PEER, "later")
                await trio.sleep(1)
            with pytest.raises(ClientClosed):
                await message.wait()
        async with connected(gateway, store=kept.store) as client:
            (event,) = await told(client, 1)
        assert isinstance(event.outcome, Sent)


@pytest.mark.contract("D1", "O5")
async def test_attempts_of_which_nothing_left_do_not_count_over_a_kill(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    options: dict[str, Any] = {"delivery": "at_least_once", "settle_timeout": 0}
    async with open_gateway() as gateway:
        async with until_killed(gateway, kept, **options) as client:
            await client.wait_state(CONNECTED)
            gateway.script_send(*[reply(503, "") for _ in range(12)], hang())
            await client.send_message(PEER, "alert")
            while len(gateway.received) < 13:  # noqa: ASYNC110
                await trio.sleep(0.1)
            await trio.sleep(1)
        async with connected(gateway, store=kept.store, **options) as client:
            (event,) = await told(client, 1)
        assert isinstance(event.outcome, Sent)


@pytest.mark.contract("D1", "O5")
async def test_attempts_in_doubt_count_over_a_kill(autojump_clock: MockClock, kept: KilledStore) -> None:
    options: dict[str, Any] = {"delivery": "at_least_once", "settle_timeout": 0, "max_send_attempts": 3}
    async with open_gateway() as gateway:
        gateway.script_send(*[lost() for _ in range(6)])
        async with until_killed(gateway, kept, **options) as client:
            await client.send_message(PEER, "alert")
            while len(gateway.received) < 2:  # noqa: ASYNC110
                await trio.sleep(0.1)
            await trio.sleep(0.5)
        async with connected(gateway, store=kept.store, **options) as client:
            await told(client, 1)
        assert len(gateway.received) == 3


@pytest.mark.contract("R7")
@pytest.mark.parametrize("timestamp", [2**63, 2**64, 2**70])
async def test_a_time_beyond_all_numbers_ends_no_link(
    autojump_clock: MockClock, kept: KilledStore, timestamp: int
) -> None:
    async with open_gateway() as gateway, connected(gateway, store=kept.store) as client:
        gateway.deliver(text="x", timestamp=timestamp)
        await trio.sleep(5)
        await anext(client.events())
        assert client.statistics().generation == 1


@pytest.mark.contract("O1", "O6")
@pytest.mark.parametrize("timestamp", [2**64, 2**70, "1" * 30])
async def test_an_answer_with_such_a_time_is_an_outcome_all_the_same(
    autojump_clock: MockClock, kept: KilledStore, timestamp: object
) -> None:
    async with open_gateway() as gateway, connected(gateway, store=kept.store) as client:
        gateway.script_send(reply(201, json.dumps({"timestamp": timestamp})))
        message = await client.send_message(PEER, "x")
        await trio.sleep(60)
        assert message.outcome is not None


@pytest.mark.contract("O4", "D1")
async def test_calls_at_the_same_time_are_in_one_order_in_memory_and_on_disk(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    for _ in range(6):
        async with open_gateway() as gateway:
            gateway.stop()
            async with until_killed(gateway, kept, overflow="error") as client:
                async with trio.open_nursery() as nursery:
                    for n in range(10):
                        nursery.start_soon(client.send_message, PEER, f"m{n}")
                assert client._sender.in_flight
                waiting = [message.text for message in (*client._sender.in_flight, *client._buffer.drain())]
            await gateway.start()
            async with connected(gateway, store=kept.store) as client:
                await told(client, 10)
            assert texts(gateway) == waiting
        kept.lose()


async def test_threads_of_the_application_do_not_keep_the_store_from_writing(tmp_path: Path) -> None:
    """In real time: all the threads that Trio gives by default wait for their messages to be written down."""
    with trio.fail_after(60):
        async with open_fake_gateway() as gateway:
            store = tmp_path / "bot.db"
            async with open_signal_client(
                gateway.url, gateway.account, store=store, close_timeout=0
            ) as client:

                def send(number: int) -> OutgoingMessage:
                    return trio.from_thread.run(client.send_message, PEER, f"m{number}")

                async with trio.open_nursery() as nursery:
                    for number in range(40):
                        nursery.start_soon(trio.to_thread.run_sync, send, number)
                assert client.statistics().buffer.outgoing.accepted == 40


async def test_a_copy_for_a_cancelled_call_is_deleted(tmp_path: Path) -> None:
    """In real time: the thread that copies goes on for a while."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * 30_000_000)
    store = Store(tmp_path / "bot.db", attachments="copy")
    folder = tmp_path / "bot.db-files"
    with trio.fail_after(60):
        async with open_fake_gateway() as gateway:
            async with open_signal_client(
                gateway.url, gateway.account, store=store, close_timeout=0
            ) as client:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        async def cancel() -> None:
                            # Once it copies.
                            while not folder.exists():  # noqa: ASYNC110
                                await trio.sleep(0.001)
                            scope.cancel()

                        nursery.start_soon(cancel)
                        await client.send_message(PEER, "x", attachments=[large])
                while list(folder.iterdir()):  # noqa: ASYNC110
                    await trio.sleep(0.05)
    assert client.statistics().buffer.outgoing.accepted == 0


@pytest.mark.contract("D2", "C6")
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_what_is_no_error_of_the_disk_is_survived_too(
    autojump_clock: MockClock, tmp_path: Path, error: Exception
) -> None:
    class Poor(FullDisk):
        async def __call__(self, work: Any) -> None:
            if self.is_full:
                raise error
            await super().__call__(work)

    disk = Poor()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway() as gateway:
        async with connected(gateway, store=kept.store) as client:
            disk.is_full = True
            gateway.deliver(text="hello")
            await anext(client.events())
            await trio.sleep(5)
            assert client.keeper is not None
            assert type(error).__name__ in str(client.keeper.failure)
            disk.is_full = False
            await (await client.send_message(PEER, "x")).wait()
            assert client.keeper.failure is None


@pytest.mark.contract("D2")
async def test_a_failure_is_over_with_what_was_refused_for_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    disk = FullDisk()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway() as gateway, connected(gateway, store=kept.store, receive=False) as client:
        assert client.keeper is not None
        disk.is_full = True
        with pytest.raises(StoreFull):
            await client.send_message(PEER, "y")
        assert client.keeper.failure is not None
        disk.is_full = False
        await trio.sleep(300)
        assert client.keeper.failure is None


@pytest.mark.contract("D2", "O3")
async def test_what_is_refused_leaves_nothing_behind(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Neither bytes in memory, nor copies on the disk that is full."""
    disk = FullDisk()
    kept = KilledStore(tmp_path, run=disk, attachments="copy")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    async with open_gateway() as gateway:
        gateway.stop()
        async with until_killed(gateway, kept) as client:
            folder = kept.path.with_name(kept.path.name + "-files")
            assert client.keeper is not None

            async def copy_all_the_same(work: Any) -> None:
                await trio.lowlevel.checkpoint()
                work()

            # There is room for the files alone; what commits reaches SQLite, which has none.
            client._journal._run = copy_all_the_same  # type: ignore[attr-defined]
            database = client.keeper._database
            connection = database._connection
            assert connection is not None
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            attachments: list[OutgoingAttachment | bytes] = [
                OutgoingAttachment(file, "file", "text/plain", 1000),
                b"y" * 500_000,
            ]
            for _ in range(10):
                with pytest.raises(StoreFull):
                    await client._accept(PEER, _text(attachments))
                await trio.sleep(60)
            assert len(list(folder.iterdir())) <= 1
            assert len(client.keeper._pending.afterwards) <= 1


def _text(attachments: list[OutgoingAttachment | bytes]) -> Text:
    files = tuple(
        given if isinstance(given, OutgoingAttachment) else OutgoingAttachment(given, "m", "a/b", len(given))
        for given in attachments
    )
    return Text("x", files)


@pytest.mark.contract("O3", "O8")
async def test_one_that_expires_while_it_is_written_down_pushes_out_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    class Slow(FullDisk):
        async def __call__(self, work: Any) -> None:
            if self.is_full:
                await trio.sleep(5)
            work()

    disk = Slow()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway() as gateway:
        gateway.stop()
        async with open_client(gateway, store=kept.store, buffer_size=1, close_timeout=0) as client:
            await client.send_message(PEER, "in the slot")
            await wait_all_tasks_blocked()
            waiting = await client.send_message(PEER, "waits")
            disk.is_full = True
            await client.send_message(PEER, "late", deadline=trio.current_time() + 1)
            disk.is_full = False
            await trio.sleep(20)
            assert waiting.outcome is None


@pytest.mark.contract("D2")
async def test_cancelled_calls_leave_nothing_with_a_disk_that_hangs(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    class Dead(FullDisk):
        async def __call__(self, work: Any) -> None:
            if self.is_full:
                await trio.sleep_forever()
            await super().__call__(work)

    disk = Dead()
    kept = KilledStore(tmp_path, run=disk)
    async with open_gateway() as gateway:
        async with connected(gateway, store=kept.store, close_timeout=0) as client:
            await trio.sleep(1)
            disk.is_full = True
            for _ in range(50):
                with trio.move_on_after(0.1):
                    await client.send_message(PEER, "y")
            assert client.keeper is not None
            assert len(client.keeper._pending.batch.struck) <= 1
            assert not client.keeper._pending.batch.messages
            disk.is_full = False


async def _write_on(
    client: SignalClient, writer: int, accepted: list[OutgoingMessage], refused: list[int]
) -> None:
    for number in itertools.count():
        try:
            accepted.append(await client.send_message(PEER, f"{writer}-{number}"))
        except ClientClosed:
            refused.append(writer)
            return


@pytest.mark.contract("C5", "O1", "O4", "D1")
async def test_calls_while_the_block_is_left_are_accepted_or_refused(
    autojump_clock: MockClock, kept: KilledStore
) -> None:
    for _ in range(5):
        async with open_gateway() as gateway:
            accepted: list[OutgoingMessage] = []
            refused: list[int] = []

            async with trio.open_nursery() as nursery:
                async with connected(gateway, store=kept.store, close_timeout=1) as client:
                    for writer in range(3):
                        nursery.start_soon(_write_on, client, writer, accepted, refused)
                    for _ in range(40):
                        await trio.lowlevel.checkpoint()
            assert sorted(refused) == [0, 1, 2]
            left: list[str] = []
            dropped: list[str] = []
            for message in accepted:
                try:
                    await message.wait()
                except ClientClosed:
                    left.append(message.text)
                except MessageDropped:
                    dropped.append(message.text)
            await trio.sleep(1)
            async with connected(gateway, store=kept.store) as client:
                if left:
                    await told(client, len(left))
                await trio.sleep(20)
            arrived = texts(gateway)
            assert sorted(arrived) == sorted({message.text for message in accepted} - set(dropped))
            for writer in range(3):
                numbers = [int(text[2:]) for text in arrived if text.startswith(f"{writer}-")]
                assert numbers == sorted(numbers)
        kept.lose()
