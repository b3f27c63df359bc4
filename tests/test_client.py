"""The life of a client: opening, a bot, leaving in every way, failing for good, wrong arguments."""

import base64
import logging
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Backoff,
    BufferFull,
    ClientClosed,
    ConfigurationError,
    ConnectionState,
    Cursor,
    Gap,
    GatewayRefused,
    LinkLost,
    MessageDropped,
    MessageKind,
    OutgoingAttachment,
    OutgoingMessage,
    PermanentError,
    Quote,
    RateLimit,
    Reason,
    SendFailed,
    SignalClient,
    StateChange,
    UnknownAccount,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal.testing import FakeGateway, envelopes, hang, slow

from .scene import (
    CONNECTED,
    DISCONNECTED,
    PEER,
    Dialler,
    WatchedStream,
    check_history,
    check_ledger,
    closing_within,
    collect,
    connected,
    living_tasks,
    logged,
    open_client,
    open_gateway,
    outcomes_of,
    record,
    send_all,
    settled,
    texts_at,
    texts_in,
    wait_done,
)

GROUP_ID = base64.b64encode(bytes(range(32))).decode()
GROUP = f"group.{base64.b64encode(GROUP_ID.encode()).decode()}"
OWN = "+15550001"


# --- the bot of the README ---


async def bot(gateway: FakeGateway) -> None:
    async with open_signal_client(gateway.url, OWN, connect=gateway.connect) as signal:
        async for message in signal.receive_messages():
            assert message.reply_to
            await signal.send_message(message.reply_to, f"you said {message.text}")


@pytest.mark.parametrize(
    ("envelope", "answered"),
    [
        pytest.param(envelopes.text("hello"), PEER, id="direct"),
        pytest.param(envelopes.text("hello", group=GROUP_ID), GROUP, id="group"),
        pytest.param(envelopes.sync_sent("hello", account=OWN, recipient=PEER), PEER, id="own-device"),
        pytest.param(envelopes.sync_sent("hello", account=OWN, recipient=OWN), OWN, id="note-to-self"),
        pytest.param(envelopes.sync_sent("hello", account=OWN, group=GROUP_ID), GROUP, id="own-device-group"),
        pytest.param(envelopes.quote("hello", 1_795_302_000_000, author=OWN), PEER, id="quote"),
    ],
)
async def test_the_ten_line_bot_answers_where_the_message_was_written(
    autojump_clock: MockClock, nursery: trio.Nursery, envelope: dict[str, Any], answered: str
) -> None:
    async with open_gateway() as gateway:
        nursery.start_soon(bot, gateway)
        await gateway.wait_connected()
        gateway.deliver(envelope)
        with trio.fail_after(5):
            await gateway.wait_received(1)
        assert gateway.received[0].recipients == [answered]
        assert gateway.received[0].number == OWN
        assert texts_at(gateway) == ["you said hello"]
        assert gateway.received[0].outcome == "ok"


async def test_the_bot_goes_on_after_the_gateway_was_restarted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        nursery.start_soon(bot, gateway)
        for word in ("one", "two", "three"):
            with trio.fail_after(60):
                await gateway.wait_connected()
            gateway.deliver(text=word)
            await gateway.wait_received(len(gateway.received) + 1)
            await gateway.restart(down_for=3)
        assert texts_at(gateway) == ["you said one", "you said two", "you said three"]


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param({"timestamp": None, "dataMessage": {"message": "from nobody"}}, id="no-sender"),
        pytest.param(envelopes.typing(), id="typing"),
        pytest.param(envelopes.receipt(1_795_302_000_000), id="receipt"),
        pytest.param(envelopes.reaction("x", 1_795_302_000_000), id="reaction"),
        pytest.param(envelopes.sync(account=OWN, type="CONTACTS_SYNC"), id="sync"),
        pytest.param(
            {"source": PEER, "timestamp": None, "dataMessage": {"message": "?", "groupInfo": {}}},
            id="group-without-id",
        ),
    ],
)
async def test_what_cannot_or_need_not_be_answered_does_not_reach_the_bot(
    autojump_clock: MockClock, nursery: trio.Nursery, envelope: dict[str, Any]
) -> None:
    async with open_gateway() as gateway:
        nursery.start_soon(bot, gateway)
        await gateway.wait_connected()
        gateway.deliver(envelope)
        gateway.deliver(text="and now")
        with trio.fail_after(5):
            await gateway.wait_received(1)
        await trio.sleep(5)
        assert texts_at(gateway) == ["you said and now"]


# --- opening ---


async def test_the_block_begins_at_once_without_a_connection(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        with closing_within(0):
            manager = open_client(gateway, close_timeout=0)
            signal = await manager.__aenter__()
        assert signal.state is not CONNECTED
        message = await signal.send_message(PEER, "early")
        assert message.outcome is None
        gateway.heal()
        with trio.fail_after(10):
            assert (await message.wait()).timestamp == gateway.received[0].timestamp
        await manager.__aexit__(None, None, None)


async def test_what_the_client_says_of_itself(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        assert repr(signal) == "<SignalClient DISCONNECTED>"
        assert signal.account == gateway.account
        assert await signal.wait_state(CONNECTED) is CONNECTED
        assert repr(signal) == "<SignalClient CONNECTED>"
        before = signal.statistics()
        assert (before.state, before.generation, before.attempt) == (CONNECTED, 1, 0)
        assert before.next_attempt is None
        assert before.last_error is None
        assert before.bytes_received > 0
        assert before.last_received == trio.current_time()
        await trio.sleep(5)
        gateway.drop()
        await signal.wait_state(ConnectionState.RECONNECTING)
        lost = signal.statistics()
        assert (lost.generation, lost.attempt, lost.since) == (2, 2, 5.0)
        assert lost.next_attempt == 5.0 + 2.0  # not stable yet: the count goes on
        assert isinstance(lost.last_error, LinkLost)
        assert lost.last_received is None
        assert lost.bytes_received == 0


async def test_waiting_for_a_state(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        assert await signal.wait_state(CONNECTED) is CONNECTED
        with trio.move_on_after(3) as scope:
            await signal.wait_state(DISCONNECTED)
        assert scope.cancelled_caught
        gateway.drop()
        # DISCONNECTED lasts no time at all here; it counts all the same.
        assert await signal.wait_state(DISCONNECTED) is DISCONNECTED
    with pytest.raises(ClientClosed):
        await signal.wait_state(CONNECTED)
    assert await signal.wait_state(DISCONNECTED) is DISCONNECTED


async def test_two_clients_in_one_task(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as one, connected(gateway) as other:
        assert gateway.statistics().connections == 2
        await (await one.send_message(PEER, "1")).wait()
        await (await other.send_message(PEER, "2")).wait()
        gateway.deliver(text="to both")
        assert (await anext(one.receive_messages())).text == "to both"
        assert (await anext(other.receive_messages())).text == "to both"
    assert texts_at(gateway) == ["1", "2"]


async def test_a_hundred_clients_one_after_the_other_leave_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        dialler = Dialler(gateway)
        before = living_tasks()
        for _ in range(100):
            async with connected(gateway, connect=dialler.connect) as signal:
                await (await signal.send_message(PEER, "hi")).wait()
        await settled()
        assert living_tasks() == before
        assert dialler.left_open == 0
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C3")
async def test_connected_is_announced_when_what_was_missed_is_in_the_inbox(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        changes = signal.state_changes()
        there: list[int] = []

        def look(change: StateChange) -> None:
            if change.current is CONNECTED:
                there.append(signal.statistics().inbox.waiting)

        signal._status.listen(look)  # called at the very moment of the change
        for lost in range(1, 6):
            gateway.drop()
            while (await anext(changes)).current is not CONNECTED:
                pass
            assert signal.statistics().inbox.waiting == lost
        assert there == [1, 2, 3, 4, 5]


# --- leaving normally ---


@pytest.mark.contract("C5", "O4")
async def test_leaving_sends_what_waits(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.5) as gateway:
        async with connected(gateway) as signal:
            messages = await send_all(signal, [f"m{n}" for n in range(10)])
        assert outcomes_of(messages) == ["sent"] * 10
        assert texts_at(gateway) == [f"m{n}" for n in range(10)]
        check_ledger(signal, messages)


@pytest.mark.contract("C5")
async def test_leaving_sends_what_waits_even_if_it_must_connect_first(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with trio.open_nursery() as nursery:
            async with open_client(gateway) as signal:
                messages = await send_all(signal, ["one", "two"])
                await trio.sleep(2)
                nursery.start_soon(_later, 3, gateway.heal)  # attempts are made at 0, 2, 6, 14, …
            assert outcomes_of(messages) == ["sent", "sent"]
        assert texts_at(gateway) == ["one", "two"]


@pytest.mark.contract("C5", "O1", "O5")
async def test_leaving_waits_no_longer_than_the_close_timeout(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(hang())
        dialler = Dialler(gateway)
        before = living_tasks()
        async with connected(gateway, connect=dialler.connect, close_timeout=10) as signal:
            messages = await send_all(signal, ["hangs", "waits", "waits too"])
            await gateway.wait_received(1)
            start = trio.current_time()
        assert 10 <= trio.current_time() - start <= 12
        await settled()
        assert outcomes_of(messages) == ["failed: unknown", "dropped: closed", "dropped: closed"]
        check_ledger(signal, messages)
        assert (living_tasks(), dialler.left_open) == (before, 0)
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5")
async def test_leaving_while_the_gateway_is_away_ends_after_the_close_timeout(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, close_timeout=3) as signal:
            messages = await send_all(signal, ["one", "two"])
            start = trio.current_time()
        assert 3 <= trio.current_time() - start <= 5
        assert outcomes_of(messages) == ["dropped: closed"] * 2
        assert texts_at(gateway) == []


@pytest.mark.contract("C5")
async def test_a_close_timeout_of_zero_sends_no_more(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=1) as gateway:
        async with connected(gateway, close_timeout=0) as signal:
            messages = await send_all(signal, ["in flight", "waits"])
            await gateway.wait_received(1)
            start = trio.current_time()
        assert trio.current_time() == start
        assert outcomes_of(messages) == ["failed: unknown", "dropped: closed"]


@pytest.mark.contract("C5")
async def test_leaving_with_nothing_to_send_takes_no_time_and_says_goodbye(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        async with trio.open_nursery() as nursery:
            async with open_client(gateway) as signal:
                nursery.start_soon(record, signal.state_changes(), changes)
                await signal.wait_state(CONNECTED)
                await trio.sleep(3)
                with closing_within(0):
                    pass
                start = trio.current_time()
            assert trio.current_time() == start
        check_history(changes)
        assert [(c.current, c.reason) for c in changes[3:]] == [(DISCONNECTED, Reason.CLIENT_CLOSED)]
        assert signal.state is DISCONNECTED
        assert signal.statistics().last_error is None
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5")
async def test_the_goodbye_is_a_close_frame_and_comes_only_after_the_last_answer(
    autojump_clock: MockClock,
) -> None:
    written: list[tuple[float, int]] = []

    class Listening(WatchedStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            written.append((trio.current_time(), data[0]))
            await super().send_all(data)

    async with open_gateway(answer_delay=3) as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return Listening(await gateway.connect(host, port))

        async with connected(gateway, connect=connect) as signal:
            await signal.send_message(PEER, "last")
        close_frame = 0x88
        assert [moment for moment, first in written if first == close_frame] == [3]
        assert written[-1] == (3, close_frame)


@pytest.mark.contract("C5")
async def test_a_gateway_that_does_not_answer_the_goodbye_delays_leaving_by_a_second(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway):
            gateway.half_open()
            start = trio.current_time()
        assert trio.current_time() - start <= 1


async def test_what_has_arrived_can_be_taken_after_leaving(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            for n in range(3):
                gateway.deliver(text=f"m{n}")
            await gateway.wait_delivered()
            await settled()
        events: list[Any] = []
        await collect(signal.events(), events)
        assert texts_in(events) == ["m0", "m1", "m2"]


# --- leaving otherwise ---


async def _later(seconds: float, act: Callable[[], object]) -> None:
    await trio.sleep(seconds)
    act()


class _Oops(Exception):
    pass


def _own_group() -> Exception:
    return ExceptionGroup("the user's own", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])


@pytest.mark.contract("C5")
@pytest.mark.parametrize(
    "make",
    [
        _Oops,
        partial(KeyError, "k"),
        partial(StopAsyncIteration, 1),
        partial(RuntimeError, "generator didn't stop"),
        partial(trio.TooSlowError),
        partial(ClientClosed, "the user's own"),
        _own_group,
    ],
)
@pytest.mark.parametrize("is_connected", [True, False])
async def test_an_exception_in_the_block_arrives_bare_and_with_its_traceback(
    autojump_clock: MockClock, make: Callable[[], Exception], is_connected: bool
) -> None:
    error = make()

    async def deep_inside() -> None:
        raise error

    async with open_gateway() as gateway:
        if not is_connected:
            gateway.refuse(None)
        with pytest.raises(type(error)) as caught, closing_within(2):
            async with open_client(gateway) as signal:
                if is_connected:
                    await signal.wait_state(CONNECTED)
                await deep_inside()
        assert caught.value is error
        assert error.__cause__ is None
        assert error.__context__ is None
        assert not getattr(error, "__notes__", None)
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames[0] == "test_an_exception_in_the_block_arrives_bare_and_with_its_traceback"
        assert frames[-1] == "deep_inside"


@pytest.mark.contract("C5")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_ends_a_program_arrives_bare_too(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    async with open_gateway() as gateway:
        error = kind(3)
        with pytest.raises(kind) as caught:
            async with connected(gateway):
                raise error
        assert caught.value is error
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5")
async def test_a_group_of_which_a_cancellation_is_a_part_is_not_wrapped_again(
    autojump_clock: MockClock,
) -> None:
    """Trio strips the cancellation from it; what is left must be what it would be without a client."""

    async def complain() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise _Oops

    async with open_gateway() as gateway:
        with pytest.RaisesGroup(_Oops), trio.move_on_after(3):
            async with connected(gateway), trio.open_nursery() as nursery:
                nursery.start_soon(complain)
                nursery.start_soon(trio.sleep_forever)


@pytest.mark.contract("C5", "O1", "O2", "O9")
@pytest.mark.parametrize("way", ["exception", "cancellation"])
@pytest.mark.parametrize(
    "state", ["sending", "sending-slowly", "disconnected", "connecting", "silent", "half-open"]
)
async def test_leaving_at_once_closes_everything_and_accounts_for_every_message(
    autojump_clock: MockClock, way: str, state: str
) -> None:
    async with open_gateway() as gateway:
        dialler = Dialler(gateway)
        before = living_tasks()
        messages: list[OutgoingMessage] = []
        received: list[Any] = []
        changes: list[StateChange] = []
        signal: SignalClient | None = None
        async with trio.open_nursery() as outside:
            with pytest.raises(_Oops) if way == "exception" else trio.CancelScope() as scope:
                if state == "connecting":
                    gateway.silence(None, on="any")
                if state == "disconnected":
                    gateway.refuse(None)
                async with open_client(gateway, connect=dialler.connect) as signal:
                    outside.start_soon(record, signal.state_changes(), changes)
                    outside.start_soon(collect, signal.receive_messages(), received)
                    outside.start_soon(collect, signal.events(), received)
                    if state not in {"disconnected", "connecting"}:
                        await signal.wait_state(CONNECTED)
                    if state == "half-open":
                        gateway.half_open()
                    if state == "silent":
                        gateway.silence(None, on="http")
                    gateway.script_send(slow(100) if state == "sending-slowly" else hang())
                    messages = await send_all(signal, ["in flight", "waits", "waits too"])
                    await trio.sleep(5)
                    start = trio.current_time()
                    if isinstance(scope, trio.CancelScope):
                        scope.cancel()
                        await trio.sleep_forever()
                    raise _Oops
            assert trio.current_time() - start <= 2
            await settled()
        sent = {"disconnected": False, "connecting": False}.get(state, True)
        assert (
            outcomes_of(messages)
            == ["failed: unknown" if sent else "dropped: closed"] + ["dropped: closed"] * 2
        )
        assert signal is not None
        check_ledger(signal, messages)
        check_history(changes)
        assert changes[-1].current is DISCONNECTED
        assert dialler.left_open == 0
        if state == "half-open":
            gateway.drop()  # only the gateway's own time-out would end its half
        await trio.sleep(200)
        assert living_tasks() == before
        assert len(gateway.received) <= 1
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5", "O12")
async def test_those_who_wait_are_told_when_the_client_closes(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(hang())
        told: list[Any] = []

        async def wait(message: Any) -> None:
            try:
                await message.wait()
            except (SendFailed, MessageDropped) as error:
                told.append(type(error))

        async def one_too_many(signal: SignalClient) -> None:
            try:
                await signal.send_message(PEER, "no room")
            except ClientClosed as error:
                told.append(type(error))

        async def wait_for_state(signal: SignalClient) -> None:
            try:
                await signal.wait_state(ConnectionState.SYNCING)
            except ClientClosed as error:
                told.append(type(error))

        async with trio.open_nursery() as outside:
            with pytest.raises(_Oops):
                async with connected(gateway, buffer_size=1, overflow="wait") as signal:
                    for message in await send_all(signal, ["in flight", "waits"]):
                        outside.start_soon(wait, message)
                    outside.start_soon(one_too_many, signal)
                    outside.start_soon(wait_for_state, signal)
                    await settled()
                    raise _Oops
        assert sorted(kind.__name__ for kind in told) == sorted(
            ["SendFailed", "MessageDropped", "ClientClosed", "ClientClosed"]
        )


@pytest.mark.contract("C5")
async def test_a_closed_client_takes_no_more(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            await (await signal.send_message(PEER, "hi")).wait()
        with pytest.raises(ClientClosed):
            await signal.send_message(PEER, "late")
        assert [message async for message in signal.receive_messages()] == []
        assert [event async for event in signal.events()] == []
        assert [change async for change in signal.state_changes()] == []
        signal.reconnect_now()
        signal.resume_sending()
        await trio.sleep(100)
        assert signal.state is DISCONNECTED
        statistics = signal.statistics()
        assert (statistics.in_flight, statistics.last_received, statistics.next_attempt) == (
            False,
            None,
            None,
        )
        assert statistics.buffer.outgoing.accepted == 1
        assert gateway.statistics().connections == 0
        assert texts_at(gateway) == ["hi"]


@pytest.mark.contract("C5")
async def test_while_the_block_is_being_left_nothing_more_is_accepted(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=2) as gateway:
        refused: list[ClientClosed] = []

        async def latecomer(signal: SignalClient) -> None:
            await trio.sleep(1)
            with pytest.raises(ClientClosed) as caught:
                await signal.send_message(PEER, "late")
            refused.append(caught.value)

        async with trio.open_nursery() as outside:
            async with connected(gateway) as signal:
                message = await signal.send_message(PEER, "in time")
                outside.start_soon(latecomer, signal)
                await settled()
        assert len(refused) == 1
        assert outcomes_of([message]) == ["sent"]
        assert texts_at(gateway) == ["in time"]


@pytest.mark.contract("C5")
async def test_cancelling_while_the_block_is_being_left_ends_it_at_once(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(hang())
        messages: list[OutgoingMessage] = []
        with trio.move_on_after(5) as scope:
            async with connected(gateway, close_timeout=100) as signal:
                messages = await send_all(signal, ["hangs", "waits"])
                await gateway.wait_received(1)
        assert scope.cancelled_caught
        assert 5 <= trio.current_time() <= 7
        assert outcomes_of(messages) == ["failed: unknown", "dropped: closed"]
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5")
async def test_a_block_that_is_cancelled_before_it_begins(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        before = living_tasks()
        signal: SignalClient | None = None
        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_client(gateway) as signal:
                await signal.send_message(PEER, "never accepted")
        await settled()
        assert signal is not None
        assert signal.statistics().buffer.outgoing.accepted == 0
        assert living_tasks() == before
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C5", "B5")
@pytest.mark.parametrize("what", ["token", "connect"])
async def test_a_callable_of_the_callers_that_hangs_holds_up_neither_attempts_nor_leaving(
    autojump_clock: MockClock, what: str
) -> None:
    asked = 0

    async def hang_twice(*_: object) -> Any:
        nonlocal asked
        asked += 1
        if asked <= 2:
            await trio.sleep_forever()
        return "token" if what == "token" else await gateway.connect("", 0)

    async with open_gateway() as gateway:
        with closing_within(2), trio.CancelScope() as scope:
            async with open_client(gateway, **{what: hang_twice}):
                await settled()
                scope.cancel()
                await trio.sleep_forever()
        asked = 0
        async with open_client(gateway, **{what: hang_twice}) as signal:
            with trio.fail_after(20 + 2 + 20 + 4 + 1):
                await signal.wait_state(CONNECTED)


class _BadlyClosing(WatchedStream):
    """A stream that closes and then complains, as one over a broken connection may."""

    async def aclose(self) -> None:
        await super().aclose()
        raise trio.BrokenResourceError("it was broken already")


@pytest.mark.contract("C5", "C6")
async def test_streams_that_complain_when_they_are_closed_harm_nobody(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return _BadlyClosing(await gateway.connect(host, port))

        async with connected(gateway, connect=connect) as signal:
            for end in ("close", "drop", "close"):
                messages = await send_all(signal, ["before", end])
                await wait_done(messages)
                assert outcomes_of(messages) == ["sent", "sent"]
                getattr(gateway, end)()
                await signal.wait_state(DISCONNECTED)
                await signal.wait_state(CONNECTED)
        with pytest.raises(_Oops):
            async with connected(gateway, connect=connect) as signal:
                await wait_done(await send_all(signal, ["last"]))
                raise _Oops


@pytest.mark.parametrize("what", ["token", "connect"])
async def test_a_callable_of_the_callers_that_raises_counts_as_a_failed_attempt(
    autojump_clock: MockClock, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def fail_twice(*_: object) -> str:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise ValueError("s3cr3t")
        return "token"

    async def connect(host: str, port: int) -> trio.abc.Stream:
        fail_twice()
        return await gateway.connect(host, port)

    async with open_gateway() as gateway:
        async with open_client(gateway, **{what: connect if what == "connect" else fail_twice}) as signal:
            await signal.wait_state(CONNECTED)
            assert trio.current_time() == 2 + 4
        assert what == "connect" or "s3cr3t" not in caplog.text


# --- failing for good ---


@pytest.mark.contract("C6")
async def test_a_gateway_in_the_wrong_mode_ends_the_block_with_a_bare_error(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(mode="normal") as gateway:
        before = living_tasks()
        messages: list[OutgoingMessage] = []
        with pytest.raises(WrongGatewayMode, match="json-rpc") as caught, closing_within(2):
            async with open_client(gateway) as signal:
                messages = await send_all(signal, ["waits"])
                await trio.sleep_forever()
        await settled()
        assert isinstance(caught.value, PermanentError)
        assert outcomes_of(messages) == ["dropped: closed"]
        assert living_tasks() == before
        assert gateway.statistics().connections == 0


@pytest.mark.contract("C6")
async def test_an_account_that_the_gateway_does_not_have(autojump_clock: MockClock) -> None:
    async with open_gateway(accounts=["+15559999"]) as gateway:
        with pytest.raises(UnknownAccount, match=r"\+15550001"):
            async with open_client(gateway) as signal:
                async for _ in signal.receive_messages():
                    pytest.fail("there is nothing to receive")


@pytest.mark.contract("C6")
async def test_a_dead_network_at_the_start_does_not_leave_the_account_unchecked(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(accounts=["+15559999"]) as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            if trio.current_time() < 60:
                await trio.sleep_forever()  # as where every packet is lost
            return await gateway.connect(host, port)

        with pytest.raises(UnknownAccount), trio.fail_after(300):
            async with open_client(gateway, connect=connect):
                await trio.sleep_forever()


@pytest.mark.contract("C6")
async def test_a_wrong_path_is_permanent_before_the_first_connection(autojump_clock: MockClock) -> None:
    async with open_gateway(base_path="/signal") as gateway:
        url = gateway.url.removesuffix("/signal")
        with pytest.raises(LinkLost, match="404"):
            async with open_signal_client(url, gateway.account, connect=gateway.connect):
                await trio.sleep_forever()


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_permanent_where_there_are_no_others(
    autojump_clock: MockClock, status: int
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, times=None)
        with pytest.raises(GatewayRefused) as caught:
            async with open_client(gateway, token="stale"):
                await trio.sleep_forever()
        assert caught.value.status == status
        assert "stale" not in repr(caught.value)


@pytest.mark.contract("C6")
async def test_refused_credentials_are_renewed_where_somebody_can_be_asked(autojump_clock: MockClock) -> None:
    tokens = iter(["stale", "stale", "fresh", "fresher"])
    async with open_gateway(require_header=("Authorization", "Bearer fresh")) as gateway:
        async with open_client(gateway, token=lambda: next(tokens)) as signal:
            with trio.fail_after(30):
                await signal.wait_state(CONNECTED)
        assert gateway.handshakes == 1


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_statuses_that_pass_are_waited_out(autojump_clock: MockClock, status: int) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, times=3)
        async with open_client(gateway) as signal:
            with trio.fail_after(20):
                await signal.wait_state(CONNECTED)
            assert trio.current_time() == 2 + 4 + 8


@pytest.mark.contract("C6")
async def test_a_client_that_has_worked_goes_on_trying_at_the_cap(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        changes = signal.state_changes()
        await trio.sleep(100)
        gateway.reject(404, times=3)
        gateway.drop()
        history = [await anext(changes) for _ in range(8)]
        waits = [change.delay for change in history if change.current is ConnectionState.RECONNECTING]
        assert waits[1:] == [60, 60, 60]
        assert [c.reason for c in history if c.current is DISCONNECTED][1:] == [Reason.PERMANENT] * 3
        assert any("404" in text for text in logged(caplog.records, logging.ERROR))
        await signal.wait_state(CONNECTED)


@pytest.mark.contract("C6")
async def test_a_permanent_failure_during_the_drain_is_raised_too(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        messages: list[OutgoingMessage] = []
        async with trio.open_nursery() as nursery:
            with pytest.raises(GatewayRefused):
                async with open_client(gateway) as signal:
                    messages = await send_all(signal, ["waits"])
                    nursery.start_soon(_later, 3, gateway.heal)
                    nursery.start_soon(_later, 4, partial(gateway.reject, 401, times=None))
        assert outcomes_of(messages) == ["dropped: closed"]


@pytest.mark.contract("C6")
async def test_a_permanent_failure_while_the_block_raises_too_is_told_in_a_note(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(mode="native") as gateway:
        with pytest.raises(_Oops) as caught:
            async with open_client(gateway):
                try:
                    await trio.sleep_forever()
                finally:
                    raise _Oops
        assert any("native" in note for note in caught.value.__notes__)


@pytest.mark.contract("C6")
async def test_a_permanent_failure_while_the_caller_cancels(autojump_clock: MockClock) -> None:
    async with open_gateway(mode="native") as gateway:
        with trio.CancelScope() as scope:
            with pytest.raises(WrongGatewayMode):
                async with open_client(gateway):
                    with trio.CancelScope(shield=True):
                        await trio.sleep(5)
            scope.cancel()
        assert not scope.cancelled_caught


@pytest.mark.contract("C6")
async def test_a_permanent_failure_passes_bare_through_the_block_of_another_client(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, open_gateway(mode="normal") as wrong:
        with pytest.raises(WrongGatewayMode) as caught:
            async with connected(gateway), open_client(wrong):
                await trio.sleep_forever()
        assert not getattr(caught.value, "__notes__", None)
        assert gateway.statistics().connections == 0


async def test_a_permanent_failure_does_not_hide_what_has_been_received(autojump_clock: MockClock) -> None:
    """A client that never connected has received nothing; its iterators end all the same."""
    async with open_gateway(mode="normal") as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        with pytest.raises(WrongGatewayMode):
            async with open_client(gateway) as signal:
                nursery.start_soon(collect, signal.events(), events)
                await trio.sleep_forever()
        with trio.fail_after(1):
            await settled()
        assert events == []


# --- arguments ---


@pytest.mark.parametrize(
    "options",
    [
        {"url": "gateway:8080"},
        {"url": "ftp://gateway"},
        {"url": "http://"},
        {"url": 8080},
        {"url": None},
        {"url": "http://gateway:99999"},
        {"url": "http://gateway/?token=secret"},
        {"account": "15550001"},
        {"account": "+1 555 0001"},
        {"account": 15550001},
        {"account": None, "gateway": "rest"},
        {"receive_mode": "sometimes"},
        {"quiet_time": 0},
        {"gateway": "matrix"},
        {"buffer_size": 0},
        {"buffer_size": 1.5},
        {"buffer_bytes": -1},
        {"overflow": "drop"},
        {"max_in_flight": 0},
        {"max_in_flight": 257},
        {"max_in_flight": True},
        {"probe_interval": 0},
        {"delivery": "exactly_once"},
        {"max_send_attempts": 0},
        {"backoff": 5},
        {"rate_limit": 20},
        {"close_timeout": -1},
        {"close_timeout": "10"},
        {"attempt_timeout": 0},
        {"send_timeout": float("inf")},
        {"ping_interval": 0},
        {"pong_timeout": float("nan")},
        {"headers": {"X Y": "1"}},
        {"headers": {"X-Name": "a\r\nb: c"}},
        {"headers": {"X-Name": 1}},
        {"headers": {"Host": "other"}},
        {"headers": [("X-Name",)]},
        {"headers": 5},
        {"headers": {"Authorization": "x"}, "token": "y"},
        {"token": "a\nb"},
        {"token": b"bytes"},
        {"token": 5},
        {"ssl_context": "ca.pem"},
        {"http_client": 5},
        {"connect": "127.0.0.1:8080"},
        {"inbox_size": 0},
        {"inbox_bytes": None},
        {"max_message_size": 0},
        {"max_attachment_bytes": "1 MB"},
        {"cursor": 1_795_302_674_000},
        {"wall_clock": 1_795_302_674.0},
    ],
    ids=lambda options: ascii(options)[1:-1],
)
async def test_a_wrong_option_is_named_and_nothing_is_started(
    autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    async with open_gateway() as gateway:
        before = living_tasks()
        given: dict[str, Any] = {"url": gateway.url, "account": gateway.account, "connect": gateway.connect}
        with pytest.raises(ConfigurationError) as caught:
            async with open_signal_client(**(given | options)):
                pytest.fail("the block must not begin")
        assert caught.value.argument == next(iter(options))
        assert str(caught.value).startswith(caught.value.argument)
        assert "secret" not in str(caught.value)
        await settled()
        assert living_tasks() == before
        assert gateway.statistics().requests == 0


@pytest.mark.parametrize(
    "options",
    [{"initial": 0}, {"initial": 100}, {"floor": -1}, {"maximum": "60"}, {"stable_after": None}],
    ids=str,
)
def test_a_wrong_backoff_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="^backoff"):
        Backoff(**options)


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"count": "20"}, {"count": 20, "per": 0}, {"count": 20, "burst": 0}]
)
def test_a_wrong_rate_limit_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="^rate_limit"):
        RateLimit(**options)


@pytest.mark.parametrize(
    "message",
    [
        {"recipient": "Ada"},
        {"recipient": None},
        {"text": ""},
        {"text": None},
        {"text": "\ud800"},
        {"text": "x" * (17 * 1024 * 1024)},
        {"deadline": float("nan")},
        {"deadline": "soon"},
        {"attachments": "file.txt"},
        {"attachments": b"bytes"},
        {"attachments": ["does-not-exist.txt"]},
        {"attachments": [Path("/")]},
        {"attachments": ["/dev/zero"]},
        {"attachments": [None]},
        {"attachments": 5},
        {"attachments": [bytes(2_000_001)]},
        {"attachments": [OutgoingAttachment(b"x", filename="a;b")]},
        {"attachments": [OutgoingAttachment(b"x", content_type="text")]},
        {"quote": "hello"},
        {"id": 5},
    ],
    ids=lambda message: ascii(message)[1:-1][:70],
)
async def test_a_wrong_message_is_named_and_not_accepted(
    autojump_clock: MockClock, message: dict[str, Any]
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, max_attachment_bytes=2_000_000) as signal:
            given: dict[str, Any] = {"recipient": PEER, "text": "hi"} | message
            with pytest.raises(ConfigurationError) as caught:
                await signal.send_message(**given)
            assert caught.value.argument == next(iter(message))
            assert signal.statistics().buffer.outgoing.accepted == 0
            await (await signal.send_message(PEER, "the next one")).wait()
        assert texts_at(gateway) == ["the next one"]


@pytest.mark.parametrize(
    "quote", [("now", PEER), (-1, PEER), (1, "Ada"), (1, None), (1, PEER, None)], ids=str
)
def test_a_wrong_quote_is_named(quote: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="^quote"):
        Quote(*quote)


def test_a_wrong_cursor_is_named() -> None:
    with pytest.raises(ConfigurationError, match="^cursor"):
        Cursor("yesterday")  # type: ignore[arg-type]


async def test_kinds_are_a_collection_and_not_a_name(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for wrong in ("message", 5, ["letter"]):
            with pytest.raises(ConfigurationError, match="^kinds"):
                signal.receive_messages(kinds=wrong)  # type: ignore[arg-type]
        gateway.deliver(envelopes.typing())
        message = await anext(signal.receive_messages(kinds=["typing"]))  # type: ignore[list-item]
        assert message.kind is MessageKind.TYPING


async def test_a_message_that_does_not_fit_the_whole_buffer(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, buffer_bytes=2000) as signal:
        with pytest.raises(ConfigurationError, match="2000"):
            await signal.send_message(PEER, "x" * 2000)
        await (await signal.send_message(PEER, "x" * 1000)).wait()


@pytest.mark.contract("C5", "O3")
async def test_a_full_buffer_that_raises_has_accepted_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, overflow="error", buffer_size=2, close_timeout=0) as signal:
            await settled()
            taken = await send_all(signal, ["one", "two", "three"])  # one is in the send task's hands
            with pytest.raises(BufferFull):
                await signal.send_message(PEER, "four")
            check_ledger(signal, taken)


# --- secrets ---


async def test_no_secret_shows_in_log_or_repr(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_gateway(base_path="/s3cr3t") as gateway:
        url = gateway.url.replace("://", "://ada:s3cr3t@")
        options: dict[str, Any] = {"connect": gateway.connect, "headers": {"X-Key": "s3cr3t"}}
        async with open_signal_client(url, gateway.account, **options) as signal:
            await signal.wait_state(CONNECTED)
            gateway.script_send(hang())
            message = await signal.send_message(PEER, "s3cr3t")
            gateway.deliver(text="s3cr3t")
            received = await anext(signal.receive_messages())
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            with pytest.raises(SendFailed):
                await message.wait()
            shown = f"{signal!r} {message!r} {received!r} {signal.statistics()!r}"
        assert "s3cr3t" not in shown
        assert "s3cr3t" not in caplog.text


async def test_gaps_are_logged_for_those_who_only_read_messages(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.drop()
        await gateway.wait_handshakes(2)
        await signal.wait_state(CONNECTED)
        gateway.deliver(text="after")
        assert (await anext(signal.receive_messages())).text == "after"
        assert any(Gap.__name__ in text for text in logged(caplog.records, logging.WARNING))
