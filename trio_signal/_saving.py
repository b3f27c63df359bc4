"""Puts a file that is coming in on the disk: whole and under its name, or not at all.

It is written beside its place, into a file of its own that ends in ``.part``, and gets its name
only once it is complete and on the disk. All work on files is done in threads.
"""

import errno
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import trio

from ._errors import AnswerError, Certainty, ConfigurationError, RequestFailed
from .gateways import Download

#: Told how many bytes have come, and how many it will be where that is known.
OnProgress = Callable[[int, int | None], object]

#: Gather this many bytes before a thread writes them.
_PIECE: Final = 256 * 1024

#: Seconds for clearing away.
_LAST_ACTS: Final = 5.0

#: The longest name made, in bytes; file systems take 255, and ``.part`` files need some.
_MAX_NAME: Final = 200

#: The longest ending that is kept of a name that must be cut, in bytes.
_MAX_ENDING: Final = 20

#: What separates folders, or may not be in a name on Windows.
_SPECIAL: Final = re.compile(r'[<>:"|?*\\/]')

#: Names that are devices on Windows, whatever follows after a dot.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\.|$)", re.IGNORECASE)

#: Errors of a file system that has no hard links, or of a system that forbids them (Android's does: EACCES).
_NO_LINKS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
)


class Place(NamedTuple):
    """Where a file goes.

    Attributes:
        path: what it will be called.
        overwrite: whether it may take the place of another.
    """

    path: Path
    overwrite: bool


async def find_place(path: object, *, names: tuple[str | None, ...], overwrite: bool) -> Place:
    """Find out where a file is to go, before anything is asked for. A checkpoint; cancelling is safe.

    Args:
        path: a file that is to be, or a folder that is there; with a separator at its end only that.
        names: what to call it in a folder: the first that leaves anything once it is made safe.
        overwrite: whether it may take the place of another.

    Raises:
        ConfigurationError: there is something already, no such folder, or it is no path, or too long.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError("path", f"{type(path).__name__} is no path")
    name = os.fsdecode(cast("str | os.PathLike[str]", path))
    if not name or "\0" in name:
        raise ConfigurationError("path", f"{name[:100]!r} is no path")
    return await trio.to_thread.run_sync(_find_place, name, names, overwrite, abandon_on_cancel=True)


async def save(
    download: Download,
    place: Place,
    *,
    size: int | None,
    max_bytes: int,
    on_progress: OnProgress | None,
) -> Path:
    """Write what comes in to its place and return where that is. A checkpoint.

    Cancelled or failed, nothing is left of it; a write that has begun is waited for.

    Args:
        download: what comes in.
        place: where it goes.
        size: how many bytes it must be, where that is known.
        max_bytes: the most that it may be.
        on_progress: told after each piece.

    Raises:
        RequestFailed: too much came, or not all.
        ConfigurationError: another file has got that name meanwhile.
        OSError: it cannot be written.
    """
    part = await trio.to_thread.run_sync(_Part.create, place)
    try:
        expected = download.size if size is None else size
        limit = max_bytes if expected is None else expected
        if limit > max_bytes:
            raise _failed(f"the attachment has {limit} bytes, over {max_bytes} (option max_bytes)")
        async for piece in download:
            await part.add(piece)
            if part.size > limit:
                raise _failed(f"over {limit} bytes came of the attachment")
            if on_progress is not None:
                on_progress(part.size, expected)
        if expected not in (None, part.size):
            raise _failed(f"only {part.size} bytes came of an attachment of {expected}")
        await part.finish()
    finally:
        # Nothing is left to do if it was finished.
        with trio.move_on_after(_LAST_ACTS, shield=True):
            await trio.to_thread.run_sync(part.clear_away, abandon_on_cancel=True)
    return place.path


class _Part:
    """A file that is being written beside its place. Its methods that are not async run in threads."""

    def __init__(self, place: Place, file: BinaryIO, path: Path) -> None:
        self.size = 0
        self._place: Final = place
        self._file: Final = file
        self._path: Final = path
        self._gathered = bytearray()

    @classmethod
    def create(cls, place: Place) -> "_Part":
        """Make one that nobody else may read, under a name that nobody has."""
        try:
            number, name = tempfile.mkstemp(dir=place.path.parent, prefix=".", suffix=".part")
        except OSError as error:
            raise ConfigurationError("path", f"cannot write beside {place.path}: {error.strerror}") from error
        return cls(place, os.fdopen(number, "wb", buffering=0), Path(name))

    async def add(self, piece: bytes) -> None:
        """Take a piece. A checkpoint."""
        await trio.lowlevel.checkpoint()
        self.size += len(piece)
        self._gathered += piece
        if len(self._gathered) >= _PIECE:
            await trio.to_thread.run_sync(self._write)

    async def finish(self) -> None:
        """Write what is left and give the file its name. A checkpoint; cancelled, it has it or not."""
        await trio.to_thread.run_sync(self._finish)

    def clear_away(self) -> None:
        """Close and remove it, if that is still to be done."""
        self._file.close()
        with suppress(FileNotFoundError):
            self._path.unlink()

    def _write(self) -> None:
        # Unbuffered, so that closing it writes nothing more; such a file may take less than it is given.
        rest = memoryview(self._gathered)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._gathered = bytearray()

    def _finish(self) -> None:
        self._write()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._place.overwrite:
            self._path.replace(self._place.path)
        else:
            _name_new(self._path, self._place.path)


def _name_new(part: Path, path: Path) -> None:
    """Give a file a name that nothing has; replacing would not notice what has come there meanwhile."""
    try:
        try:
            path.hardlink_to(part)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Here an empty file keeps the name until the whole one has it.
            path.open("xb").close()
            try:
                part.replace(path)
            except OSError:
                with suppress(OSError):
                    path.unlink()
                raise
        else:
            part.unlink()
    except FileExistsError as error:
        raise _exists(path) from error


def _find_place(name: str, names: tuple[str | None, ...], overwrite: bool) -> Place:  # noqa: FBT001  (run in a thread)
    try:
        return _choose(name, names, overwrite=overwrite)
    except (OSError, UnicodeEncodeError) as error:
        told = error.strerror if isinstance(error, OSError) else error.reason
        raise ConfigurationError("path", f"{name[:100]!r} cannot be one: {told}") from error


def _choose(name: str, names: tuple[str | None, ...], *, overwrite: bool) -> Place:
    path = Path(name)
    if path.is_dir():
        usable = [safe for safe in map(safe_name, names) if safe]
        path = path.joinpath(usable[0] if usable else "attachment")
        if path.is_dir():
            raise ConfigurationError("path", f"{path} is a folder")
    elif os.path.basename(name) in {"", "."}:  # noqa: PTH119  (a Path has forgotten what its end was)
        raise ConfigurationError("path", f"there is no folder {name}")
    if not path.parent.is_dir():
        raise ConfigurationError("path", f"there is no folder {path.parent}")
    if _is_there(path) and not overwrite:
        raise _exists(path)
    return Place(path, overwrite)


def _is_there(path: Path) -> bool:
    """Say whether a name is taken, if only by a link to nowhere. Raises OSError where it cannot be."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError("path", f"there is a {path} already; give another, or overwrite=True")


def safe_name(name: str | None) -> str:
    """Return a name that is nothing but a file's name, on any system; empty if nothing is left of it. Pure.

    What somebody else has called a file may lead out of its folder, hide it, or show another ending.
    """
    last = re.split(r"[\\/]", name or "")[-1]
    plain = "".join(
        "_" if unicodedata.category(character)[0] == "C" else character
        for character in unicodedata.normalize("NFC", last)
    )
    cut = _shorten(_SPECIAL.sub("_", plain).strip(" .").strip())
    return f"_{cut}" if _DEVICE.match(cut) else cut


def _shorten(name: str) -> str:
    """Cut a name that is too long in the middle, so that its ending stays."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    ending = Path(name).suffix
    if len(ending.encode()) > _MAX_ENDING:
        ending = ""
    stem = name.removesuffix(ending).encode()[: _MAX_NAME - len(ending.encode())]
    return stem.decode(errors="ignore").rstrip(" .") + ending


def _failed(problem: str) -> RequestFailed:
    return RequestFailed(AnswerError(problem), Certainty.NOT_SENT)
