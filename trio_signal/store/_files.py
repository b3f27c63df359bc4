"""Copies of the files that go out with messages, kept until the messages have their outcomes.

All of this blocks. A copy has a name that nothing else has, so none is ever overwritten, and a folder that
was moved with its store still knows which copies are whose.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from .._contents import Content, Text
from .._errors import ConfigurationError, StoreError, StoreFull
from ._codec import with_paths

#: Read this many bytes at a time.
_PIECE: Final = 1024 * 1024

_NAME: Final = re.compile(r"[0-9a-f]{32}\.copy")


def absolute(content: Content) -> Content:
    """Return the content with paths that mean the same in another process. Looks at no file."""
    return with_paths(content, lambda path, _: path.absolute())


class FileCopies:
    """The folder with the copies.

    Args:
        folder: where; made for the first copy, for its owner alone.
        durable: whether a copy must survive a loss of power from the moment it is made.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder: Final = folder.absolute()
        self._durable: Final = durable

    def copy(self, content: Content) -> Content:
        """Return the content with each file on disk replaced by a copy of it. If it fails, none is left.

        Raises:
            ConfigurationError: a file cannot be read, or is not as long as when it was accepted.
            StoreFull: the disk is full.
            StoreError: a copy cannot be written.
        """
        made: list[Path] = []
        with ExitStack() as stack:
            stack.callback(_give_up, made)
            try:
                copy = with_paths(content, lambda path, size: self._copy(path, size, made))
                if made and self._durable:
                    self._sync_folder()
            except OSError as error:
                raise self._explain(error) from error
            stack.pop_all()
        return copy

    def release(self, content: Content) -> None:
        """Delete the copies that belong to a content. What is not ours or gone is left alone.

        Raises:
            StoreError: one cannot be deleted; the rest are.
        """
        self._delete(path for path in _paths(content) if path.parent == self._folder)

    def releasing(self, content: Content) -> Callable[[], None] | None:
        """Return what deletes the copies of a content, without holding that itself; None if it has none."""
        paths = [path for path in _paths(content) if path.parent == self._folder]
        return partial(self._delete, paths) if paths else None

    def clean(self, used: Iterable[Content]) -> None:
        """Delete the copies that belong to none of the contents: a process was killed before it could.

        Raises:
            StoreError: the folder cannot be read, or a copy not be deleted; the rest are.
        """
        names = {path.name for content in used for path in _paths(content)}
        try:
            found = [path for path in self._folder.iterdir() if path.name not in names]
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._explain(error) from error
        self._delete(found)

    def _copy(self, source: Path, size: int, made: list[Path]) -> Path:
        with _opened(source) as file:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            target = self._folder / f"{secrets.token_hex(16)}.copy"
            with open(target, "xb", buffering=0, opener=_for_owner) as copy:
                made.append(target)
                copied = _pour(file, copy, source, limit=size)
                if copied != size:
                    raise _changed(source, f"it has {copied} bytes or more, not {size} any longer")
                if self._durable:
                    os.fsync(copy.fileno())
        return target

    def _sync_folder(self) -> None:
        """Have the names of the copies on the disk, and that of the folder."""
        for folder in (self._folder, self._folder.parent):
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def _delete(self, paths: Iterable[Path]) -> None:
        failure: OSError | None = None
        for path in paths:
            if _NAME.fullmatch(path.name):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    failure = error
        if failure is not None:
            raise self._explain(failure) from failure

    def _explain(self, error: OSError) -> StoreError:
        folder = repr(str(self._folder))
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreFull(f"the disk has no room for copies of files in {folder}; make some and try again")
        return StoreError(f"the copies of files in {folder} cannot be kept there ({error.strerror})")


def _opened(source: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            # A device or a pipe may block for ever.
            raise _changed(source, "it is not a regular file")
        return source.open("rb", buffering=0)
    except OSError as error:
        raise _changed(source, error.strerror) from error


def _pour(file: BinaryIO, copy: BinaryIO, source: Path, *, limit: int) -> int:
    """Copy a file, and stop behind the limit. Returns how many bytes were read."""
    read = 0
    while read <= limit:
        try:
            piece = memoryview(file.read(min(_PIECE, limit + 1 - read)))
        except OSError as error:
            raise _changed(source, error.strerror) from error
        if not piece:
            break
        read += len(piece)
        while piece:
            # Unbuffered, so that it may take less than it is given.
            piece = piece[copy.write(piece) :]
    return read


def _give_up(made: list[Path]) -> None:
    """Delete copies of which nobody will know."""
    for path in made:
        # What cannot be deleted now is an orphan, which the next opening deletes.
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _paths(content: Content) -> Iterator[Path]:
    attachments = content.attachments if isinstance(content, Text) else ()
    return (attachment.source for attachment in attachments if isinstance(attachment.source, Path))


def _changed(source: Path, problem: str | None) -> ConfigurationError:
    return ConfigurationError("attachments", f"cannot copy {str(source)!r}: {problem}")
