"""Messages that wait to be sent, ever more."""

import logging
import time

import trio

from trio_signal import ConnectionState, OutgoingMessage, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Work
from ...traffic import ACCOUNT
from .sizes import WAITING, doubling, up_to
from .waiting_gateway import texts


def run(gateway: Gateway, params: Params) -> Measurement:
    """Accept and settle, then send while others wait, at each size."""
    # Each message that is dropped at the end has a line in the log, and who reads it would be measured.
    logging.disable()
    try:
        return trio.run(_run, gateway, params)
    finally:
        logging.disable(logging.NOTSET)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    settle: dict[int, float] = {}
    send: dict[int, float] = {}
    items: list[Item] = []
    await trio.lowlevel.checkpoint()
    # The smallest twice, for the first time is always dearer.
    for size in (min(WAITING), *up_to(params["most"], WAITING)):
        settle[size], send[size] = await _measure(gateway, size, params["sends"])
        items += texts(params["sends"])
    figures = {f"cost_{size}": cost for size, cost in settle.items()}
    figures |= {f"send_{size}": cost for size, cost in send.items()}
    return Measurement(figures | {"doubling": doubling(settle), "flat": doubling(send)}, Work.of(items))


async def _measure(gateway: Gateway, size: int, sends: int) -> tuple[float, float]:
    """Return ms to accept and settle so many, and µs for each send while so many more wait."""
    is_there = False

    async def connect(host: str, port: int) -> trio.abc.Stream:
        if not is_there:
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError("there is no gateway yet")
        return await trio.open_tcp_stream(host, port)

    offered = [(recipient or "", text or "") for _, recipient, _, text in texts(size + sends)]
    spent = time.process_time()
    async with open_signal_client(
        gateway.url,
        ACCOUNT,
        connect=connect,
        rate_limit=None,
        buffer_size=size + sends,
        buffer_bytes=1 << 40,
        settle_timeout=0,
        close_timeout=0,
    ) as signal:
        messages: list[OutgoingMessage] = [
            await signal.send_message(recipient, text) for recipient, text in offered
        ]
        spent = time.process_time() - spent
        await trio.to_thread.run_sync(gateway.order, "count", sends)
        is_there = True
        signal.reconnect_now()
        await signal.wait_state(ConnectionState.CONNECTED)
        started = time.process_time()
        await messages[sends - 1].wait()
        each = (time.process_time() - started) / sends * 1e6
        started = time.process_time()
    spent += time.process_time() - started
    if any(message.outcome is None for message in messages):
        raise AssertionError("a message has no outcome")
    return spent * 1e3, each
