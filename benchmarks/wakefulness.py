"""Keeping the processors from going to sleep while something is measured."""

import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: While this is open, no processor sleeps so deeply that waking takes longer than the microseconds written
#: to it (Linux, "PM Quality of Service interface"). Closing it, the process's end too, takes the wish back.
_WISH: Final = Path("/dev/cpu_dma_latency")

#: What puts processors to sleep. Where it is "none", the kernel does that itself and knows no wishes.
_DRIVER: Final = Path("/sys/devices/system/cpu/cpuidle/current_driver")


@contextmanager
def processors_awake(wish: Path = _WISH, driver: Path = _DRIVER) -> Generator[bool]:
    """Have idle processors wait awake; yield whether they do, which takes Linux and rights.

    On some virtual machines a processor takes 40 to 50 us to wake, on others next to nothing. Where a
    contender waits for an answer each time, that is half of what would be measured, the same for everybody.
    """
    held = _hold(wish, driver)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def _hold(wish: Path, driver: Path) -> int | None:
    """Return what is to be closed when they may sleep again; None if they cannot be told."""
    held = None
    try:
        if driver.read_text(encoding="ascii").strip() == "none":
            return None
        held = os.open(wish, os.O_WRONLY)
        os.write(held, struct.pack("=i", 0))
    except OSError:
        if held is not None:
            os.close(held)
        return None
    return held
