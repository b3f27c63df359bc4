"""Messages to receive, ever larger."""

import time

import trio

from trio_signal import ConnectionState, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Work
from ...traffic import ACCOUNT
from .message_gateway import LETTER
from .sizes import MESSAGE, doubling, up_to


def run(gateway: Gateway, params: Params) -> Measurement:
    """Receive some of each size, one after the other."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    costs: dict[int, float] = {}
    items: list[Item] = []
    async with open_signal_client(gateway.url, ACCOUNT) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        messages = signal.receive_messages()
        # The smallest twice, for the first time is always dearer.
        for size in (min(MESSAGE), *up_to(params["most"], MESSAGE)):
            spent = 0.0
            for _ in range(params["count"]):
                started = time.process_time()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, gateway.order, "write", 1, size)
                    message = await anext(messages)
                spent += time.process_time() - started
                if message.text != LETTER * size:
                    raise AssertionError("another text than was written")
                items.append((message.timestamp, message.sender, None, str(size)))
            costs[size] = spent / params["count"] * 1e6
    figures = {f"cost_{size}": cost for size, cost in costs.items()}
    return Measurement(figures | {"doubling": doubling(costs)}, Work.of(items))
