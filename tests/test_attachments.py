import base64
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints

from trio_signal import ConfigurationError, OutgoingAttachment
from trio_signal._attachments import check_attachments

MODULE = "trio_signal._attachments"
PIECE = 6


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._PIECE", PIECE)


async def check(*attachments: Any, limit: int = 10**6) -> tuple[OutgoingAttachment, ...]:
    return await check_attachments(attachments, limit=limit)


async def check_one(attachment: Any) -> OutgoingAttachment:
    (checked,) = await check(attachment)
    return checked


async def pieces(attachment: OutgoingAttachment) -> list[bytes]:
    return [await attachment.encoded(start) for start in attachment.starts()]


# --- What is taken ---


async def test_a_path_is_completed_with_name_type_and_size(tmp_path: Path) -> None:
    path = tmp_path / "holiday.png"
    path.write_bytes(b"12345")
    expected = OutgoingAttachment(path, "holiday.png", "image/png", 5)
    assert await check(path, str(path), OutgoingAttachment(path)) == (expected,) * 3
    assert expected.held == 0


async def test_bytes_have_no_name_of_their_own() -> None:
    checked = await check_one(b"12345")
    assert checked == OutgoingAttachment(b"12345", None, "application/octet-stream", 5)
    assert checked.held == 5
    assert checked.head() == "data:application/octet-stream;base64,"


async def test_a_name_and_a_type_that_are_given_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    checked = await check_one(OutgoingAttachment(path, 'Grüße "von" mir\'s 👋.txt', "text/x-mine"))
    assert checked == OutgoingAttachment(path, 'Grüße "von" mir\'s 👋.txt', "text/x-mine", 0)
    assert checked.head() == 'data:text/x-mine;filename=Grüße "von" mir\'s 👋.txt;base64,'


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.txt", "text/plain"),
        ("a.jpg", "image/jpeg"),
        ("a.PNG", "image/png"),
        ("a.no-such-type", "application/octet-stream"),
        ("a", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        # Announced as what it holds inside it could not be opened.
        ("backup.tar.gz", "application/octet-stream"),
    ],
)
async def test_the_type_is_guessed_from_the_name(name: str, content_type: str) -> None:
    assert (await check_one(OutgoingAttachment(b"x", name))).content_type == content_type


@pytest.mark.parametrize(
    ("on_disk", "sent"),
    [
        ("a;b.txt", "a_b.txt"),
        ("a,b.txt", "a_b.txt"),
        ("a\\b.txt", "a_b.txt"),
        ("a\nb\x7f.txt", "a_b_.txt"),
        (os.fsdecode(b"a\xffb.txt"), "a_b.txt"),
        ('a"b.txt', 'a"b.txt'),
    ],
    ids=ascii,
)
async def test_a_name_on_disk_that_cannot_be_sent_is_mended(on_disk: str, sent: str, tmp_path: Path) -> None:
    path = tmp_path / on_disk
    path.write_bytes(b"x")
    assert (await check_one(path)).filename == sent


class PathOf:
    """What os.fspath() takes and what is no Path."""

    def __init__(self, path: str | bytes) -> None:
        self.path = path

    def __fspath__(self) -> str | bytes:
        return self.path


async def test_any_kind_of_path_and_any_kind_of_list_will_do(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x")
    expected = (OutgoingAttachment(path, "a.txt", "text/plain", 1),)
    given: list[Any] = [[PathOf(str(path))], (path,), {path}, iter([path]), [OutgoingAttachment(str(path))]]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for attachments in given:
        assert await check_attachments(attachments, limit=10) == expected
    assert await check_attachments([], limit=10) == ()


# --- What is refused, and how ---


@pytest.mark.parametrize(
    "attachments",
    [
        "a.txt",
        b"bytes",
        Path("a.txt"),
        OutgoingAttachment(b"x"),
        None,
        5,
        [None],
        [5],
        [["a.txt"]],
        ["a\0b"],
        [Path("a\0b")],
        [OutgoingAttachment(None)],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        [OutgoingAttachment(b"x", 5)],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        [OutgoingAttachment(b"x", None, 5)],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        [OutgoingAttachment(b"x", "a/b")],
        [OutgoingAttachment(b"x", "a;b")],
        [OutgoingAttachment(b"x", "a,b")],
        [OutgoingAttachment(b"x", "a\\b")],
        [OutgoingAttachment(b"x", "a\r\nb")],
        [OutgoingAttachment(b"x", "a\0b")],
        [OutgoingAttachment(b"x", "\udcff.png")],
        [OutgoingAttachment(b"x", "a", "")],
        [OutgoingAttachment(b"x", "a", "image")],
        [OutgoingAttachment(b"x", "a", "image/png;base64")],
        [OutgoingAttachment(b"x", "a", "image/png\n")],
        ["/no/such/file"],
        ["/"],
        [""],
        ["."],
        ["/dev/null"],
        [b"x" * 1001],
    ],
    ids=lambda a: ascii(a)[:90],
)
async def test_what_cannot_be_sent_is_refused_at_once(attachments: Any) -> None:
    with assert_checkpoints(), pytest.raises(ConfigurationError, match=r"^attachments: ") as caught:
        await check_attachments(attachments, limit=1000)
    assert caught.value.argument == "attachments"


async def test_a_path_of_bytes_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.txt")
    path.write_bytes(b"x")
    assert await check_one(PathOf(os.fsencode(path))) == OutgoingAttachment(path, "a_.txt", "text/plain", 1)


async def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        await check(pipe)


async def test_why_a_file_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"cannot read '.*missing': No such file or directory"
    ) as caught:
        await check(tmp_path / "missing")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


async def test_the_limit_is_for_all_of_them_together(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 60)
    assert len(await check(path, b"x" * 40, limit=100)) == 2
    with pytest.raises(
        ConfigurationError, match=r"101 bytes together .* limit of 100 .*max_attachment_bytes"
    ):
        await check(path, b"x" * 41, limit=100)


async def test_checking_is_a_checkpoint_and_can_be_cancelled() -> None:
    with assert_checkpoints():
        await check_attachments([], limit=10)
    with trio.CancelScope() as scope:
        scope.cancel()
        await check_attachments([b"x"], limit=10)
    assert scope.cancelled_caught


# --- Reading ---

SIZES = sorted({max(0, n * PIECE + d) for n in range(4) for d in range(-4, 5)})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("on_disk", [False, True])
async def test_the_pieces_are_the_base64_of_the_whole(
    size: int, on_disk: bool, small_pieces: None, tmp_path: Path
) -> None:
    content = bytes(range(size))
    path = tmp_path / "a"
    path.write_bytes(content)
    attachment = await check_one(path if on_disk else content)
    encoded = await pieces(attachment)
    assert b"".join(encoded) == base64.b64encode(content)
    assert attachment.encoded_size() == len(b"".join(encoded))
    assert max(map(len, encoded)) <= PIECE // 3 * 4


async def test_each_piece_is_a_checkpoint(small_pieces: None) -> None:
    attachment = await check_one(b"x" * (2 * PIECE + 1))
    assert list(attachment.starts()) == [0, PIECE, 2 * PIECE]
    for start in attachment.starts():
        with assert_checkpoints():
            await attachment.encoded(start)


@given(st.binary(max_size=200), st.integers(1, 40))
def test_any_size_and_any_piece_fit_together(content: bytes, thirds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{MODULE}._PIECE", 3 * thirds)

        async def main() -> bytes:
            return b"".join(await pieces(await check_one(content)))

        assert base64.b64decode(trio.run(main), validate=True) == content


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def vanish(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[Callable[[Path], None]] = [grow, shrink, empty, vanish, become_a_folder]


async def read_all(attachment: OutgoingAttachment, starts: list[int]) -> None:
    for start in starts:
        await attachment.encoded(start)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 3])
async def test_a_file_that_changes_before_or_while_it_is_read_is_noticed(
    change: Callable[[Path], None], size: int, small_pieces: None, tmp_path: Path
) -> None:
    for read_first in range(math.ceil(size / PIECE)):
        path = tmp_path / f"file {read_first}"
        path.write_bytes(b"x" * size)
        attachment = await check_one(path)
        starts = list(attachment.starts())
        for start in starts[:read_first]:
            await attachment.encoded(start)
        change(path)
        with pytest.raises((OSError, ConfigurationError)):
            await read_all(attachment, starts[read_first:])


async def test_no_more_is_read_at_once_than_a_piece(
    small_pieces: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 10 * PIECE)
    reads: list[int] = []

    def read(of: Path, start: int, size: int) -> bytes:
        reads.append(size)
        return of.read_bytes()[start : start + size]

    monkeypatch.setattr(f"{MODULE}._read_piece", read)
    await pieces(await check_one(path))
    assert reads == [PIECE] * 10 + [1]


async def test_a_read_that_never_ends_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, never: Callable[..., bytes], autojump_clock: MockClock
) -> None:
    path = tmp_path / "on a dead disk"
    path.write_bytes(b"x")
    attachment = await check_one(path)
    monkeypatch.setattr(f"{MODULE}._read_piece", never)
    with trio.move_on_after(60) as scope:
        await pieces(attachment)
    assert scope.cancelled_caught


@pytest.fixture
def never() -> Iterator[Callable[..., bytes]]:
    """Give a function that returns when the test is over, so that its thread does not stay behind."""
    from threading import Event

    over = Event()

    def wait(*_: object) -> bytes:
        over.wait(30)
        return b""

    yield wait
    over.set()


async def test_reading_bytes_takes_no_time(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    await pieces(await check_one(b"x" * 10**6))
    assert trio.current_time() == start


async def test_an_attachment_can_be_checked_twice() -> None:
    checked = await check_one(OutgoingAttachment(b"x", "a.txt"))
    assert await check_one(checked) == checked
    assert await check_one(replace(checked, size=7)) == checked
