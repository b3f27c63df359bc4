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


@contextmanager
def processors_awake(wish: Path = _WISH) -> Generator[bool]:
    """Have idle processors wait awake; yield whether the system was told to, which takes Linux and rights.

    On some virtual machines a processor takes 40 to 50 us to wake, on others next to nothing. Where a
    contender waits for an answer each time, that is half of what would be measured, the same for everybody.
    """
    try:
        descriptor = os.open(wish, os.O_WRONLY)
    except OSError:
        yield False
        return
    try:
        os.write(descriptor, struct.pack("=i", 0))
        yield True
    finally:
        os.close(descriptor)
