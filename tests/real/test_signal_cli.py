"""The real signal-cli: what it answers, and how it is met when it comes and goes. Real time passes.

Its daemon has no account, since none can be made offline; so no message ever comes. It holds back the head of
a stream until the first keep-alive, so every connection takes 15 s.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import trio

from trio_signal import (
    AnswerError,
    Backoff,
    Certainty,
    ConnectionState,
    Gap,
    GapReason,
    Reason,
    RequestFailed,
    SendFailed,
    SignalClient,
    StateChange,
    StateChanges,
    UnknownAccount,
    open_signal_client,
)

from ..signal_cli_cases import Case, StreamCase, check_case, check_stream, load_cases, load_streams
from .signal_cli import VERSION, SignalCli

#: An account that the daemon does not have, and whom it is asked to write to.
STRANGER = "+15550001"
PEER = "+15550002"

DISCONNECTED = ConnectionState.DISCONNECTED
RECONNECTING = ConnectionState.RECONNECTING
CONNECTED = ConnectionState.CONNECTED

#: Seconds that a daemon takes to start.
START = 5.0
#: Seconds until the daemon shows the head of a stream, and then between its keep-alives.
KEEP_ALIVE = 15.0
#: Seconds without a sign of life after which a stream is given up.
LIMIT = 40.0
#: Seconds by which a busy machine may be late.
SLACK = 10.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[SignalCli]:
    """One that nobody ends."""
    with SignalCli(receive_mode="on-connection") as cli:
        cli.start()
        cli.wait_ready()
        yield cli


@asynccontextmanager
async def running() -> AsyncGenerator[SignalCli]:
    """Run one that may be ended."""
    with SignalCli(receive_mode="on-connection") as cli:
        cli.start()
        await in_thread(cli.wait_ready)
        yield cli


@asynccontextmanager
async def client(
    daemon: SignalCli, receive_mode: Literal["on-start", "on-connection"] = "on-connection"
) -> AsyncGenerator[SignalClient]:
    async with open_signal_client(
        daemon.url,
        None,
        gateway="signal-cli",
        receive_mode=receive_mode,
        quiet_time=1.0,
        send_timeout=5.0,
        backoff=Backoff(maximum=2.0, jitter=False),
    ) as signal:
        yield signal


async def reached(changes: StateChanges, state: ConnectionState, *, within: float) -> StateChange:
    """Wait for the next change to this state, and fail after ``within`` seconds."""
    with trio.fail_after(within + SLACK):
        async for change in changes:
            if change.current is state:
                return change
    raise AssertionError("the client was closed")


async def in_thread(wait: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(wait)


def gaps(signal: SignalClient) -> int:
    """Return how many gaps were told so far."""
    return signal.statistics().receiving.gaps


# The two tests that take a minute stand first and last, since pytest-xdist leaves neighbours to one worker.


@pytest.mark.contract("A1", "O6")
async def test_what_is_alive_stays_connected(daemon: SignalCli) -> None:
    """A client that had to find out what it talks to, and the bare streams beside it."""

    async def listen(case: StreamCase) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
            await check_stream(stream, case, host=f"127.0.0.1:{daemon.port}", slack=5.0)

    async with trio.open_nursery() as nursery:
        for case in load_streams(VERSION):
            nursery.start_soon(listen, case)
        async with open_signal_client(daemon.url, None, quiet_time=1.0) as signal:
            changes = signal.state_changes()
            began = trio.current_time()
            # Requests go their own way, and do not wait for the stream.
            with trio.fail_after(SLACK):
                await ask(signal)
            await reached(changes, CONNECTED, within=KEEP_ALIVE)
            assert trio.current_time() - began > KEEP_ALIVE - 1
            await send(signal)
            await trio.sleep(LIMIT + 2)
            assert signal.state is CONNECTED
            assert signal.statistics().generation == 1
            assert gaps(signal) == 0


async def ask(signal: SignalClient) -> None:
    assert await signal.call("version") == {"version": VERSION}
    assert await signal.list_accounts() == ()
    with pytest.raises(RequestFailed, match="Specified account does not exist") as failed:
        await signal.list_groups(account=STRANGER)
    assert failed.value.certainty is Certainty.NOT_SENT
    with pytest.raises(RequestFailed, match="Method not implemented"):
        await signal.call("nothing")


async def send(signal: SignalClient) -> None:
    message = await signal.send_message(PEER, "hi", account=STRANGER)
    with trio.fail_after(SLACK), pytest.raises(SendFailed) as failed:
        await message.wait()
    assert failed.value.certainty is Certainty.NOT_SENT
    error = failed.value.error
    assert isinstance(error, AnswerError)
    assert (error.status, error.code, error.text) == (200, -32602, "Specified account does not exist")


# Without those that would make it ask Signal itself, where this machine reaches it.
@pytest.mark.parametrize(
    "case", [case for case in load_cases(VERSION) if not case.network], ids=lambda case: case.name
)
async def test_answers(daemon: SignalCli, case: Case) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
        await check_case(stream, case, host=f"127.0.0.1:{daemon.port}", version=VERSION)


@pytest.mark.parametrize("gateway", ["auto", "signal-cli"])
async def test_an_account_that_it_does_not_have_is_named(
    daemon: SignalCli, gateway: Literal["auto", "signal-cli"]
) -> None:
    with trio.fail_after(SLACK), pytest.raises(UnknownAccount, match=r"\+15550001"):
        async with open_signal_client(daemon.url, STRANGER, gateway=gateway):
            await trio.sleep_forever()


@pytest.mark.contract("C6", "L3", "R3", "O5")
async def test_it_comes_and_goes() -> None:
    """Four daemons at once, since each scene waits most of the time."""
    async with trio.open_nursery() as nursery:
        for scene in (terminated, killed, frozen, late):
            nursery.start_soon(scene)


async def terminated() -> None:
    """It ends as its service manager wants it. It says goodbye, so all that it had for us has come."""
    async with running() as daemon, client(daemon) as signal, client(daemon, "on-start") as careful:
        changes, others = signal.state_changes(), careful.state_changes()
        await reached(changes, CONNECTED, within=KEEP_ALIVE)
        await reached(others, CONNECTED, within=KEEP_ALIVE)
        daemon.terminate()
        lost = await reached(changes, DISCONNECTED, within=1)
        assert lost.reason is Reason.CLOSED_BY_GATEWAY
        await come_back(daemon, changes, lost)
        assert gaps(signal) == 0
        # What a daemon throws away that was started without --receive-mode=on-connection.
        await reached(others, CONNECTED, within=KEEP_ALIVE)
        assert gaps(careful) == 1


async def killed() -> None:
    """It ends without a word, which only the kernel tells."""
    async with running() as daemon, client(daemon) as signal:
        changes = signal.state_changes()
        await reached(changes, CONNECTED, within=KEEP_ALIVE)
        daemon.kill()
        lost = await reached(changes, DISCONNECTED, within=1)
        assert lost.reason is Reason.CONNECTION_LOST
        await come_back(daemon, changes, lost)


async def come_back(daemon: SignalCli, changes: StateChanges, lost: StateChange) -> None:
    """Start it again when two attempts have failed; they are counted."""
    await in_thread(daemon.wait_ended)
    for attempt in (lost.attempt + 1, lost.attempt + 2):
        assert (await reached(changes, RECONNECTING, within=1)).attempt == attempt
        failed = await reached(changes, DISCONNECTED, within=2)
        assert (failed.reason, failed.attempt) == (Reason.ATTEMPT_FAILED, attempt)
    daemon.start()
    assert (await reached(changes, CONNECTED, within=START + KEEP_ALIVE)).attempt > lost.attempt + 2


async def frozen() -> None:
    """It stands still, and its kernel goes on taking what is sent: only silence tells."""
    async with running() as daemon, client(daemon) as signal:
        changes = signal.state_changes()
        await reached(changes, CONNECTED, within=KEEP_ALIVE)
        daemon.freeze()
        began = trio.current_time()
        message = await signal.send_message(PEER, "hi", account=STRANGER)
        # Once the time for evidence is over too.
        with trio.fail_after(SLACK + 10), pytest.raises(SendFailed) as failed:
            await message.wait()
        assert failed.value.certainty is Certainty.UNKNOWN
        lost = await reached(changes, DISCONNECTED, within=LIMIT)
        assert lost.reason is Reason.NO_ANSWER
        assert trio.current_time() - began > LIMIT - KEEP_ALIVE
        daemon.thaw()
        await reached(changes, CONNECTED, within=KEEP_ALIVE)
        with trio.fail_after(SLACK):
            gap = await anext(aiter(signal.events()))
        assert isinstance(gap, Gap)
        assert gap.reason is GapReason.GATEWAY


async def late() -> None:
    """It is not there yet when its client is, and then takes its time."""
    with SignalCli(receive_mode="on-connection") as daemon:
        async with client(daemon) as signal:
            changes = signal.state_changes()
            assert (await reached(changes, DISCONNECTED, within=1)).reason is Reason.ATTEMPT_FAILED
            daemon.start()
            daemon.freeze()
            await trio.sleep(5)
            daemon.thaw()
            assert (await reached(changes, CONNECTED, within=START + KEEP_ALIVE)).attempt > 2
            assert gaps(signal) == 0
