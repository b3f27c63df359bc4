"""Copies of files that go out: made whole or not at all, and nothing but them is ever deleted."""

import errno
import os
import resource
import stat
from pathlib import Path

import pytest

from trio_signal import ConfigurationError, OutgoingAttachment, StoreError, StoreFull
from trio_signal._contents import Content, RemoteDelete, Text
from trio_signal.store._files import FileCopies, absolute

DATA = bytes(range(256)) * 10_000


def text_with(*files: OutgoingAttachment) -> Text:
    return Text("look", files, edits=5)


def attached(path: Path, *, size: int | None = None) -> OutgoingAttachment:
    return OutgoingAttachment(path, "a.png", "image/png", path.stat().st_size if size is None else size)


def sources(content: Content) -> list[Path]:
    assert isinstance(content, Text)
    return [file.source for file in content.attachments if isinstance(file.source, Path)]


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original.png"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bot.db-files"


@pytest.mark.contract("D1")
@pytest.mark.parametrize("durable", [False, True])
def test_a_copy_is_the_file_and_nobody_elses(folder: Path, original: Path, durable: bool) -> None:
    memory = OutgoingAttachment(b"123", None, "text/plain", 3)
    content = text_with(attached(original), memory, attached(original))
    copied = FileCopies(folder, durable=durable).copy(content)
    original.unlink()
    first, second = sources(copied)
    assert first.read_bytes() == second.read_bytes() == DATA
    assert first != second
    assert first.is_absolute()
    assert isinstance(copied, Text)
    assert copied.attachments[1] is memory
    assert (copied.attachments[0].filename, copied.attachments[0].size, copied.edits) == (
        "a.png",
        len(DATA),
        5,
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_what_has_no_files_on_disk_makes_no_folder(folder: Path) -> None:
    copies = FileCopies(folder, durable=True)
    contents = RemoteDelete(1), text_with(OutgoingAttachment(b"1", None, "a/b", 1))
    for content in contents:
        assert copies.copy(content) is content
        copies.release(content)
    copies.clean(contents)
    assert not folder.exists()


def test_copies_are_deleted_with_their_message_and_nothing_else(folder: Path, original: Path) -> None:
    copies = FileCopies(folder, durable=False)
    kept, gone = copies.copy(text_with(attached(original))), copies.copy(text_with(attached(original)))
    ours = folder / "notes.txt"
    ours.write_text("not a copy", encoding="utf-8")
    copies.release(gone)
    copies.release(gone)
    copies.release(text_with(attached(original), attached(ours)))
    copies.release(RemoteDelete(1))
    assert {*folder.iterdir()} == {*sources(kept), ours}
    assert original.exists()


@pytest.mark.contract("D1")
def test_orphans_are_deleted_and_nothing_else(folder: Path, original: Path) -> None:
    copies = FileCopies(folder, durable=False)
    kept, orphan = copies.copy(text_with(attached(original))), copies.copy(text_with(attached(original)))
    ours = folder / "notes.copy"
    ours.write_text("not a copy", encoding="utf-8")
    copies.clean([kept, RemoteDelete(1), text_with(attached(original))])
    assert {*folder.iterdir()} == {*sources(kept), ours}
    assert not sources(orphan)[0].exists()
    copies.clean([])
    assert [*folder.iterdir()] == [ours]


def test_a_folder_that_was_moved_keeps_its_copies(folder: Path, original: Path, tmp_path: Path) -> None:
    content = FileCopies(folder, durable=False).copy(text_with(attached(original)))
    moved = tmp_path / "moved"
    folder.rename(moved)
    copies = FileCopies(moved, durable=False)
    copies.clean([content])
    assert [path.name for path in moved.iterdir()] == [sources(content)[0].name]


@pytest.mark.parametrize(("promised", "held"), [(len(DATA) + 1, DATA), (len(DATA) - 1, DATA), (1, b"")])
def test_a_file_of_another_size_is_refused_and_no_copy_is_left(
    folder: Path, original: Path, promised: int, held: bytes
) -> None:
    copies = FileCopies(folder, durable=False)
    whole = attached(original)
    changed = original.with_name("changed.png")
    changed.write_bytes(held)
    with pytest.raises(ConfigurationError, match="attachments: cannot copy .*changed.png"):
        copies.copy(text_with(whole, attached(changed, size=promised)))
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "memory"])
def test_what_is_no_file_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / os.fsdecode(b"\xff odd name")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "memory":
        # It can be opened, and its first byte not be read.
        path.symlink_to("/proc/self/mem")
    with pytest.raises(ConfigurationError, match="attachments: cannot copy"):
        FileCopies(folder, durable=False).copy(text_with(OutgoingAttachment(path, "a", "a/b", 1)))
    assert not folder.exists() or [*folder.iterdir()] == []


def test_a_folder_that_cannot_be_used_is_a_clear_error(folder: Path, original: Path, tmp_path: Path) -> None:
    folder.write_bytes(b"a file")
    copies = FileCopies(folder, durable=False)
    content = text_with(attached(original))
    with pytest.raises(StoreError, match="cannot be kept there"):
        copies.copy(content)
    with pytest.raises(StoreError, match="cannot be kept there"):
        copies.clean([])
    with pytest.raises(StoreError, match="cannot be kept there"):
        FileCopies(tmp_path / "no" / "folder", durable=False).copy(content)
    assert folder.read_bytes() == b"a file"


def test_what_cannot_be_deleted_is_told_once_the_rest_is(folder: Path, original: Path) -> None:
    copies = FileCopies(folder, durable=False)
    content = copies.copy(text_with(attached(original), attached(original)))
    first, second = sources(content)
    first.unlink()
    first.mkdir()
    with pytest.raises(StoreError, match="cannot be kept there"):
        copies.release(content)
    assert not second.exists()


@pytest.mark.contract("D2")
def test_a_copy_that_cannot_be_finished_is_a_clear_error_and_nothing_is_left(
    folder: Path, original: Path
) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, old[1]))
    try:
        with pytest.raises(StoreError, match="cannot be kept there .File too large"):
            FileCopies(folder, durable=False).copy(text_with(attached(original)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [*folder.iterdir()] == []


@pytest.mark.contract("D2")
def test_a_full_disk_says_that_it_is_full(folder: Path, original: Path) -> None:
    # No disk can be filled everywhere that this runs; a limit on files gives another error (see above).
    error = FileCopies(folder, durable=False)._explain(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(error, StoreFull)
    assert "make some and try again" in str(error)


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory = OutgoingAttachment(b"1", None, "a/b", 1)
    near, far = (
        OutgoingAttachment(Path("a.png"), "a", "a/b", 1),
        OutgoingAttachment(Path("/b"), "b", "a/b", 1),
    )
    assert sources(absolute(text_with(near, memory, far))) == [tmp_path / "a.png", Path("/b")]
    for content in (text_with(far, memory), RemoteDelete(1)):
        assert absolute(content) is content
