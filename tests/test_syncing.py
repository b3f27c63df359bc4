"""What comes while a new link is being made: once, in order, behind the gap (contract R2, C3)."""

import pytest
import trio

from trio_signal import ConnectionState, Gap, ReceivedMessage, open_signal_client
from trio_signal.testing import FakeGateway, open_fake_gateway


async def _deliver_as_soon_as_there_is_a_consumer(gateway: FakeGateway, count: int) -> None:
    await gateway.wait_consumers()
    for number in range(count):
        gateway.deliver(text=str(number))
        await trio.lowlevel.checkpoint()


@pytest.mark.contract("R2", "C3")
@pytest.mark.parametrize("count", [1, 2, 50])
async def test_messages_that_come_before_the_first_pong_stand_behind_the_gap(
    autojump_clock: trio.abc.Clock, count: int
) -> None:
    async with (
        open_fake_gateway(port=None) as gateway,
        open_signal_client(
            gateway.url, gateway.account, connect=gateway.connect, wall_clock=trio.current_time
        ) as signal,
    ):
        await signal.wait_state(ConnectionState.CONNECTED)
        changes = signal.state_changes()
        gateway.drop()
        while (await anext(changes)).current is not ConnectionState.RECONNECTING:
            pass
        await gateway.wait_disconnected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver_as_soon_as_there_is_a_consumer, gateway, count)
            nursery.start_soon(signal.wait_state, ConnectionState.CONNECTED)
        events = signal.events()
        gap = await anext(events)
        assert isinstance(gap, Gap)
        messages = [await anext(events) for _ in range(count)]
        assert [m.text for m in messages if isinstance(m, ReceivedMessage)] == [str(n) for n in range(count)]
        assert signal.statistics().receiving.gaps == 1
        assert signal.statistics().inbox.waiting == 0
