"""Whether a gateway is still there: what a sign of it means while it is asked."""

import math

import pytest
import trio
from trio.testing import MockClock

from trio_signal import LinkLost
from trio_signal._presence import Presence
from trio_signal.gateways import Gateway


class Asked:
    """As much of a gateway as is asked: each question takes two seconds."""

    def __init__(self, *answers: LinkLost | None) -> None:
        self.lost_answers = 1
        self.questions = 0
        self._answers = [*answers]

    async def ask_health(self) -> None:
        self.questions += 1
        await trio.sleep(2)
        answer = self._answers.pop(0)
        if answer is not None:
            raise answer


def presence_at(gateway: Asked) -> Presence:
    whole: Gateway = gateway  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    return Presence(whole, None)


@pytest.mark.contract("O5", "O10")
@pytest.mark.parametrize("answer", [None, LinkLost("x", retry_after=200.0)])
@pytest.mark.parametrize("more", [0, 1])
async def test_a_sign_while_it_is_asked_counts_whatever_the_answer_is(
    autojump_clock: MockClock, answer: LinkLost | None, more: int
) -> None:
    gateway = Asked(answer)
    presence = presence_at(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(presence.make_sure)
        await trio.sleep(1)
        gateway.lost_answers += more
        presence.note_sign()
    assert (presence.is_in_doubt, presence.ask_at) == (False, -math.inf)
    await presence.make_sure()
    assert gateway.questions == 1


@pytest.mark.contract("O5")
async def test_what_is_lost_while_it_is_asked_is_asked_for_again(autojump_clock: MockClock) -> None:
    gateway = Asked(None, None)
    presence = presence_at(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(presence.make_sure)
        await trio.sleep(1)
        gateway.lost_answers += 1
    assert presence.is_in_doubt
    await presence.make_sure()
    assert (presence.is_in_doubt, gateway.questions) == (False, 2)


@pytest.mark.contract("O5", "O10")
async def test_who_comes_while_another_asks_does_not_ask_again(autojump_clock: MockClock) -> None:
    gateway = Asked(LinkLost("x", retry_after=200.0), None)
    presence = presence_at(gateway)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(presence.make_sure)
    assert (presence.is_in_doubt, gateway.questions) == (True, 1)
    assert presence.ask_at >= trio.current_time() + 200
    with trio.move_on_at(presence.ask_at):
        await trio.sleep_forever()
    await presence.make_sure()
    assert (presence.is_in_doubt, gateway.questions) == (False, 2)


@pytest.mark.contract("O9")
async def test_a_cancelled_question_leaves_everything_as_it_was(autojump_clock: MockClock) -> None:
    gateway = Asked(None)
    presence = presence_at(gateway)
    with trio.move_on_after(1):
        await presence.make_sure()
    assert presence.is_in_doubt
    await presence.make_sure()
    assert (presence.is_in_doubt, gateway.questions) == (False, 2)
