"""Ending a command by SIGINT (Ctrl-C) or SIGTERM."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trio

#: What asks a command to end.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


async def run_until_signal(command: Callable[[], Awaitable[None]]) -> signal.Signals | None:
    """Run a command that the first signal cancels. A checkpoint.

    Only in the main thread. Not by KeyboardInterrupt: that would come out of the client's
    nurseries as a group, from wherever the program happened to be.

    Returns:
        The signal that ended it, if one did.
    """
    caught: signal.Signals | None = None

    async def watch(signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        nonlocal caught
        async for number in signals:
            caught = signal.Signals(number)
            everything.cancel(reason=f"the program was told to end by {caught.name}")

    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, signals, nursery.cancel_scope)
            await command()
            nursery.cancel_scope.cancel(reason="the command has ended")
    return caught


def exit_code(caught: signal.Signals) -> int:
    """Return what a shell expects of a program that a signal ended."""
    return 128 + caught
