"""Writing to standard output without ever holding up Trio's loop.

Whoever reads our output may stop reading, and a full pipe then blocks the writer. A
client that is held up answers no pings, so all writing is done in a thread, straight to
the file descriptor: a buffered file object would be flushed, and could block, at exit.
"""

import os
import select
import stat
import sys
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

STDOUT: Final = 1

#: Lines that wait for a reader that is behind; more are lost and counted.
_MOST_LINES: Final = 10_000

#: Seconds that the end waits for the last lines.
_LAST_LINES: Final = 1.0


async def write(text: str, *, fd: int = STDOUT) -> None:
    """Write all of a text, however long the reader takes. A checkpoint; cancelled, some of it may be written.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    await write_bytes(text.encode(encoding, "backslashreplace"), fd=fd)


async def write_bytes(data: bytes, *, fd: int = STDOUT) -> None:
    """Write bytes as they are. As :func:`write`."""
    await trio.to_thread.run_sync(_write_all, fd, data, abandon_on_cancel=True)


async def wait_reader_gone(*, fd: int = STDOUT) -> None:
    """Wait until nobody reads a pipe any more; for ever if it is no pipe. A checkpoint."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        # Nothing ever comes out of a pipe's writing end, so all that can wake us is its breaking.
        await trio.lowlevel.wait_readable(fd)
    else:
        await trio.sleep_forever()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            # Another program that shares the terminal or pipe with us has made it non-blocking.
            select.select([], [fd], [])


class LogWriter:
    """Takes lines at once and writes them when it can. Made by :func:`open_log_writer`.

    Attributes:
        lost: how many lines were given up since the reader was too far behind, or gone.
    """

    def __init__(self, fd: int) -> None:
        self._fd: Final = fd
        self._lines: deque[str] = deque()
        self._news = trio.Event()
        self._closed = False
        self._broken = False
        self._taken = self._written = 0
        self._progress = trio.Event()
        self.lost = 0

    def write(self, line: str) -> None:
        """Take a line, its end included. Never waits, never fails."""
        if self._broken or len(self._lines) >= _MOST_LINES:
            self.lost += 1
            return
        self._lines.append(line)
        self._taken += 1
        self._news.set()

    async def wait_written(self) -> None:
        """Wait until all that was taken by now is written; for ever once nobody reads more. A checkpoint."""
        taken = self._taken
        await trio.lowlevel.checkpoint()
        while self._broken or self._written < taken:
            await self._progress.wait()

    async def run(self) -> None:
        """Write until closed and empty. Cancelling loses what is not written yet."""
        await trio.lowlevel.checkpoint()
        while self._lines or not self._closed:
            await self._news.wait()
            self._news = trio.Event()
            text, taken = "".join(self._lines), self._taken
            self._lines.clear()
            try:
                await write(text, fd=self._fd)
            except OSError:
                # Whoever read the log is gone, perhaps by the same Ctrl-C. The work goes on without it.
                self._broken = True
                self._lines.clear()
            self._written = taken
            progress, self._progress = self._progress, trio.Event()
            progress.set()

    def close(self) -> None:
        """Let :meth:`run` end once all is written."""
        self._closed = True
        self._news.set()


@asynccontextmanager
async def open_log_writer(*, fd: int = STDOUT) -> AsyncGenerator[LogWriter]:
    """Give a :class:`LogWriter` for the length of a block, then wait up to a second for its last lines."""
    writer = LogWriter(fd)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield writer
        finally:
            writer.close()
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_LINES
