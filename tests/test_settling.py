"""Messages whose answer is lost, on the wire: what a receipt makes of them, and what becomes of the rest."""

import json
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Certainty,
    ConfigurationError,
    Failed,
    OutgoingAttachment,
    OutgoingMessage,
    RequestFailed,
    Sent,
    SignalClient,
    Target,
    Unsupported,
    open_signal_client,
)
from trio_signal._contents import Text
from trio_signal._decoding import decode_frame
from trio_signal._receiver import WallClock
from trio_signal._settling import Settler
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    envelopes,
    error,
    hang,
    lost,
    ok,
    open_fault_proxy,
    partial,
    rate_limited,
    slow,
)

from .hubs import open_hub
from .scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    EXACT,
    PEER,
    SYNCING,
    check_ledger,
    closing_within,
    logged,
    open_client,
    open_gateway,
    outcome_of,
    outcomes_of,
    send_all,
    settled,
    texts_at,
    wait_done,
    wall_time,
)
from .scene import connected as connected_just_now
from .test_hub_client import up

pytestmark = pytest.mark.contract("O13")

OTHER: Final = "+15550003"
GROUP: Final = "group.QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE9"
LATE_LOSS: Final = slow(1, lost())
"""Sends the message, and ends the connection a second later."""


#: For so long the common scene listens before anything is sent, in seconds: what is sent sooner may be proved
#: by no receipt, since another device may have sent something before, by a clock that is ahead.
START: Final = 6


def elapsed() -> float:
    """How long ago the scene began, in seconds."""
    return trio.current_time() - START


def ms(seconds: float) -> int:
    """A moment of the scene, as a message's timestamp."""
    return int((EPOCH + START + seconds) * 1000)


def counts_since(moment: float) -> bool:
    """Say whether a proof that was old enough at a moment of the scene was to count by now, and no sooner.

    Until a ping's answer comes may take a second.
    """
    return moment - 0.001 <= elapsed() <= moment + 1.001


@asynccontextmanager
async def connected(gateway: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    """Open a client that has listened long enough, and that sees each second that the link lives."""
    async with connected_just_now(gateway, **{"ping_interval": 1.0, **options}) as signal:
        await trio.sleep(START)
        yield signal


async def lose(
    gateway: FakeGateway, signal: SignalClient, to: str = PEER, text: str = "lost"
) -> OutgoingMessage:
    """Send something that goes out, and have its answer lost a second later."""
    gateway.script_send(LATE_LOSS)
    message = await signal.send_message(to, text)
    await gateway.wait_received(len(gateway.received) + 1)
    await trio.sleep(1)
    await settled()
    assert message.outcome is None
    return message


def stamp_of(gateway: FakeGateway, which: int = -1) -> int:
    """When a message went out."""
    stamp = gateway.received[which].timestamp
    assert stamp is not None
    return stamp


def confirm(gateway: FakeGateway, which: int = -1, **options: Any) -> None:
    """Deliver the receipt for a message that went out."""
    gateway.deliver(envelopes.receipt(stamp_of(gateway, which), **options))


# --- Sent, or unknown ---


@pytest.mark.contract("O1", "O5")
@pytest.mark.parametrize("kind", ["delivery", "read", "viewed"])
@pytest.mark.parametrize("gateway_kind", ["rest", "signal-cli"])
async def test_a_receipt_proves_that_a_message_went_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, kind: str, gateway_kind: str
) -> None:
    async with open_gateway(kind=gateway_kind, keep_alive=1.0) as gateway, connected(gateway) as signal:
        start = elapsed()
        message = await lose(gateway, signal)
        await trio.sleep(2)
        with caplog.at_level(logging.INFO):
            confirm(gateway, kind=kind)
            assert await message.wait() == Sent(stamp_of(gateway, 0))
        # Another device's report may come a little after the receipt.
        assert counts_since(start + 1 + 2 + 3)
        assert len(gateway.received) == 1
        assert any("a receipt came" in line for line in logged(caplog.records, logging.INFO))
        assert logged(caplog.records, logging.WARNING) == []
        check_ledger(signal, [message])


@pytest.mark.contract("O1", "O5")
async def test_without_a_receipt_nobody_knows(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await lose(gateway, signal)
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        assert elapsed() == 1 + 10
        confirm(gateway)
        await trio.sleep(100)
        assert outcome_of(message) == "failed: unknown"


@pytest.mark.parametrize("limit", [0.5, 4, 100])
async def test_how_long_it_waits_is_the_callers_choice(autojump_clock: MockClock, limit: float) -> None:
    async with open_gateway() as gateway, connected(gateway, settle_timeout=limit) as signal:
        message = await lose(gateway, signal)
        await wait_done([message])
        assert elapsed() == 1 + limit


@pytest.mark.parametrize(("after", "outcome"), [(9.9, "sent"), (10.1, "failed: unknown")])
async def test_a_receipt_that_comes_in_time_is_given_its_three_seconds(
    autojump_clock: MockClock, after: float, outcome: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await lose(gateway, signal)
        await trio.sleep(after)
        confirm(gateway)
        await wait_done([message])
        assert outcome_of(message) == outcome
        assert counts_since(1 + after + 3) if outcome == "sent" else elapsed() == pytest.approx(1 + after)


@pytest.mark.contract("O5", "O11")
async def test_a_receipt_that_came_while_the_answer_was_waited_for_proves_it_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(hang())
        message = await signal.send_message(PEER, "hangs")
        await gateway.wait_received(1)
        await trio.sleep(2)
        confirm(gateway)
        assert await message.wait() == Sent(stamp_of(gateway, 0))
        assert elapsed() == 60


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize(
    "answer",
    [
        error(408, "too slow"),
        error(500, "oops"),
        error(502, "bad gateway"),
        error(504, "gateway time-out"),
        error(400, "Failed to send message"),
        rate_limited(None),
        partial([{"number": PEER, "reason": "NETWORK_FAILURE"}]),
    ],
    ids=lambda answer: f"{answer.kind}-{answer.status}",
)
async def test_whatever_leaves_doubt_is_settled(autojump_clock: MockClock, answer: SendAnswer) -> None:
    async with open_gateway(version="0.101") as gateway, connected(gateway) as signal:
        gateway.script_send(slow(1, answer), slow(1, answer))
        proved = await signal.send_message(PEER, "proved")
        doubtful = await signal.send_message(OTHER, "doubtful")
        await trio.sleep(1.5)
        gateway.deliver(envelopes.receipt(ms(0.5)))
        await wait_done([proved, doubtful])
        assert proved.outcome == Sent(ms(0.5))
        assert outcome_of(doubtful) == "failed: unknown"
        check_ledger(signal, [proved, doubtful])


@pytest.mark.contract("O1", "O5")
@pytest.mark.parametrize(
    ("to", "options"),
    [
        (GROUP, {}),
        ("ada.01", {}),
        (PEER, {"settle_timeout": 0}),
        (PEER, {"receive": False}),
    ],
)
async def test_where_no_evidence_can_come_nothing_waits_for_it(
    autojump_clock: MockClock, to: str, options: dict[str, Any]
) -> None:
    async with open_gateway() as gateway, connected(gateway, **options) as signal:
        gateway.script_send(LATE_LOSS)
        message = await signal.send_message(to, "lost")
        await gateway.wait_received(1)
        await trio.sleep(0.5)
        confirm(gateway)
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        assert elapsed() == 1


@pytest.mark.parametrize("limit", [-1, float("nan"), "10"])
async def test_a_wrong_time_limit_is_named(autojump_clock: MockClock, limit: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with open_signal_client("http://127.0.0.1:1", "+15550001", settle_timeout=limit):
            raise AssertionError
    assert caught.value.argument == "settle_timeout"


# --- what else may have caused it ---


async def test_another_persons_receipt_proves_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await lose(gateway, signal)
        confirm(gateway, sender=OTHER)
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"


@pytest.mark.parametrize("knows", [True, False])
async def test_a_receipt_without_a_number_counts_once_the_person_is_known(
    autojump_clock: MockClock, knows: bool
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        if knows:
            gateway.deliver(text="hello")
        await trio.sleep(1)
        message = await lose(gateway, signal)
        nameless = {"source": None, "sourceNumber": None}
        gateway.deliver(envelopes.receipt(stamp_of(gateway, 0)) | nameless)
        await wait_done([message])
        assert outcome_of(message) == ("sent" if knows else "failed: unknown")


@pytest.mark.parametrize("delay", [-0.2, 0.2, 2.9])
async def test_what_another_device_sent_is_no_proof_even_when_its_report_comes_late(
    autojump_clock: MockClock, delay: float
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(5, error(502)))
        message = await signal.send_message(PEER, "never left")
        await trio.sleep(2)
        report = envelopes.sync_sent(account=gateway.account, timestamp=ms(1))
        receipt = envelopes.receipt(ms(1))
        for envelope in (report, receipt) if delay < 0 else (receipt, report):
            gateway.deliver(envelope)
            await trio.sleep(abs(delay))
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"


async def test_a_receipt_for_an_earlier_or_a_later_message_proves_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        await (await signal.send_message(PEER, "before")).wait()
        gateway.script_send(slow(1, error(502)))
        message = await signal.send_message(PEER, "never left")
        await (await signal.send_message(PEER, "after")).wait()
        confirm(gateway, 0)
        confirm(gateway, 2)
        gateway.deliver(envelopes.receipt(ms(-5)))
        gateway.deliver(envelopes.receipt(ms(1.25)))
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"


@pytest.mark.parametrize(("to", "outcome"), [(PEER, "failed: unknown"), (OTHER, "sent")])
async def test_a_reaction_explains_its_own_receipt(autojump_clock: MockClock, to: str, outcome: str) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(ok(), slow(1, error(502)))
        reaction = await signal.send_reaction(Target(to, to, ms(-9)), "👍")
        message = await signal.send_message(PEER, "lost")
        await wait_done([reaction])
        await trio.sleep(1)
        gateway.deliver(envelopes.receipt(ms(0.001)))
        await wait_done([message])
        assert outcome_of(message) == outcome


@pytest.mark.contract("O1")
async def test_of_two_lost_ones_to_one_person_a_receipt_proves_the_one_whose_time_it_is(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        await (await signal.send_message(OTHER, "shows that the clocks agree")).wait()
        gateway.script_send(LATE_LOSS, slow(1, error(502)), LATE_LOSS)
        messages = await send_all(signal, ["went out", "did not", "went out as well"])
        await trio.sleep(3.5)
        assert signal.statistics().settling == 3
        confirm(gateway, 1)
        await wait_done(messages)
        # The second may have been carried out late, and then have caused what looks like the third's.
        assert outcomes_of(messages) == ["sent", "failed: unknown", "failed: unknown"]


async def test_once_the_first_is_proved_the_second_can_be(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        await (await signal.send_message(OTHER, "shows that the clocks agree")).wait()
        gateway.script_send(LATE_LOSS, LATE_LOSS)
        messages = [await signal.send_message(PEER, "one")]
        await trio.sleep(1.2)
        messages.append(await signal.send_message(PEER, "two"))
        await trio.sleep(1.2)
        confirm(gateway, 2)
        await trio.sleep(1)
        confirm(gateway, 1)
        await wait_done(messages)
        assert [message.outcome for message in messages] == [
            Sent(stamp_of(gateway, 1)),
            Sent(stamp_of(gateway, 2)),
        ]


PROFILE: Final = "PUT /v1/profiles/+15550001"


async def change_profile(signal: SignalClient) -> None:
    await signal.update_profile(name="new")


async def ask_anything(signal: SignalClient) -> None:
    await signal.call(PROFILE, {"name": "new"})


async def ask_for_nothing(signal: SignalClient) -> None:
    await signal.call("GET /v1/accounts")


async def show_typing(signal: SignalClient) -> None:
    await signal.send_typing(PEER)


async def ask_wrongly(signal: SignalClient) -> None:
    with pytest.raises((ConfigurationError, Unsupported)):
        await signal.call("nonsense", {})
    await trio.sleep(1)


@pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        (change_profile, "failed: unknown"),
        (ask_anything, "failed: unknown"),
        (ask_for_nothing, "sent"),
        (show_typing, "sent"),
        (ask_wrongly, "sent"),
    ],
)
async def test_what_else_is_asked_of_the_gateway_may_explain_a_receipt(
    autojump_clock: MockClock, ask: Callable[[SignalClient], Any], outcome: str
) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        await (await signal.send_message(OTHER, "shows that the clocks agree")).wait()
        await ask(signal)
        begun = elapsed()
        gateway.script_send(slow(1, error(502)))
        message = await signal.send_message(PEER, "lost")
        await trio.sleep(1.5)
        gateway.deliver(envelopes.receipt(ms(begun + 0.05)))
        await wait_done([message])
        assert outcome_of(message) == outcome


async def test_an_operation_whose_answer_is_lost_may_be_carried_out_late(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        await (await signal.send_message(OTHER, "shows that the clocks agree")).wait()
        gateway.script(PROFILE, lost())
        with pytest.raises(RequestFailed) as caught:
            await signal.update_profile(name="new")
        assert caught.value.certainty is Certainty.UNKNOWN
        for pause, outcome in ((600, "failed: unknown"), (600, "sent")):
            await trio.sleep(pause)
            message = await lose(gateway, signal)
            confirm(gateway)
            await wait_done([message])
            assert outcome_of(message) == outcome
            # Else this one would go on explaining what comes.
            if outcome == "failed: unknown":
                await trio.sleep(300)


@pytest.mark.parametrize("when", ["before the receipt", "after the receipt"])
@pytest.mark.parametrize("what", [b"no JSON", b'{"error": "oops"}'])
async def test_what_could_not_be_read_may_have_been_another_devices_report(
    autojump_clock: MockClock, when: str, what: bytes
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await lose(gateway, signal)
        for is_receipt in (False, True) if when == "before the receipt" else (True, False):
            if is_receipt:
                confirm(gateway)
            else:
                gateway.deliver_raw(what)
            await trio.sleep(1)
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"


async def test_a_gateway_whose_clock_differs_proves_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with open_client(gateway, wall_clock=lambda: wall_time() - 90) as signal:
            await signal.wait_state(CONNECTED)
            await (await signal.send_message(PEER, "shows by how much")).wait()
            gateway.script_send(hang())
            message = await signal.send_message(PEER, "lost")
            await trio.sleep(61)
            # By our clock it is in the window, by the gateway's it was an hour ago.
            gateway.deliver(envelopes.receipt(ms(-60)))
            confirm(gateway)
            await wait_done([message])
            assert outcome_of(message) == "failed: unknown"


async def test_a_client_of_all_accounts_minds_whose_receipt_it_is(autojump_clock: MockClock) -> None:
    accounts = ("+15550001", "+15550009")
    async with open_gateway(kind="signal-cli", accounts=accounts) as gateway:
        options: dict[str, Any] = {"connect": gateway.connect, "wall_clock": wall_time, "backoff": EXACT}
        async with open_signal_client(gateway.url, None, gateway="signal-cli", **options) as signal:
            await signal.wait_state(CONNECTED)
            await trio.sleep(START)
            messages: list[OutgoingMessage] = []
            gateway.script_send(*[LATE_LOSS] * 2)
            for to, account in ((PEER, accounts[0]), (OTHER, accounts[1])):
                messages.append(await signal.send_message(to, "lost", account=account))
            await trio.sleep(2.5)
            for which, sender in ((0, PEER), (1, OTHER)):
                stamp = stamp_of(gateway, which)
                gateway.deliver(envelopes.receipt(stamp, sender=sender), account=accounts[0])
            await wait_done(messages)
            assert outcomes_of(messages) == ["sent", "failed: unknown"]


# --- not everything was heard ---


@pytest.mark.parametrize("end", ["close", "drop", "reset"])
async def test_losing_the_link_does_not_lengthen_the_waiting_and_what_was_not_heard_proves_nothing(
    autojump_clock: MockClock, end: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await lose(gateway, signal)
        getattr(gateway, end)()
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        # What another device sent meanwhile, the gateway has thrown away.
        confirm(gateway)
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        assert elapsed() == 11


@pytest.mark.parametrize("after", [1, 4.5])
async def test_losing_the_link_while_a_receipt_ripens_or_waits_takes_its_force_away(
    autojump_clock: MockClock, after: float
) -> None:
    async with open_gateway() as gateway, connected(gateway, ping_interval=10.0) as signal:
        message = await lose(gateway, signal)
        confirm(gateway)
        await trio.sleep(after)
        gateway.refuse(None)
        gateway.drop()
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        # So long a sign that the link lives would have been waited for.
        assert elapsed() == 1 + 3 + 15


async def test_a_link_that_is_lost_while_a_proof_waits_and_back_at_once_leaves_doubt(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, ping_interval=10.0) as signal:
        message = await lose(gateway, signal)
        confirm(gateway)
        await trio.sleep(4.5)
        gateway.drop()
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        # It is told of the gap, so that nothing is waited for beyond its time.
        assert elapsed() == 1 + 10
        assert signal.statistics().receiving.gaps == 1


async def test_an_end_by_which_nothing_is_missed_leaves_a_proof_to_the_next_link(
    autojump_clock: MockClock,
) -> None:
    options: dict[str, Any] = {"receive_mode": "on-connection"}
    async with open_gateway(kind="signal-cli", keep_alive=30.0, **options) as gateway:
        async with connected(gateway, **options, settle_timeout=60, quiet_time=1.0) as signal:
            message = await lose(gateway, signal)
            confirm(gateway)
            await trio.sleep(4.5)
            assert message.outcome is None
            gateway.terminate()
            await signal.wait_state(DISCONNECTED)
            await gateway.start()
            await wait_done([message])
            assert outcome_of(message) == "sent"
            # Nothing comes on that link but the head of the answer, and that is enough.
            figures = signal.statistics()
            assert (figures.state, figures.since) == (CONNECTED, trio.current_time())
            assert figures.receiving.gaps == 0


async def test_a_gap_that_is_told_while_synchronising_ends_the_waiting_for_a_sign_of_life(
    autojump_clock: MockClock,
) -> None:
    options: dict[str, Any] = {"receive_mode": "on-connection"}
    async with open_gateway(kind="signal-cli", keep_alive=35.0, **options) as gateway:
        async with connected(gateway, **options, quiet_time=20.0) as signal:
            start = elapsed()
            message = await lose(gateway, signal)
            confirm(gateway)
            await trio.sleep(4.5)
            assert message.outcome is None
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            # It is behind the gap.
            gateway.deliver(text="waited on Signal's server")
            await wait_done([message])
            assert outcome_of(message) == "failed: unknown"
            figures = signal.statistics()
            assert (figures.state, figures.receiving.gaps) == (SYNCING, 1)
            assert elapsed() == start + 1 + 10


async def test_a_link_that_was_lost_before_does_no_harm(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway) as signal:
        gateway.drop()
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        await trio.sleep(START)
        message = await lose(gateway, signal)
        confirm(gateway)
        await wait_done([message])
        assert outcome_of(message) == "sent"


async def test_messages_that_wait_on_signals_server_meanwhile_are_heard(autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {"receive_mode": "on-connection"}
    async with open_gateway(kind="signal-cli", **options) as gateway:
        async with connected(gateway, **options, settle_timeout=60, quiet_time=1.0) as signal:
            await trio.sleep(20)
            message = await lose(gateway, signal)
            await trio.sleep(20)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            confirm(gateway)
            await signal.wait_state(CONNECTED)
            await wait_done([message])
            gaps = signal.statistics().receiving.gaps
            assert outcome_of(message) == ("failed: unknown" if gaps else "sent")


@pytest.mark.contract("O1")
async def test_what_another_device_sent_before_we_listened_is_no_proof(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        await trio.sleep(1)
        async with connected_just_now(gateway) as signal:
            gateway.script_send(slow(3, error(502)))
            message = await signal.send_message(PEER, "never left")
            await trio.sleep(4)
            # Sent half a second before there was a link, by a clock that is two seconds ahead.
            gateway.deliver(envelopes.receipt(ms(2.5 - START)))
            await wait_done([message])
            assert outcome_of(message) == "failed: unknown"


@pytest.mark.contract("O1")
async def test_what_another_device_sent_while_the_link_was_lost_is_no_proof_though_its_clock_is_ahead(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        # The gateway's clock is known to agree with ours, that of the other device is not.
        await (await signal.send_message(OTHER, "shows that the clocks agree")).wait()
        gateway.drop()
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        begun = elapsed()
        gateway.script_send(slow(3, error(502)))
        message = await signal.send_message(PEER, "never left")
        await trio.sleep(4)
        gateway.deliver(envelopes.receipt(ms(begun + 1)))
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"


@pytest.mark.contract("O1")
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_a_report_that_a_link_took_with_it_unnoticed_is_not_taken_for_none(
    autojump_clock: MockClock, delivery: str
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, ping_interval=10.0, delivery=delivery) as signal:
            gateway.script_send(slow(3, error(502)))
            message = await signal.send_message(PEER, "never left")
            await trio.sleep(3.5)
            gateway.deliver(envelopes.receipt(ms(1)))
            await settled()
            gateway.half_open()
            await trio.sleep(0.5)
            gateway.deliver(envelopes.sync_sent(account=gateway.account, timestamp=ms(1)))
            await wait_done([message])
            if delivery == "at_most_once":
                assert outcome_of(message) == "failed: unknown"
            else:
                # Nothing of the first attempt had gone out, so this is the only one that came.
                assert message.outcome == Sent(stamp_of(gateway))
                assert [send.timestamp is None for send in gateway.received] == [True, False]


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_a_proof_counts_as_soon_as_the_answer_to_a_ping_shows_that_the_link_lives(
    autojump_clock: MockClock, delivery: str
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, ping_interval=10.3, delivery=delivery, settle_timeout=5) as signal:
            message = await lose(gateway, signal)
            confirm(gateway)
            await wait_done([message])
            assert message.outcome == Sent(stamp_of(gateway, 0))
            # The receipt came at 1, and the silence that followed ended with the pong.
            assert elapsed() == pytest.approx(1 + 10.3)
            assert len(gateway.received) == 1


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_a_proof_counts_as_soon_as_signal_cli_shows_that_the_link_lives(
    autojump_clock: MockClock, delivery: str
) -> None:
    async with open_gateway(kind="signal-cli", keep_alive=13.7) as gateway:
        async with connected(gateway, delivery=delivery, settle_timeout=5) as signal:
            message = await lose(gateway, signal)
            confirm(gateway)
            await settled()
            assert signal.statistics().last_received == START + 1
            await wait_done([message])
            assert message.outcome == Sent(stamp_of(gateway, 0))
            # A keep-alive it was, the first bytes since the receipt.
            assert trio.current_time() == signal.statistics().last_received == pytest.approx(13.7)


async def test_several_proofs_count_with_the_same_sign_of_life_each_no_sooner_than_it_may(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, ping_interval=3.3) as signal:
        gateway.script_send(slow(1, lost()), slow(1, lost()), slow(1, lost()))
        messages = [await signal.send_message(to, "lost") for to in (PEER, OTHER, "+15550004")]
        done = dict[int, float]()

        async def note(which: int) -> None:
            await messages[which].wait()
            done[which] = round(elapsed(), 3)

        async with trio.open_nursery() as nursery:
            for which in range(3):
                nursery.start_soon(note, which)
            await trio.sleep(4)
            confirm(gateway, 0)
            confirm(gateway, 1, sender=OTHER)
            await trio.sleep(1.3)
            confirm(gateway, 2, sender="+15550004")
            await trio.sleep(2.2)
            gateway.deliver(text="whatever comes shows it")
        # The receipts came at 4 and 5.3, the text at 7.5, and the pong after as much silence as it takes.
        assert done == {0: 7.5, 1: 7.5, 2: 10.8}


async def test_what_came_with_the_sign_of_life_is_heard_before_a_proof_counts(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
        connected(gateway, ping_interval=10.3, connect=proxy.connect) as signal,
    ):
        gateway.script_send(slow(3, error(502)))
        message = await signal.send_message(PEER, "never left")
        await trio.sleep(3.5)
        gateway.deliver(envelopes.receipt(ms(1)))
        await settled()
        proxy.black_hole("down")
        gateway.deliver(envelopes.sync_sent(account=gateway.account, timestamp=ms(1)))
        # The ping goes off at 13.8; the report and the pong come together.
        await trio.sleep(12)
        assert message.outcome is None
        proxy.heal()
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        assert elapsed() == 3.5 + 12
        assert signal.state is CONNECTED


# --- at most once: the queue goes on ---


@pytest.mark.contract("O1", "O2", "O4", "O10")
async def test_the_queue_goes_on_meanwhile(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(lost())
        messages = await send_all(signal, ["lost", "next", "one more"])
        await wait_done(messages[1:])
        assert elapsed() == 0
        assert outcomes_of(messages) == ["pending", "sent", "sent"]
        statistics = signal.statistics()
        assert (statistics.in_flight, statistics.settling) == (False, 1)
        assert statistics.buffer.outgoing.pending == 1
        check_ledger(signal, messages)
        await wait_done(messages)
        assert signal.statistics().settling == 0
        assert texts_at(gateway) == ["lost", "next", "one more"]
        check_ledger(signal, messages)


@pytest.mark.contract("O8", "O12")
async def test_what_waits_for_evidence_cannot_be_withdrawn_and_does_not_expire(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(LATE_LOSS)
        message = await signal.send_message(PEER, "lost", deadline=trio.current_time() + 2)
        await trio.sleep(3)
        assert not message.withdraw()
        assert message.outcome is None
        with trio.move_on_after(1):
            await message.wait()
        assert message.outcome is None
        confirm(gateway)
        assert isinstance(await message.wait(), Sent)


async def test_a_hundred_wait_at_a_time_and_no_more(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, buffer_size=200, rate_limit=None) as signal:
            gateway.script_send(*[error(502)] * 120)
            messages = await send_all(signal, [str(n) for n in range(120)])
            await settled()
            assert outcomes_of(messages) == ["pending"] * 100 + ["failed: unknown"] * 20
            assert signal.statistics().settling == 100
            await wait_done(messages)
            assert elapsed() == 10
            check_ledger(signal, messages)


async def test_what_waits_takes_16_mib_at_most(autojump_clock: MockClock) -> None:
    settler = Settler(
        WallClock(wall_time),
        timeout=10,
        has_one_account=True,
        is_possible=lambda: True,
        is_listening=lambda _: True,
        heard=trio.sleep_until,
    )
    file = OutgoingAttachment(bytes(6 * 1024 * 1024), filename="zeros")
    doubt = Failed(ValueError("no answer"), Certainty.UNKNOWN)
    for content, is_taken in ((file, True), (file, True), (file, False), (None, True)):
        message = OutgoingMessage(PEER, Text("text", (content,) if content else ()))
        attempt = settler.begin(message)
        settler.end(attempt, doubt)
        assert settler.take(message, doubt) == is_taken
    assert settler.waiting == 3


# --- at least once: it stays in its place ---


def at_least_once(gateway: FakeGateway, **options: Any) -> Any:
    return connected(gateway, delivery="at_least_once", **options)


@pytest.mark.contract("O4", "O5")
async def test_at_least_once_sends_again_only_without_evidence_and_nothing_overtakes(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, at_least_once(gateway) as signal:
        gateway.script_send(LATE_LOSS)
        first = await signal.send_message(PEER, "first")
        second = await signal.send_message(OTHER, "second")
        await trio.sleep(10.9)
        assert texts_at(gateway) == ["first"]
        assert signal.statistics().in_flight
        assert signal.statistics().settling == 0
        await wait_done([first, second])
        assert texts_at(gateway) == ["first", "first", "second"]
        assert [send.time - START for send in gateway.received] == [0, 11, 11]
        check_ledger(signal, [first, second])


@pytest.mark.contract("O2", "O4", "O5")
@pytest.mark.parametrize("after", [0, 5, 9.9])
async def test_at_least_once_does_not_send_again_what_went_out(
    autojump_clock: MockClock, after: float
) -> None:
    async with open_gateway() as gateway, at_least_once(gateway) as signal:
        gateway.script_send(LATE_LOSS)
        first, second = await send_all(signal, ["first", "second"])
        await trio.sleep(1 + after)
        confirm(gateway)
        await wait_done([first, second])
        assert first.outcome == Sent(stamp_of(gateway, 0))
        assert texts_at(gateway) == ["first", "second"]
        assert counts_since(1 + after + 3)


async def test_at_least_once_a_receipt_that_another_device_explains_only_delays_the_next_attempt(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, at_least_once(gateway) as signal:
        gateway.script_send(slow(1, error(502)))
        message = await signal.send_message(PEER, "first")
        await trio.sleep(10)
        gateway.deliver(envelopes.receipt(ms(0.5)))
        await trio.sleep(2)
        gateway.deliver(envelopes.sync_sent(account=gateway.account, timestamp=ms(0.5)))
        await wait_done([message])
        assert texts_at(gateway) == ["first", "first"]
        assert elapsed() == 13


@pytest.mark.contract("O2", "O5")
@pytest.mark.parametrize("last", [error(502), error(404, "gone")])
async def test_at_least_once_evidence_that_ripens_during_another_attempt_counts_when_that_fails(
    autojump_clock: MockClock, last: SendAnswer
) -> None:
    async with open_gateway() as gateway, at_least_once(gateway) as signal:
        gateway.script_send(LATE_LOSS, slow(8, last))
        message = await signal.send_message(PEER, "first")
        await trio.sleep(12)
        confirm(gateway, 0)
        await trio.sleep(6)
        assert outcomes_of([message]) == ["pending"]  # it is being written, and nobody can end that
        await wait_done([message])
        assert message.outcome == Sent(stamp_of(gateway, 0))
        assert elapsed() == 19
        assert len(gateway.received) == 2


@pytest.mark.contract("O5")
async def test_at_least_once_ends_as_unknown_after_its_last_attempt_and_another_wait(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, at_least_once(gateway, max_send_attempts=2) as signal:
        gateway.script_send(lost(), lost())
        first, second = await send_all(signal, ["first", "second"])
        await second.wait()
        assert elapsed() == 10
        await wait_done([first])
        assert elapsed() == 20
        assert outcomes_of([first, second]) == ["failed: unknown", "sent"]


@pytest.mark.contract("O12", "O8")
async def test_at_least_once_it_can_be_withdrawn_between_attempts(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, at_least_once(gateway) as signal:
        gateway.script_send(LATE_LOSS, LATE_LOSS)
        first, second = await send_all(signal, ["first", "second"], deadline=START + 20.0)
        await trio.sleep(3)
        assert first.withdraw()
        assert outcome_of(first) == "failed: unknown"
        await wait_done([first, second])
        assert outcome_of(second) == "sent"
        assert texts_at(gateway) == ["first", "second", "second"]


@pytest.mark.parametrize("to", [GROUP, PEER])
async def test_at_least_once_where_no_evidence_can_come_it_is_sent_again_at_once(
    autojump_clock: MockClock, to: str
) -> None:
    options: dict[str, Any] = {} if to == GROUP else {"settle_timeout": 0}
    async with open_gateway() as gateway, at_least_once(gateway, **options) as signal:
        gateway.script_send(lost())
        await (await signal.send_message(to, "first")).wait()
        assert elapsed() == 1


# --- closing ---


@pytest.mark.contract("C5", "O9")
async def test_leaving_the_block_waits_for_evidence(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            message = await lose(gateway, signal)
            confirm(gateway)
        assert message.outcome == Sent(stamp_of(gateway, 0))
        assert counts_since(4)


@pytest.mark.contract("C5", "O9")
@pytest.mark.parametrize("limit", [0, 3])
async def test_leaving_the_block_waits_no_longer_than_close_timeout(
    autojump_clock: MockClock, limit: float
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, close_timeout=limit) as signal:
            message = await lose(gateway, signal)
        assert outcome_of(message) == "failed: unknown"
        assert elapsed() == 1 + limit
        check_ledger(signal, [message])


@pytest.mark.contract("C5", "O9")
@pytest.mark.parametrize("how", ["exception", "cancellation"])
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
@pytest.mark.parametrize("after", [0.5, 4.5])
async def test_an_abrupt_end_leaves_doubt(
    autojump_clock: MockClock, how: str, delivery: str, after: float
) -> None:
    messages: list[OutgoingMessage] = []
    scope = trio.CancelScope()

    async def work(gateway: FakeGateway) -> None:
        # Either the proof ripens, or it waits for a sign that the link lives.
        async with connected(gateway, delivery=delivery, ping_interval=10.0) as signal:
            messages.append(await lose(gateway, signal))
            confirm(gateway)
            await trio.sleep(after)
            if how == "exception":
                raise ValueError("the application's own")
            scope.cancel()
            await trio.sleep_forever()

    async with open_gateway() as gateway:
        with closing_within(START + 1 + after + 2), suppress(ValueError), scope:
            await work(gateway)
        assert outcomes_of(messages) == ["failed: unknown"]


# --- what an earlier process has left ---


async def test_a_message_of_an_earlier_process_is_not_waited_for_but_may_explain_what_comes(
    mock_clock: MockClock,
) -> None:
    for to, expected in ((PEER, -math.inf), (OTHER, 3.5)):
        mock_clock.jump(1000)
        now = elapsed()
        settler = Settler(
            WallClock(wall_time),
            timeout=10,
            has_one_account=True,
            is_possible=lambda: True,
            is_listening=lambda _: True,
            heard=trio.sleep_until,
        )
        settler.recall(OutgoingMessage(to, "old"), ms(now - 3))
        assert settler.waiting == 0
        message = OutgoingMessage(PEER, "new")
        attempt = settler.begin(message)
        mock_clock.jump(0.5)
        settler.end(attempt, Failed(ValueError("no answer"), Certainty.UNKNOWN))
        assert settler.watch(message) == 10
        receipt = decode_frame(
            json.dumps({"account": "+15550001", "envelope": envelopes.receipt(ms(now + 0.2))})
        )
        settler.hear(receipt)
        assert settler.ripe_at(message) == (expected if expected < 0 else START + now + expected)


# --- a hub ---


@pytest.mark.contract("O1", "O5")
async def test_the_hubs_own_client_settles_and_its_clients_do_not_wait_as_well(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene, up(scene) as signal:
        gateway = scene.gateway
        await trio.sleep(START)
        start = elapsed()
        gateway.script_send(LATE_LOSS, slow(1, error(502)))
        went_out = await signal.send_message(PEER, "went out")
        await trio.sleep(1.5)
        assert (scene.signal.statistics().settling, signal.statistics().settling) == (1, 0)
        confirm(gateway)
        assert await went_out.wait() == Sent(stamp_of(gateway, 0))
        assert start + 4.5 <= elapsed() <= start + 1.5 + 10 + 1
        start = elapsed()
        did_not = await signal.send_message(OTHER, "did not")
        await wait_done([did_not])
        assert outcome_of(did_not) == "failed: unknown"
        assert elapsed() == pytest.approx(start + 1 + 10)
