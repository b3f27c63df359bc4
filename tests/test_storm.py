"""Everybody is cut off at once, again and again: nothing is missed, nothing comes twice, the order stays."""

from random import Random

import pytest
from trio.testing import MockClock

from tests.hubs import Scene, open_hub, small_log
from tests.storm import Storm
from trio_signal import Backoff
from trio_signal.hub import HubLimits
from trio_signal.testing._streams import Transport


def in_memory(scene: Scene, *, clients: int, seed: int) -> Storm:
    async def dial() -> Transport:
        return await scene.dial()

    def tell(text: str) -> None:
        scene.gateway.deliver(text=text)

    return Storm(
        scene, dial, tell, clients=clients, random=Random(seed), backoff=lambda random: Backoff(random=random)
    )


@pytest.mark.contract("H2", "H4", "H12", "R1", "R2", "R3", "C3")
async def test_sixty_clients_cut_off_five_times_have_everything_once_and_in_order(
    autojump_clock: MockClock,
) -> None:
    problems: list[str | None] = []
    # Some are refused (429) and told when to come back.
    few = HubLimits(recovery_rate=10.0, recovery_burst=20)
    async with open_hub(log=small_log(max_messages=1000), limits=few) as scene:
        storm = in_memory(scene, clients=60, seed=2026)
        await storm.ride(5, problems.append)
        assert problems == [None] * 5
        assert scene.hub.log.head == storm.told
    # Each was cut off each time, who came back early once more; a link that did not last counts on.
    assert sum(len(rider.back_after) for rider in storm.riders) >= 300
    assert storm.back_after(0.99) <= 75


async def test_what_is_missed_or_doubled_in_a_storm_is_seen(autojump_clock: MockClock) -> None:
    problems: list[str | None] = []
    async with open_hub(log=small_log(max_messages=1000)) as scene:
        storm = in_memory(scene, clients=2, seed=1)
        await storm.ride(1, problems.append)
        assert storm.problem() is None
        storm.told += 1
        assert storm.problem() == f"client 0 has {storm.told - 1} of {storm.told} messages"
        storm.riders[1].wrong.append("a gap")
        storm.riders[0].taken += 1
        assert storm.problem() == f"client 1 got a gap instead of message {storm.told - 1}"
