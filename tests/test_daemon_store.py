"""``trio-signal daemon --store``: what it tells, what it keeps, and how it fails."""

import json
import math
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import SignalClient, Store, StoreFull
from trio_signal._cli.daemon import HubSettings
from trio_signal._cli.daemon_command import run
from trio_signal._cli.exits import Exit
from trio_signal._cli.options import UsageError
from trio_signal._cli.output import open_log_writer
from trio_signal._cli.parser import parse
from trio_signal.cli import main
from trio_signal.store import inline
from trio_signal.testing import MemoryListener, hang, open_fake_gateway

from .daemons import PEER, running
from .stores import KilledStore
from .test_daemon_hub import hub_on

GIVEN = ("--gateway", "http://127.0.0.1:1", "--account", "+15550001")


def store_in(folder: Path) -> Store:
    """Return a store that needs no thread, which the test's clock would not wait for."""
    return Store(folder / "bot.db", run=inline)


@pytest.mark.contract("D1", "C5", "O4")
async def test_what_waits_at_the_end_is_kept_and_the_next_start_sends_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.refuse()
        async with running(gateway, store=store_in(tmp_path), close_timeout=1.0) as daemon:
            for name in "abc":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(1)
            assert await daemon.stop() == Exit.OK
        assert daemon.told("store_opened", "path", "messages_taken_over") == [(str(tmp_path / "bot.db"), 0)]
        assert daemon.told("message_kept", "id") == ["a", "b", "c"]
        assert daemon.told("outcome") == []
        assert daemon.told("daemon_stopped", "accepted", "pending", "unsent") == [(3, 3, 0)]
        assert daemon.events[-1]["event"] == "daemon_stopped"
        gateway.heal()
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            await gateway.wait_received(3)
            daemon.input.line(recipient=PEER, text="d", id="d")
            await gateway.wait_received(4)
        assert [send.message for send in gateway.received] == list("abcd")
        assert daemon.told("store_opened", "messages_taken_over") == [3]
        assert sorted(daemon.told("outcome", "id", "outcome")) == [(name, "sent") for name in "abcd"]
        assert daemon.told("message_kept") == []
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            await gateway.wait_connected()
        assert daemon.told("outcome") == []


async def test_what_was_in_flight_at_the_end_is_unsent_and_what_waits_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(hang())
        async with running(gateway, store=store_in(tmp_path), close_timeout=1.0, settle_timeout=0) as daemon:
            daemon.input.line(recipient=PEER, text="a", id="a")
            daemon.input.line(recipient=PEER, text="b", id="b")
            await gateway.wait_received(1)
            await trio.sleep(1)
            assert await daemon.stop() == Exit.NOT_SENT
    assert daemon.told("outcome", "id", "certainty") == [("a", "unknown")]
    assert daemon.told("message_kept", "id") == ["b"]


@pytest.mark.contract("R5", "D1")
async def test_an_event_counts_as_taken_once_its_line_is_written(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str | None] = []
    acknowledge = SignalClient.acknowledge

    def noting(self: SignalClient, event: Any) -> None:
        done.append(event.text)
        acknowledge(self, event)

    monkeypatch.setattr(SignalClient, "acknowledge", noting)
    is_writing = trio.Event()
    async with open_fake_gateway(port=None) as gateway:
        async with running(
            gateway, store=store_in(tmp_path), written=is_writing.wait, close_timeout=0.0
        ) as daemon:
            await gateway.wait_connected()
            gateway.deliver(text="one")
            gateway.deliver(text="two")
            await trio.sleep(1)
            assert (daemon.told("message_received", "kind"), done) == (["message"], [])
            is_writing.set()
            await trio.sleep(1)
            assert (daemon.told("message_received", "kind"), done) == (["message"] * 2, ["one", "two"])


@pytest.mark.parametrize("with_hub", [False, True], ids=["alone", "with a hub"])
@pytest.mark.contract("D1")
async def test_an_outcome_whose_line_was_not_written_at_a_kill_is_told_again(
    tmp_path: Path, autojump_clock: MockClock, with_hub: bool
) -> None:
    killed = KilledStore(tmp_path)

    def hub() -> HubSettings | None:
        return hub_on(MemoryListener(), key=None) if with_hub else None

    async with open_fake_gateway(port=None) as gateway:
        gateway.refuse()
        async with running(gateway, store=killed.store, close_timeout=1.0) as daemon:
            daemon.input.line(recipient=PEER, text="a", id="a")
            await trio.sleep(1)
            await daemon.stop()
        gateway.heal()
        async with running(gateway, store=killed.store, hub=hub(), written=trio.sleep_forever) as daemon:
            await gateway.wait_received(1)
            await trio.sleep(5)
            # Alone it has not even told it: the line of the gap before it is not written either.
            assert daemon.told("outcome", "id") == (["a"] if with_hub else [])
            after = killed.kill()
        for told in (["a"], []):
            async with running(gateway, store=after, hub=hub()) as daemon:
                await gateway.wait_connected()
                await trio.sleep(1)
            assert daemon.told("outcome", "id") == told


@pytest.mark.contract("D1")
async def test_a_log_whose_reader_has_stalled_holds_up_a_hub_for_a_while_at_most(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.refuse()
        async with running(gateway, store=store_in(tmp_path), close_timeout=1.0) as daemon:
            for name in "abc":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(1)
            await daemon.stop()
        gateway.heal()
        hub = hub_on(MemoryListener(), key=None)
        async with running(gateway, store=store_in(tmp_path), hub=hub, written=trio.sleep_forever) as daemon:
            await gateway.wait_received(3)
            await trio.sleep(1)
            assert daemon.told("outcome", "id") == ["a"]
            await trio.sleep(10)
            assert daemon.told("outcome", "id") == ["a", "b", "c"]
            with trio.fail_after(11):
                assert await daemon.stop() == Exit.OK
        # Nobody has seen them.
        for told in (["a", "b", "c"], []):
            hub = hub_on(MemoryListener(), key=None)
            async with running(gateway, store=store_in(tmp_path), hub=hub) as daemon:
                await gateway.wait_connected()
                await trio.sleep(1)
            assert daemon.told("outcome", "id") == told


@pytest.mark.contract("C5", "R5")
async def test_a_log_whose_reader_has_stalled_does_not_hold_up_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, store=store_in(tmp_path), written=trio.sleep_forever) as daemon:
            await gateway.wait_connected()
            await trio.sleep(10)
            gateway.deliver(text="one")
            gateway.deliver(text="two")
            await trio.sleep(1)
            assert daemon.told("message_received", "kind") == ["message"]
            with trio.fail_after(11):
                assert await daemon.stop() == Exit.OK
        # Those whose line was not written do not count as taken.
        assert daemon.told("message_received", "kind") == ["message"] * 2
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            await gateway.wait_connected()
            await trio.sleep(1)
        [(since, until)] = daemon.told("gap", "since", "until")
        assert since < until


@pytest.mark.contract("D2")
async def test_a_line_that_finds_the_disk_full_waits_until_there_is_room(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True
    send_message = SignalClient.send_message

    async def sending(self: SignalClient, *args: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if is_full:
            raise StoreFull("the disk is full: make room")
        return await send_message(self, *args, **options)

    monkeypatch.setattr(SignalClient, "send_message", sending)
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            for name in "ab":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(10)
            assert daemon.told("store_failed", "line", "error") == [(1, "the disk is full: make room")]
            is_full = False
            await gateway.wait_received(2)
        assert [send.message for send in gateway.received] == ["a", "b"]
        is_full = True
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            daemon.input.line(recipient=PEER, text="c", id="c")
            await trio.sleep(10)
            assert await daemon.stop() == Exit.NOT_SENT
        assert daemon.told("outcome", "id", "outcome", "reason") == [("c", "dropped", "closed")]


@pytest.mark.contract("D2")
def test_a_store_that_cannot_be_used_is_one_sentence_and_an_exit_code_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("this is no database, and stays as it is" * 100)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in (tmp_path / "missing" / "bot.db", tmp_path, tmp_path / "text", tmp_path / "other.db"):
        assert main(["daemon", *GIVEN, "--store", str(path)]) == Exit.STORE
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("trio-signal: --store (environment variable TRIO_SIGNAL_STORE): ")
        assert captured.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_a_store_in_use_is_refused(
    tmp_path: Path, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway, store=store_in(tmp_path)):
        async with running(gateway, store=store_in(tmp_path)) as second:
            await second.ended.wait()
        assert second.code == Exit.STORE
    assert "--store" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--durability", "full"), ("--copy-attachments",)])
def test_options_of_a_store_need_one(option: tuple[str, ...]) -> None:
    command, values = parse(["daemon", *GIVEN, *option], {})
    assert command == "daemon"
    with pytest.raises(UsageError, match=rf"{option[0]} .*: it is for a store; give --store too"):
        run(values, {}, None)


def test_a_durability_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["daemon", *GIVEN, "--store", "bot.db", "--durability", "eternal"]) == Exit.USAGE
    assert (
        "--durability (environment variable TRIO_SIGNAL_DURABILITY): 'eternal' is none"
        in capsys.readouterr().err
    )


async def test_the_log_says_when_it_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    async with open_log_writer() as writer:
        writer.write("one\n")
        writer.write("two\n")
        await writer.wait_written()
        assert capfd.readouterr().out == "one\ntwo\n"
        await writer.wait_written()


@pytest.mark.contract("R5", "D1")
async def test_what_nobody_reads_is_never_written() -> None:
    with trio.fail_after(5):
        async with open_log_writer(fd=-1) as writer:
            for lost in (0, 1):
                writer.write("one\n")
                with trio.move_on_after(0.05) as waiting:
                    await writer.wait_written()
                assert waiting.cancelled_caught
                assert writer.lost == lost


@pytest.mark.contract("R5", "D1")
async def test_an_event_that_the_log_had_no_room_for_is_told_again_and_counts_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    written = trio.Event()
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, store=store_in(tmp_path), written=lambda: written.wait()) as daemon:
            await gateway.wait_connected()
            await trio.sleep(1)
            daemon.room = len(daemon.events)
            gateway.deliver(text="one")
            await trio.sleep(1)
            assert daemon.lost == 1
            daemon.room = math.inf
            written.set()
            gateway.deliver(text="two")
            await trio.sleep(1)
            assert daemon.told("message_received", "kind") == ["message"] * 2
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            await gateway.wait_connected()
            await trio.sleep(1)
        [(since, until)] = daemon.told("gap", "since", "until")
        assert since < until


@pytest.mark.contract("D1")
async def test_an_outcome_that_the_log_had_no_room_for_is_told_by_the_next_process(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    killed = KilledStore(tmp_path)
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, store=killed.store) as daemon:
            await gateway.wait_connected()
            daemon.room = len(daemon.events)
            daemon.input.line(recipient=PEER, text="a", id="a")
            await gateway.wait_received(1)
            await trio.sleep(1)
            daemon.room = math.inf
            daemon.input.line(recipient=PEER, text="b", id="b")
            await gateway.wait_received(2)
            await trio.sleep(1)
            after = killed.kill()
        async with running(gateway, store=after) as daemon:
            await gateway.wait_connected()
            await trio.sleep(1)
        assert daemon.told("outcome", "id") == ["a"]


async def test_outcomes_whose_lines_are_written_are_not_told_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Even after an end that is no end in order."""
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, store=store_in(tmp_path), close_timeout=60.0) as daemon:
            daemon.input.line(recipient=PEER, text="a", id="a")
            await gateway.wait_received(1)
            await trio.sleep(1)
            gateway.refuse()
            gateway.drop()
            daemon.input.line(recipient=PEER, text="b", id="b")
            await trio.sleep(1)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(1)
            assert await daemon.stop(signal.SIGINT) == Exit.OK
        assert daemon.told("outcome", "id") == ["a"]
        gateway.heal()
        async with running(gateway, store=store_in(tmp_path)) as daemon:
            await gateway.wait_received(2)
            await trio.sleep(1)
        assert daemon.told("outcome", "id", "outcome") == [("b", "sent")]
        assert "text" not in json.dumps(daemon.told("outcome"))
