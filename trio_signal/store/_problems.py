"""What can go wrong with a store's file, in words that say what to do about it."""

import contextlib
import errno
import sqlite3
from collections.abc import Generator
from pathlib import Path

from .._errors import StoreDamaged, StoreError, StoreFull, StoreInUse


def named(path: Path) -> str:
    """Return a path as text that can always be printed."""
    return repr(str(path))


@contextlib.contextmanager
def explained(place: Path) -> Generator[None]:
    """Turn what SQLite raises in the block into a StoreError."""
    try:
        yield
    except sqlite3.ProgrammingError:
        # A mistake of ours, and none that SQLite has found.
        raise
    except sqlite3.Error as error:
        raise _explain(place, error) from error
    except UnicodeDecodeError as error:
        # SQLite told of a damage in the words of the damaged place.
        raise damaged(place, error) from error


def _explain(place: Path, error: sqlite3.Error) -> StoreError:
    code = error.sqlite_errorcode
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return in_use(place)
        case sqlite3.SQLITE_FULL:
            return _full(place)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            if code not in {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}:
                return StoreError(
                    f"the store {named(place)} cannot be read or written ({error}): look for who may write "
                    "to it and to its folder, for a quota, and for a failing disk"
                )
        case _:
            pass
    return damaged(place, error)


def in_use(place: Path) -> StoreInUse:
    """Return the error for a store that another has open."""
    return StoreInUse(
        f"the store {named(place)} is open already, in another process or in another client of this one; "
        "close that, or name another file"
    )


def unusable(path: Path, error: OSError | ValueError) -> StoreError:
    """Return the error for what the system says of a path."""
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return _full(path)
    if number == errno.ENOENT:
        return StoreError(
            f"there is no folder {named(path.parent)} for a store; make it, or name another file"
        )
    told = error.strerror if isinstance(error, OSError) else error
    return StoreError(f"{named(path)} cannot be a store ({told}); name another file")


def _full(place: Path) -> StoreFull:
    return StoreFull(
        f"the disk has no room for the store {named(place)}; make some and try again: "
        "what was written is kept"
    )


def damaged(place: Path, told: object) -> StoreDamaged:
    """Return the error for a store that cannot be read."""
    return StoreDamaged(
        f"the store {named(place)} is damaged, or no store ({told}); nothing was changed: move it away, "
        "or bring a copy back"
    )
