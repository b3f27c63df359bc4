"""A whole client on signal-cli's own daemon, through everything that happens to it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Backoff,
    ConfigurationError,
    ConnectionState,
    Cursor,
    FailedRecipient,
    Gap,
    GapReason,
    Reason,
    ReceivedMessage,
    Sent,
    SignalClient,
    Unsupported,
    open_signal_client,
)
from trio_signal.testing import (
    START_TIME,
    FakeGateway,
    open_fake_gateway,
    partial,
    rate_limited,
    rpc_error,
)

PEER = "+15550002"
EXACT = Backoff(jitter=False)


def wall() -> float:
    return START_TIME + trio.current_time()


def milliseconds(moment: float) -> int:
    return round((START_TIME + moment) * 1000)


@asynccontextmanager
async def open_daemon(**options: Any) -> AsyncGenerator[FakeGateway]:
    async with open_fake_gateway(kind="signal-cli", port=None, **options) as gateway:
        yield gateway


@asynccontextmanager
async def open_client(there: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    defaults: dict[str, Any] = {"connect": there.connect, "backoff": EXACT, "wall_clock": wall}
    account = options.pop("account", there.account)
    async with open_signal_client(there.url, account, **(defaults | options)) as signal:
        yield signal


async def take(signal: SignalClient, count: int) -> list[Any]:
    """Return the next events, messages as their text."""
    found: list[Any] = []
    events = signal.events()
    with trio.fail_after(3600):
        while len(found) < count:
            event = await anext(events)
            found.append(event.text if isinstance(event, ReceivedMessage) else event)
    return found


KEEPS: dict[str, Any] = {"receive_mode": "on-connection"}


@pytest.mark.contract("R2", "R3", "C3")
async def test_what_waited_while_the_daemon_was_away_comes_before_connected_and_without_a_gap(
    autojump_clock: MockClock,
) -> None:
    async with open_daemon(backlog_spacing=1.0) as daemon, open_client(daemon, **KEEPS) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        daemon.terminate()
        for number in range(5):
            daemon.deliver(text=f"{number}")
        sent = await signal.send_message(PEER, "meanwhile")
        changes = signal.state_changes()
        await trio.sleep(30)
        await daemon.start()
        assert await take(signal, 5) == ["0", "1", "2", "3", "4"]
        assert (signal.state, sent.outcome) == (ConnectionState.SYNCING, None)
        assert isinstance(await sent.wait(), Sent)
        while (change := await anext(changes)).current is not ConnectionState.SYNCING:
            pass
        done = await anext(changes)
        assert (done.current, done.reason) == (ConnectionState.CONNECTED, Reason.SYNCHRONISED)
        # Four pauses between the messages, and then the quiet time.
        assert done.time - change.time == pytest.approx(4 + 5)
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R3")
async def test_a_daemon_that_keeps_nothing_leaves_a_gap(autojump_clock: MockClock) -> None:
    async with open_daemon(receive_mode="on-start") as daemon, open_client(daemon) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        await trio.sleep(20)
        daemon.drop()
        daemon.deliver(text="lost")
        await daemon.wait_connected()
        await signal.wait_state(ConnectionState.CONNECTED)
        daemon.deliver(text="live")
        gap, text = await take(signal, 2)
        assert (gap.reason, gap.since) == (GapReason.GATEWAY, milliseconds(15))
        assert text == "live"


@pytest.mark.contract("L3", "R3")
async def test_a_cut_cable_is_noticed_and_what_it_may_have_swallowed_is_a_gap(
    autojump_clock: MockClock,
) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        daemon.half_open()
        daemon.deliver(text="swallowed")
        cut = trio.current_time()
        await signal.wait_state(ConnectionState.DISCONNECTED)
        assert trio.current_time() - cut <= 40
        (gap,) = await take(signal, 1)
        assert isinstance(gap, Gap)
        assert gap.since <= milliseconds(cut)
        assert gap.until >= milliseconds(cut + 35)
        assert daemon.statistics().lost_to_half_open == 1


@pytest.mark.contract("R3", "R5")
@pytest.mark.parametrize("hours", [0.01, 3, 48])
async def test_a_new_process_is_told_of_all_that_the_old_one_may_have_lost(
    autojump_clock: MockClock, hours: float
) -> None:
    """The old process lived on after the moment that its cursor tells; what it received then is lost."""
    async with open_daemon() as daemon:
        async with open_client(daemon, **KEEPS) as old:
            await old.wait_state(ConnectionState.CONNECTED)
            daemon.deliver(text="taken")
            assert await take(old, 1) == ["taken"]
            cursor = old.cursor
            await trio.sleep(3600)
            daemon.deliver(text="in the inbox when it died")
            await trio.sleep(1)
        assert isinstance(cursor, Cursor)
        # Until the daemon has noticed, it writes into the connection that has ended.
        await trio.sleep(31)
        daemon.deliver(text="waited")
        await trio.sleep(3600 * hours)
        async with open_client(daemon, cursor=cursor, **KEEPS) as new:
            gap, *texts = await take(new, 2)
            assert texts == ["waited"]
            assert (gap.reason, gap.since) == (GapReason.GATEWAY, cursor.time)
            assert gap.until == milliseconds(trio.current_time())


@pytest.mark.contract("C6", "O1")
async def test_all_accounts_of_a_daemon_at_once(autojump_clock: MockClock) -> None:
    accounts = ["+15550001", "+15550009"]
    async with open_daemon(accounts=accounts) as daemon:
        async with open_client(daemon, account=None, **KEEPS) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            assert signal.account is None
            for account in accounts:
                daemon.deliver(text=f"to {account}", account=account)
            events: list[Any] = []
            stream = signal.events()
            while len(events) < 2:
                events.append(await anext(stream))
            assert [e.account for e in events if isinstance(e, ReceivedMessage)] == accounts
            with pytest.raises(ConfigurationError, match="^account: "):
                await signal.send_message(PEER, "whose?")
            message = await signal.send_message(PEER, "mine", account="+15550009")
            await message.wait()
            assert daemon.received[-1].number == "+15550009"
    async with open_fake_gateway(port=None) as gateway:
        with pytest.raises(Unsupported, match="signal-cli"):
            async with open_client(gateway, account=None):
                await trio.sleep_forever()


@pytest.mark.contract("O4", "A2")
async def test_what_is_said_keeps_its_order_over_an_outage(autojump_clock: MockClock) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        first = await signal.send_message(PEER, "frist")
        await first.wait()
        daemon.kill()
        await signal.wait_state(ConnectionState.DISCONNECTED)
        waiting = [
            await signal.send_message(PEER, "second"),
            await signal.edit_message(first, "first"),
            await signal.send_reaction(first, "👍"),
            await signal.remote_delete(first),
            await signal.send_message(PEER, "third"),
        ]
        await trio.sleep(100)
        await daemon.start()
        for message in waiting:
            await message.wait()
        said = [(send.kind, send.message) for send in daemon.received]
        assert said[1:] == [
            ("send", "second"),
            ("send", "first"),
            ("reaction", "👍"),
            ("remote_delete", ""),
            ("send", "third"),
        ]


@pytest.mark.contract("O6", "A5")
async def test_a_challenge_that_is_solved_lets_the_queue_go_on(autojump_clock: MockClock) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        daemon.script_send(rate_limited(("solve-me",), retry_after=86_400))
        await signal.send_message(PEER, "one too many")
        second = await signal.send_message(PEER, "waits")
        (challenge,) = await take(signal, 1)
        assert (challenge.tokens, challenge.account, challenge.paused_for) == (
            ("solve-me",),
            daemon.account,
            86_400,
        )
        before = trio.current_time()
        await trio.sleep(60)
        assert second.outcome is None
        await signal.submit_rate_limit_challenge("solve-me", "signalcaptcha://solved")
        await second.wait()
        assert trio.current_time() - before == pytest.approx(60, abs=1)


@pytest.mark.contract("O6")
async def test_who_was_not_reached_is_named_with_the_time_to_wait(autojump_clock: MockClock) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        group = await signal.create_group("All", [PEER, "+15550003"])
        failed = {"number": "+15550003", "reason": "RATE_LIMIT_FAILURE", "retryAfterSeconds": 30}
        daemon.script_send(partial([failed]))
        sent = await (await signal.send_message(group, "hello")).wait()
        assert [f.recipient for f in sent.failed] == ["+15550003"]
        assert isinstance(sent.failed[0], FailedRecipient)


@pytest.mark.contract("O5")
async def test_a_message_that_may_have_gone_out_is_not_sent_again(autojump_clock: MockClock) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        daemon.script_send(rpc_error(-32603, "Failed to send message: reset (IOException)"))
        message = await signal.send_message(PEER, "once")
        with pytest.raises(Exception, match="unknown"):
            await message.wait()
        await trio.sleep(1000)
        assert len(daemon.received) == 1


@pytest.mark.contract("C6")
@pytest.mark.parametrize("first", ["rest", "signal-cli"])
async def test_another_gateway_in_the_place_of_the_old_one_is_found_out(
    autojump_clock: MockClock, first: Any
) -> None:
    second: Any = "signal-cli" if first == "rest" else "rest"
    async with (
        open_fake_gateway(kind=first, port=None) as before,
        open_fake_gateway(kind=second, port=None) as after,
    ):
        there = before

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return await there.connect(host, port)

        async with open_client(before, connect=connect) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            there = after
            before.kill()
            await signal.wait_state(ConnectionState.DISCONNECTED)
            with trio.fail_after(300):
                await signal.wait_state(ConnectionState.CONNECTED)
            await (await signal.send_message(PEER, "hello")).wait()
            assert len(after.received) == 1


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>hello</html>"), (405, ""), (403, "no"), (404, "?")]
)
async def test_a_daemon_behind_a_proxy_that_answers_for_it_is_found_all_the_same(
    autojump_clock: MockClock, status: int, body: str
) -> None:
    async with open_daemon() as daemon:
        daemon.reject(status, body=body, on="http")
        async with open_client(daemon) as signal:
            with trio.fail_after(60):
                await signal.wait_state(ConnectionState.CONNECTED)
            await (await signal.send_message(PEER, "hello")).wait()


@pytest.mark.contract("C5", "O1")
async def test_leaving_in_any_moment_gives_every_message_its_outcome(autojump_clock: MockClock) -> None:
    for moment in (0.0, 0.01, 4.99, 5.0, 5.01, 20.0, 39.99, 40.0):
        async with open_daemon(answer_delay=0.01, version="0.13.19") as daemon:
            async with open_client(daemon, close_timeout=0, **KEEPS) as signal:
                messages = [await signal.send_message(PEER, f"{n}") for n in range(3)]
                await trio.sleep(moment)
            assert all(message.outcome is not None for message in messages)
            await trio.sleep(31)
            assert daemon.statistics().connections == 0


@pytest.mark.contract("R3")
async def test_what_waited_during_a_harmless_absence_is_in_the_gap_of_a_link_that_was_dead_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_daemon() as daemon, open_client(daemon, **KEEPS) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        await trio.sleep(20)
        daemon.terminate()
        await trio.sleep(4000)
        await daemon.start()
        await signal.wait_state(ConnectionState.CONNECTED)
        await trio.sleep(1)
        daemon.half_open()
        await trio.sleep(1)
        daemon.deliver(text="swallowed")
        lost = milliseconds(trio.current_time())
        (gap,) = await take(signal, 1)
        assert isinstance(gap, Gap)
        assert gap.since <= lost <= gap.until


@pytest.mark.contract("R3")
async def test_the_rest_of_what_waited_is_in_the_gap_where_it_did_not_come(autojump_clock: MockClock) -> None:
    async with open_daemon(backlog_spacing=1.0) as daemon, open_client(daemon, **KEEPS) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        await trio.sleep(20)
        daemon.terminate()
        written: list[int] = []
        for number in range(5):
            await trio.sleep(100)
            daemon.deliver(text=f"{number}")
            written.append(milliseconds(trio.current_time()))
        await trio.sleep(1000)
        await daemon.start()
        assert await take(signal, 2) == ["0", "1"]
        daemon.half_open()
        (gap,) = await take(signal, 1)
        assert isinstance(gap, Gap)
        assert gap.since <= written[2]
