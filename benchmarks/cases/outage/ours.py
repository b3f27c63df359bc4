"""Sending through an outage with trio_signal."""

import time

import trio

from trio_signal import (
    Certainty,
    ConnectionState,
    OutgoingMessage,
    SendFailed,
    SignalClient,
    open_signal_client,
)

from ...contender import Gateway, Measurement, Params
from ...traffic import ACCOUNT
from .ledger import Ledger, Verdict


def run(gateway: Gateway, params: Params) -> Measurement:
    """Give each message away when it is due, and wait for its outcome."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    ledger = Ledger(gateway, params)
    async with open_signal_client(
        gateway.url,
        ACCOUNT,
        rate_limit=None,
        buffer_size=len(ledger.due),
        settle_timeout=params["settle"] / 1000,
    ) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        await _offer(signal, ledger)
    return ledger.measurement()


async def _offer(signal: SignalClient, ledger: Ledger) -> None:
    ledger.begin()
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for due, number, recipient, text in ledger.due:
            await trio.sleep_until(started + due)
            accepted = time.perf_counter()
            message = await signal.send_message(recipient, text)
            nursery.start_soon(_wait, ledger, number, message, accepted)


async def _wait(  # noqa: ASYNC910  (waiting is one)
    ledger: Ledger, number: int, message: OutgoingMessage, accepted: float
) -> None:
    """Wait for a message's outcome and note it."""
    try:
        await message.wait()
    except SendFailed as error:
        is_unknown = error.certainty is Certainty.UNKNOWN
        ledger.note(number, Verdict.UNKNOWN if is_unknown else Verdict.FAILED, accepted)
    else:
        ledger.note(number, Verdict.SENT, accepted)
