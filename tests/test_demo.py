import io
import os
import re
import signal
import sys
from dataclasses import replace
from typing import Any

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from trio_signal import (
    Certainty,
    Dropped,
    DropReason,
    Failed,
    Outcome,
    OutgoingStatistics,
    Sent,
    open_signal_client,
)
from trio_signal._cli.exits import Exit
from trio_signal._demo import run
from trio_signal._demo.acts import ACTS
from trio_signal._demo.audit import ClientSide, GatewaySide, audit
from trio_signal._demo.frame import LiveView
from trio_signal._demo.record import Record
from trio_signal._demo.run import run_demo
from trio_signal._demo.stage import Stage
from trio_signal._receiver import Receiver
from trio_signal.testing import open_fake_gateway

from .programs import environment, started

#: What a terminal obeys instead of showing.
CONTROLS = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\r")


def plain_console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=80), out


def terminal(
    *, width: int = 80, height: int = 24, color: bool = True, encoding: str = "utf-8"
) -> tuple[Console, io.TextIOWrapper]:
    """Return a console that believes to be a terminal, and what it writes to."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)
    console = Console(
        file=out,
        force_terminal=True,
        width=width,
        height=height,
        color_system="standard" if color else None,
        no_color=not color,
        _environ={},
    )
    return console, out


def written(out: io.TextIOWrapper) -> str:
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue().decode(out.encoding)


def frames(text: str) -> list[list[str]]:
    """Return the lines of each frame that was drawn."""
    parts = text.split("\x1b[?2026h")[1:]
    return [CONTROLS.sub("", part.split("\x1b[?2026l")[0]).split("\n") for part in parts]


# --- the whole of it ---


@pytest.mark.contract("O1", "O4", "O5", "O7", "R1", "R3", "R5", "R6", "R7", "C5")
async def test_the_two_sides_agree_and_the_story_is_told(autojump_clock: MockClock) -> None:
    console, out = plain_console()
    began = trio.current_time()
    assert await run_demo(console, live=False, port=None) == Exit.OK
    assert trio.current_time() - began < 40
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 110
    for number, act in enumerate(ACTS, start=1):
        assert f"ACT {number} of {len(ACTS)}: {act.title}\n" in text
    assert "RECONNECTING: attempt 1, in 1.0 s" in text
    assert "dropped: overflow" in text
    assert "failed (unknown): " in text
    assert re.search(r"1\.\d s in which messages may be missing", text)
    summary = text[text.index("What was broken") :]
    assert max(map(len, summary.splitlines())) <= 80
    assert "not played" not in summary
    assert " 3. copies, garbage 2 copies dropped, 1 unreadable frame told; the link held\n" in summary
    assert " 4. restart, burst  3 attempts; 11 alerts left in order, 3 made room for them\n" in summary
    assert " 7. signal-cli away 5 of 5 alerts left in order once it was back\n" in summary
    assert re.search(r"accepted \d+ = sent \d+ \+ dropped 3 \+ failed 1 \+ pending 0\n", summary)
    assert len(re.findall(r"^ \d\. \d\d:\d\d:\d\d\.\d\d\d to ", summary, re.MULTILINE)) == 3
    assert re.search(r" 8\. away from hub   given exactly the [5-9] it had missed", summary)
    assert summary.count("\n ok   ") == 10
    assert "FAIL" not in summary
    assert "\x1b" not in text
    assert text.endswith("The ledger balances: nothing was lost untold, nothing was sent twice.\n")


async def test_the_live_frame(autojump_clock: MockClock) -> None:
    console, out = terminal()
    assert await run_demo(console, live=True, port=None) == Exit.OK
    text = written(out)
    drawn = frames(text)
    assert len(drawn) > 150
    # A height that changes, or a line that wraps, would make the picture jump.
    assert {len(frame) for frame in drawn} == {21}
    assert max(len(line) for frame in drawn for line in frame) <= 80
    shown = "\n".join("\n".join(frame) for frame in drawn)
    for act in ACTS:
        assert act.title in shown
    assert re.search(r"link {7}● RECONNECTING +attempt 2 in 1\.\d s  [█░]{10}", shown)
    assert re.search(r"link {7}● CONNECTED +for \d s", shown)
    assert "buffer     ██████████ 10 of 10 waiting, 1 in hand" in shown
    assert "+ dropped 3 + failed 1 + pending 0" in shown
    assert "\x1b[1;33m" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.endswith("nothing was sent twice.\x1b[0m\n")


async def test_the_demo_says_so_and_fails_when_the_sides_do_not_agree(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(receiver: Receiver, *, in_passing: bool = False) -> None:
        receiver._absence = None

    monkeypatch.setattr(Receiver, "report_absence", forget)
    console, out = plain_console()
    assert await run_demo(console, live=False, port=None) == Exit.FAILED
    text = out.getvalue()
    assert re.search(r"^ FAIL each of \d+ said while nobody was there lies in a gap", text, re.MULTILINE)
    assert text.endswith("The ledger does NOT balance. This is a bug in trio_signal; please report it.\n")


async def test_a_demo_that_takes_too_long_is_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_LIMIT", 5.0)
    console, _ = plain_console()
    assert await run_demo(console, live=False, port=None) == Exit.FAILED
    assert "the demo was not over after 5 s" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_at_once_and_gives_the_cursor_back(
    number: signal.Signals, autojump_clock: MockClock
) -> None:
    async def interrupt_soon() -> None:
        await trio.sleep(3)
        signal.raise_signal(number)

    console, out = terminal()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_soon)
        assert await run_demo(console, live=True, port=None) == 128 + number
    assert trio.current_time() < 5
    text = written(out)
    assert text.count("\x1b[?25h") == 1
    assert text.endswith("\nEnded before its time.\n")


# --- the frame ---


@pytest.mark.parametrize(
    ("width", "height", "color", "encoding"),
    [(80, 24, False, "utf-8"), (50, 24, True, "utf-8"), (120, 50, True, "utf-8"), (80, 16, True, "ascii")],
)
async def test_the_frame_fits_whatever_the_terminal(
    width: int, height: int, color: bool, encoding: str, autojump_clock: MockClock
) -> None:
    console, out = terminal(width=width, height=height, color=color, encoding=encoding)
    async with open_fake_gateway(port=None) as gateway:
        gateway.stop()
        async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect) as client:
            record = Record(lambda _: None)
            stage = Stage(gateway, client, client, open_signal_client, record)
            view = LiveView(console)
            view.begin(4, len(ACTS), ACTS[3])
            for number in range(20):
                record.note("link", f"line {number} " + "x" * 200, bad=True)
            await client.send_message("+15550002", "hi")
            await trio.sleep(0.3)
            with trio.move_on_after(0.05):
                await view.run(stage)
            view.end(stage, "over")
    text = written(out)
    [frame] = frames(text)
    assert len(frame) <= height - 1
    assert max(map(len, frame)) <= min(width, 80)
    assert frame[0].startswith("trio-signal demo")
    assert "RECONNECTING" in "\n".join(frame)
    assert "line 19" in frame[-1]
    colors = set(re.findall(r"\x1b\[(?:\d;)*3\dm", text))
    assert bool(colors) is color


async def test_the_frame_while_it_dials(autojump_clock: MockClock) -> None:
    console, _ = terminal()
    async with open_fake_gateway(port=None) as gateway:
        gateway.silence(on="receive")
        async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect) as client:
            await trio.sleep(1)
            console.begin_capture()
            stage = Stage(gateway, client, client, open_signal_client, Record(lambda _: None))
            console.print(LiveView(console).frame(stage))
    assert "RECONNECTING attempt 1: dialling" in CONTROLS.sub("", console.end_capture()).replace("  ", " ")


# --- the audit: each of its checks can fail ---

LETTERS: list[tuple[str, Outcome | None]] = [
    ("1. a", Sent(10)),
    ("2. b", Dropped(DropReason.OVERFLOW)),
    ("3. c", Failed(OSError(), Certainty.UNKNOWN)),
    ("4. d", Failed(OSError(), Certainty.NOT_SENT)),
    ("5. e", Sent(11)),
]
BOOKS = OutgoingStatistics(
    accepted=5,
    sent=2,
    dropped={DropReason.OVERFLOW: 1},
    failed={Certainty.UNKNOWN: 1, Certainty.NOT_SENT: 1},
)
OURS = ClientSide(books=BOOKS, letters=LETTERS, heard=[1000, 2000, 5000], gaps=[(2100, 4000)], duplicates=1)
THEIRS = GatewaySide(
    sent=[("1. a", 10), ("3. c", 12), ("5. e", 11)],
    said=[1000, 2000, 3000, 5000],
    written=[1000, 2000, 2000, 5000],
    most_at_once=1,
)


def complaints(ours: ClientSide, theirs: GatewaySide) -> list[str]:
    return [check.sentence for check in audit(ours, theirs) if not check.ok]


def test_sides_that_agree() -> None:
    assert complaints(OURS, THEIRS) == []
    # The message of which nobody knows need not have arrived.
    assert complaints(OURS, replace(THEIRS, sent=[("1. a", 10), ("5. e", 11)])) == []
    # What was written to our socket and got lost on the way is covered by the gap.
    assert complaints(OURS, replace(THEIRS, written=[*THEIRS.written, 3000])) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"books": replace(BOOKS, sent=3)}, {}, "exactly one outcome"),
        ({"books": replace(BOOKS, accepted=6)}, {}, "exactly one outcome"),
        ({"letters": [*LETTERS, ("6. f", None)]}, {}, "exactly one outcome"),
        ({}, {"sent": [("1. a", 10), ("3. c", 12)]}, "reached Signal once"),
        ({}, {"sent": [("1. a", 99), ("5. e", 11)]}, "reached Signal once"),
        ({}, {"sent": [("1. a", 10), ("1. a", 10), ("5. e", 11)]}, "reached Signal once"),
        ({}, {"sent": [("1. a", 10), ("3. c", 12), ("3. c", 13), ("5. e", 11)]}, "nothing twice"),
        ({}, {"sent": [("1. a", 10), ("2. b", 12), ("5. e", 11)]}, "nothing twice"),
        ({}, {"sent": [("1. a", 10), ("4. d", 12), ("5. e", 11)]}, "nothing twice"),
        ({}, {"sent": [("5. e", 11), ("1. a", 10)]}, "in the order"),
        ({}, {"most_at_once": 2}, "two sends in flight"),
        ({"heard": [1000, 5000]}, {}, "written to our socket"),
        ({"heard": [2000, 1000, 5000]}, {}, "given once, in order"),
        ({"heard": [1000, 1000, 2000, 5000]}, {}, "given once, in order"),
        ({"heard": [1000, 2000, 5000, 6000]}, {}, "given once, in order"),
        ({"duplicates": 0}, {}, "came a second time"),
        ({"gaps": []}, {}, "while nobody was there"),
        ({"gaps": [(3006, 4000)]}, {}, "while nobody was there"),
        ({"missed": [1000, 2000], "caught_up": [2000]}, {}, "away from the hub"),
        ({"missed": [1000], "caught_up": [1000, 1000]}, {}, "away from the hub"),
        ({"missed": [1000, 2000], "caught_up": [2000, 1000]}, {}, "away from the hub"),
    ],
)
def test_sides_that_do_not_agree(ours: dict[str, Any], theirs: dict[str, Any], words: str) -> None:
    found = complaints(replace(OURS, **ours), replace(THEIRS, **theirs))
    assert any(words in sentence for sentence in found), found


# --- as a process ---


def in_terminal(seconds: float, **variables: str) -> tuple[int, str]:
    """Run the demo in a pseudo terminal, press Ctrl-C after a while, return its exit code and its output."""
    import pty

    pid, fd = pty.fork()
    if pid == 0:  # pragma: no cover  (this is the other process, which becomes the demo)
        env = environment({"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **variables})
        os.execve(sys.executable, [sys.executable, "-m", "trio_signal", "demo"], env)  # noqa: S606
    return _watch(pid, fd, seconds)


def _watch(pid: int, fd: int, seconds: float) -> tuple[int, str]:
    import select
    import time

    output, interrupt_at, sent = b"", float("inf"), False
    while True:
        if select.select([fd], [], [], 0.05)[0]:
            try:
                data = os.read(fd, 65_536)
            except OSError:
                # How a pseudo terminal says that the other side is gone.
                break
            output += data
            if interrupt_at == float("inf"):
                interrupt_at = time.monotonic() + seconds
        if time.monotonic() > interrupt_at and not sent:
            sent = True
            os.write(fd, b"\x03")
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def test_in_a_terminal_it_is_live_and_ctrl_c_ends_it() -> None:
    code, text = in_terminal(0.5, NO_COLOR="1")
    assert code == 130
    assert len(frames(text)) >= 2
    assert not re.search(r"\x1b\[(?:\d;)*3\dm", text)
    assert text.count("\x1b[?25h") == 1
    assert text.rstrip().endswith("Ended before its time.")
    assert "Traceback" not in text


def test_in_a_simple_terminal_it_is_plain() -> None:
    code, text = in_terminal(0.5, TERM="dumb")
    assert code == 130
    assert "\x1b" not in text
    assert "ACT 1 of 8: All is well" in text
    assert text.rstrip().endswith("Ended before its time.")


async def test_in_a_pipe_it_is_plain_even_where_colours_are_forced() -> None:
    async with started("demo", env={"FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}) as demo:
        while (line := await demo.line()) is not None:
            if "CONNECTED" in line:
                break
        demo.signal(signal.SIGINT)
        ended = await demo.end()
    assert ended.code == 130
    assert ended.err == ""
    assert "\x1b[?25l" not in ended.out
