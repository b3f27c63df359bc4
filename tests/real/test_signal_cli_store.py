"""The real signal-cli frozen, killed, restarted and ended in order while a client with a store sends.

Its daemon has no account, so its answer to each send is that: a true answer, by which what it has read can be
told from what it has not. The client opens no stream, which would take 15 s each time.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trio_signal import (
    Backoff,
    Certainty,
    ConnectionState,
    Failed,
    MessageSettled,
    OutgoingMessage,
    SendFailed,
    SignalClient,
    open_signal_client,
)

from .signal_cli import SignalCli

#: An account that the daemon does not have, and whom it is asked to write to.
STRANGER = "+15550001"
PEER = "+15550002"

#: What the daemon says to it.
WORDS = "Specified account does not exist"

#: Seconds within which anything must have happened, the start of a daemon on a busy machine too.
PATIENCE = 60.0


@asynccontextmanager
async def client(daemon: SignalCli, store: Path) -> AsyncGenerator[SignalClient]:
    with trio.fail_after(PATIENCE):
        async with open_signal_client(
            daemon.url,
            None,
            gateway="signal-cli",
            receive=False,
            store=store,
            send_timeout=1.0,
            settle_timeout=0.0,
            ping_interval=1.0,
            close_timeout=0.0,
            backoff=Backoff(initial=0.1, maximum=0.2, jitter=False),
        ) as signal:
            yield signal


async def send(signal: SignalClient, name: str) -> OutgoingMessage:
    return await signal.send_message(PEER, name, account=STRANGER, id=name)


async def certainty(message: OutgoingMessage) -> Certainty:
    """Wait for a message's end, which is bad, and return what is known of it."""
    with pytest.raises(SendFailed) as failed:
        await message.wait()
    assert (failed.value.certainty is Certainty.UNKNOWN) or WORDS in str(failed.value.error)
    return failed.value.certainty


async def in_doubt(signal: SignalClient, daemon: SignalCli, name: str) -> OutgoingMessage:
    """Send something to a daemon that takes it and stands still."""
    daemon.freeze()
    message = await send(signal, name)
    while not signal.statistics().in_flight:  # noqa: ASYNC110
        await trio.sleep(0.01)
    await trio.sleep(0.1)
    return message


async def settled(signal: SignalClient, *names: str) -> dict[str, tuple[Certainty, str]]:
    """Wait until the client has told what became of an earlier one's messages."""
    found: dict[str, tuple[Certainty, str]] = {}
    async for event in signal.events():
        assert isinstance(event, MessageSettled)
        assert isinstance(event.outcome, Failed)
        assert event.message_id not in found
        found[event.message_id] = event.outcome.certainty, str(event.outcome.error)
        if found.keys() >= set(names):
            break
    return found


@pytest.mark.contract("D1", "C5", "O4", "O5", "O11")
async def test_what_it_did_not_get_waits_for_it_over_its_end_and_ours(tmp_path: Path) -> None:
    store = tmp_path / "bot.db"
    with SignalCli(receive_mode="on-connection") as daemon:
        daemon.start()
        await trio.to_thread.run_sync(daemon.wait_ready)
        async with client(daemon, store) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            assert await certainty(await send(signal, "answered")) is Certainty.NOT_SENT
            # It stands still for longer than a send may take, and goes on.
            late = await in_doubt(signal, daemon, "late")
            assert await certainty(late) is Certainty.UNKNOWN
            daemon.thaw()
            assert await certainty(await send(signal, "answered again")) is Certainty.NOT_SENT
            # It is killed in the middle of one, and another waits behind it.
            lost = await in_doubt(signal, daemon, "lost")
            waiting = await send(signal, "waiting")
            daemon.kill()
            await trio.to_thread.run_sync(daemon.wait_ended)
            assert await certainty(lost) is Certainty.UNKNOWN
            await trio.sleep(0.5)
            assert waiting.outcome is None
        # We have ended, and so has it; both come again, it a little later.
        async with client(daemon, store) as signal:
            assert signal.statistics().buffer.outgoing.pending == 1
            behind = await send(signal, "behind")
            daemon.start()
            told = await settled(signal, "waiting")
            assert told["waiting"][0] is Certainty.NOT_SENT
            assert WORDS in told["waiting"][1]
            assert await certainty(behind) is Certainty.NOT_SENT


@pytest.mark.contract("D1", "C5", "O5")
async def test_we_end_in_the_middle_of_a_send_and_it_ends_in_order(tmp_path: Path) -> None:
    store = tmp_path / "bot.db"
    with SignalCli(receive_mode="on-connection") as daemon:
        daemon.start()
        await trio.to_thread.run_sync(daemon.wait_ready)
        async with client(daemon, store) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            in_flight = await in_doubt(signal, daemon, "in flight")
            waiting = await send(signal, "waiting")
        assert isinstance(in_flight.outcome, Failed)
        assert in_flight.outcome.certainty is Certainty.UNKNOWN
        assert waiting.outcome is None
        # What it had read before it was frozen it answers to nobody; then it is told to end.
        daemon.thaw()
        async with client(daemon, store) as signal:
            told = await settled(signal, "waiting")
            assert told.pop("waiting")[0] is Certainty.NOT_SENT
            # What the first one was told at its very end may be told once more.
            assert [each for each, _ in told.values()] in ([], [Certainty.UNKNOWN])
            messages = [await send(signal, f"{number}") for number in range(5)]
            daemon.terminate()
            await trio.to_thread.run_sync(daemon.wait_ended)
            answered = [message for message in messages if message.outcome is not None]
            assert signal.statistics().buffer.outgoing.pending == 5 - len(answered)
            daemon.start()
            doubts = [await certainty(message) for message in messages].count(Certainty.UNKNOWN)
            assert doubts <= 1
