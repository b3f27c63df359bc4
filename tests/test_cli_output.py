"""Real pipes and threads, so real time passes."""

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_signal._cli import output
from trio_signal._cli.library_log import library_on_stderr
from trio_signal._cli.output import LogWriter, open_log_writer, wait_reader_gone


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        # A test may have closed it already.
        try:
            os.close(fd)
        except OSError:
            continue


async def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    async with open_log_writer(fd=writer) as log:
        for number in range(100):
            log.write(f"{number}\n")
            if number == 50:
                await trio.lowlevel.checkpoint()
    assert os.read(reader, 10_000).decode() == "".join(f"{number}\n" for number in range(100))
    assert log.lost == 0


async def test_a_reader_that_does_not_read_holds_nothing_up(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MOST_LINES", 10)
    monkeypatch.setattr(output, "_LAST_LINES", 0.1)
    _, writer = pipe
    with trio.fail_after(5):
        async with open_log_writer(fd=writer) as log:
            for _ in range(30):
                log.write("x" * 10_000)
                await trio.lowlevel.checkpoint()
    assert log.lost > 0


async def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with trio.fail_after(5):
        async with open_log_writer(fd=writer) as log:
            log.write("to nobody\n")
            while not log.lost:
                log.write("to nobody\n")
                await trio.sleep(0.001)


async def test_a_closed_log_writer_without_lines_just_ends() -> None:
    log = LogWriter(-1)
    log.close()
    with trio.fail_after(5):
        await log.run()


async def test_waiting_for_a_reader_to_go(pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    with trio.move_on_after(0.05) as waiting:
        await wait_reader_gone(fd=writer)
    assert waiting.cancelled_caught
    os.close(reader)
    with trio.fail_after(5):
        await wait_reader_gone(fd=writer)
    with (tmp_path / "file").open("wb") as file, trio.move_on_after(0.05) as waiting:
        await wait_reader_gone(fd=file.fileno())
    assert waiting.cancelled_caught


async def test_a_pipe_that_another_program_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    received = b""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(output.write, "x" * 300_000, fd=writer))
            await trio.lowlevel.checkpoint()
            while len(received) < 300_000:
                received += await trio.to_thread.run_sync(os.read, reader, 65536)
    assert received == b"x" * 300_000


@pytest.mark.threat("T3")
def test_what_the_library_logs_is_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("trio_signal.gateway")
    with library_on_stderr("warning"):
        logger.info("nothing")
        logger.warning("a line\nwith %s", "\x1b")
    logger.warning("nobody listens any more")
    assert "trio-signal: warning: a line\\nwith \\x1b\n" in capsys.readouterr().err
