"""Each public coroutine, cancelled at its first, second, third … checkpoint (contract O9, O12, C5).

The checkpoints are counted by an instrument: a scope is cancelled just before the task
under test, or any task at all, runs for the n-th time. The sweep ends with the n at which
nothing is left to cancel.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from trio_signal import (
    Certainty,
    ConnectionState,
    Dropped,
    DropReason,
    Failed,
    MessageBuffer,
    MessageDropped,
    OutgoingMessage,
    ReceivedMessage,
    SendFailed,
    Sent,
    SignalClient,
    open_signal_client,
)
from trio_signal.testing import FakeGateway, hang, lost, open_fake_gateway

#: No public coroutine of this library passes more checkpoints than this in these scenes.
LIMIT = 3_000


@dataclass(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before the n-th step of one task, or of all tasks together."""

    step: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    task: trio.lowlevel.Task | None = None
    steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count, and cancel when it is time."""
        if self.task is None or task is self.task:
            self.steps += 1
            if self.steps == self.step:
                self.scope.cancel()


async def cancelled_at(step: int, run: Callable[[], Awaitable[Any]], *, of_any_task: bool = False) -> bool:
    """Run a coroutine, cancelled at its n-th step (or any task's); say whether it came that far."""
    instrument = CancelAtStep(step)
    trio.lowlevel.add_instrument(instrument)
    try:
        with instrument.scope:
            instrument.task = None if of_any_task else trio.lowlevel.current_task()
            await run()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.scope.cancel_called


async def sweep(scene: Callable[[int], Awaitable[bool]]) -> int:
    """Play a scene with a cancellation at step 1, 2, 3, … until the scene ends before; return how many."""
    for step in range(1, LIMIT):
        if not await scene(step):
            assert step > 1, "nothing was cancelled at all"
            return step
    pytest.fail(f"still not through after {LIMIT} steps")


def client_of(gateway: FakeGateway, **options: Any) -> AbstractAsyncContextManager[SignalClient]:
    return open_signal_client(gateway.url, gateway.account, connect=gateway.connect, **options)


@pytest.mark.contract("C5", "O1", "O9")
@pytest.mark.parametrize("trouble", ["none", "hang", "lost"])
async def test_the_whole_client_can_be_cancelled_anywhere(
    autojump_clock: trio.abc.Clock, trouble: str
) -> None:
    outcomes: set[str] = set()

    async def scene(step: int) -> bool:
        messages: list[OutgoingMessage] = []
        async with open_fake_gateway(port=None, answer_delay=0.01) as gateway:
            if trouble != "none":
                gateway.script_send(hang() if trouble == "hang" else lost())

            async def use() -> None:
                async with client_of(gateway, send_timeout=1.0) as signal:
                    for number in range(3):
                        messages.append(await signal.send_message("+15550002", f"m{number}"))
                    await signal.wait_state(ConnectionState.CONNECTED)
                    gateway.deliver(text="hello")
                    async for message in signal.receive_messages():
                        assert message.text == "hello"
                        break

            came_that_far = await cancelled_at(step, use, of_any_task=True)
            with trio.fail_after(2):
                await gateway.wait_disconnected()
            _check(messages, gateway)
        outcomes.update(repr(type(m.outcome)) for m in messages)
        return came_that_far

    assert await sweep(scene) > 100
    assert len(outcomes) >= 2, "the sweep should have met sent and unsent messages"


def _check(messages: list[OutgoingMessage], gateway: FakeGateway) -> None:
    arrived = [request.message for request in gateway.received if request.timestamp is not None]
    assert len(arrived) == len(set(arrived)), "sent twice"
    assert arrived == sorted(arrived), "out of order"
    for message in messages:
        outcome = message.outcome
        if isinstance(outcome, Sent):
            assert message.text in arrived
        elif isinstance(outcome, Dropped):
            assert outcome.reason is DropReason.CLOSED
            assert message.text not in arrived
        else:
            assert isinstance(outcome, Failed)
            assert outcome.certainty is Certainty.UNKNOWN


@pytest.mark.contract("O9", "R5")
async def test_a_cancelled_receive_loses_no_message(autojump_clock: trio.abc.Clock) -> None:
    async def scene(step: int) -> bool:
        got: list[str | None] = []
        async with open_fake_gateway(port=None) as gateway, client_of(gateway) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            stream = signal.receive_messages()

            async def take_three() -> None:
                for _ in range(3):
                    message = await anext(stream)
                    got.append(message.text)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(_deliver_slowly, gateway)
                came_that_far = await cancelled_at(step, take_three)
            while len(got) < 3:
                got.append((await anext(stream)).text)
            assert got == ["0", "1", "2"]
        return came_that_far

    await sweep(scene)


async def _deliver_slowly(gateway: FakeGateway) -> None:
    for number in range(3):
        gateway.deliver(text=str(number))
        await trio.sleep(0.1 * number)


@pytest.mark.contract("O1", "O3", "O12")
async def test_a_cancelled_send_message_is_accepted_or_not(autojump_clock: trio.abc.Clock) -> None:
    async def scene(step: int) -> bool:
        accepted: list[OutgoingMessage] = []
        async with open_fake_gateway(port=None) as gateway:
            async with client_of(gateway, buffer_size=1, overflow="wait", close_timeout=60) as signal:

                async def send_three() -> None:
                    for number in range(3):
                        accepted.append(await signal.send_message("+15550002", f"m{number}"))

                came_that_far = await cancelled_at(step, send_three)
                counted = signal.statistics().buffer.outgoing.accepted
            assert counted == len(accepted)
            assert [r.message for r in gateway.received] == [m.text for m in accepted]
        return came_that_far

    assert await sweep(scene) > 3


@pytest.mark.contract("O12")
@pytest.mark.parametrize("fate", ["sent", "dropped", "failed"])
async def test_a_cancelled_wait_changes_nothing(autojump_clock: trio.abc.Clock, fate: str) -> None:
    async def scene(step: int) -> bool:
        async with open_fake_gateway(port=None, answer_delay=0.1) as gateway, client_of(gateway) as signal:
            if fate == "failed":
                gateway.script_send(lost())
            message = await signal.send_message("+15550002", "hi")
            if fate == "dropped":
                message.withdraw()

            async def wait() -> None:
                try:
                    await message.wait()
                except (MessageDropped, SendFailed):
                    assert fate != "sent"

            came_that_far = await cancelled_at(step, wait)
            await trio.sleep(60)
            outcomes: dict[str, type[Sent | Dropped | Failed]] = {
                "sent": Sent,
                "dropped": Dropped,
                "failed": Failed,
            }
            assert isinstance(message.outcome, outcomes[fate])
        return came_that_far

    await sweep(scene)


@pytest.mark.contract("C2")
async def test_cancelled_observers_miss_nothing(autojump_clock: trio.abc.Clock) -> None:
    async def scene(step: int) -> bool:
        seen: list[ConnectionState] = []
        async with open_fake_gateway(port=None) as gateway, client_of(gateway) as signal:
            changes = signal.state_changes()

            async def follow() -> None:
                while len(seen) < 3:
                    seen.append((await anext(changes)).current)
                await signal.wait_state(ConnectionState.CONNECTED)

            came_that_far = await cancelled_at(step, follow)
            while len(seen) < 3:
                seen.append((await anext(changes)).current)
            assert [s.name for s in seen] == ["RECONNECTING", "SYNCING", "CONNECTED"]
        return came_that_far

    await sweep(scene)


@pytest.mark.contract("O9")
async def test_a_cancelled_take_leaves_the_message_in_the_buffer_or_returns_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def scene(step: int) -> bool:
        buffer, taken = MessageBuffer(5), list[str]()

        async def take_all() -> None:
            while len(taken) < 3:
                taken.append((await buffer.take()).text)

        async def fill() -> None:
            for number in range(3):
                await trio.sleep(0.1)
                buffer.enqueue("+15550002", str(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            came_that_far = await cancelled_at(step, take_all)
        taken.extend(message.text for message in buffer.drain())
        assert taken == ["0", "1", "2"]
        return came_that_far

    await sweep(scene)


@pytest.mark.contract("R8")
async def test_events_are_taken_once_whoever_is_cancelled(autojump_clock: trio.abc.Clock) -> None:
    got: list[str | None] = []
    async with open_fake_gateway(port=None) as gateway, client_of(gateway) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)

        async def impatient() -> None:
            for _ in range(40):
                with trio.move_on_after(0.01):
                    event = await anext(signal.events())
                    assert isinstance(event, ReceivedMessage)
                    got.append(event.text)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(impatient)
            for number in range(30):
                gateway.deliver(text=str(number))
                await trio.sleep(0.01)
    assert sorted(map(int, filter(None, got))) == list(range(30))
