"""Sends each line of standard input as an alert that must arrive.

::

    export TRIO_SIGNAL_GATEWAY=http://127.0.0.1:8080 TRIO_SIGNAL_ACCOUNT=+15550100
    tail -F /var/log/alarms | python examples/alert_from_stdin.py +15550101

``delivery="at_least_once"`` sends a line again whose fate is unknown, so that somebody may get
it twice. A line that could not be sent for ten minutes is given up. The exit code is 0 if all
have arrived, else 1. Ctrl-C or SIGTERM ends the reading, a second Ctrl-C everything.
"""

import logging
import os
import sys
from collections.abc import AsyncIterable
from io import FileIO
from signal import SIGINT, SIGTERM

import trio

from trio_signal import SignalClient, open_signal_client

WORTH_SENDING_FOR = 600.0  # seconds


async def alert(signal: SignalClient, recipient: str, lines: AsyncIterable[str]) -> None:
    """Hand over all lines, waiting while the client has no room for more."""
    async for line in lines:
        await signal.send_message(recipient, line, deadline=trio.current_time() + WORTH_SENDING_FOR)


async def read_lines(file: FileIO, into: trio.MemorySendChannel[str]) -> None:
    """Pass on the lines of a file until its end, or until Ctrl-C or SIGTERM."""
    async with into, trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        while line := await trio.to_thread.run_sync(file.readline, abandon_on_cancel=True):
            if text := line.decode(errors="replace").strip():
                await into.send(text)
        nursery.cancel_scope.cancel()


async def stop_at_signal(work: trio.CancelScope) -> None:
    """End the work at Ctrl-C or SIGTERM."""
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        await anext(aiter(signals))
    logging.warning("ending in order; a second signal ends it at once")
    work.cancel()


async def main(recipient: str, file: FileIO) -> int:
    """Send what is read, and return the exit code."""
    gateway, account = os.environ["TRIO_SIGNAL_GATEWAY"], os.environ["TRIO_SIGNAL_ACCOUNT"]
    into, lines = trio.open_memory_channel[str](0)
    async with (
        open_signal_client(
            gateway,
            account,
            delivery="at_least_once",
            overflow="wait",  # whoever writes to us can wait too
            close_timeout=WORTH_SENDING_FOR,
            receive=False,  # what comes is for others
        ) as signal,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read_lines, file, into)
        await alert(signal, recipient, lines)
    told = signal.statistics().buffer.outgoing
    print(f"{told.sent} of {told.accepted} alerts have arrived", file=sys.stderr)
    return 0 if told.sent == told.accepted else 1


if __name__ == "__main__":
    logging.basicConfig()
    # Unbuffered: a thread that is left behind in a buffered file keeps the program from ending.
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        sys.exit(trio.run(main, sys.argv[1], stdin))
