"""Stores that are killed: what is on the disk at one moment, as a process that comes later finds it."""

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from trio_signal import Store
from trio_signal.store import _schema as schema
from trio_signal.store import inline


class KilledStore:
    """A store whose process can be killed at any moment, inside one process.

    Whoever has it open goes on with the files that it has; the next process finds a copy of them as they
    were at the moment of the kill, which is what a killed process leaves.

    Args:
        folder: where the files are.
        options: options of the :class:`Store`.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder: Final = folder
        self._options: Final[dict[str, Any]] = {"run": inline} | options
        self._numbers: Final = itertools.count()
        self.store = self._next()

    def kill(self) -> Store:
        """Return the store as the next process finds it."""
        before, self.store = self.path, self._next()
        for suffix in ("", "-wal"):
            if (part := before.with_name(before.name + suffix)).exists():
                shutil.copyfile(part, self.path.with_name(self.path.name + suffix))
        if self.path.exists():
            _take_for_the_same(self.path)
        return self.store

    def lose(self) -> None:
        """Have the next process find nothing."""
        self.store = self._next()

    @property
    def path(self) -> Path:
        """Where its file is now."""
        return Path(self.store.path)

    def _next(self) -> Store:
        return Store(self._folder / f"bot-{next(self._numbers)}.db", **self._options)


def _take_for_the_same(path: Path) -> None:
    """Have a copy pass for its original; the hub would take it for an older one brought back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        meta = schema.read_meta(connection.execute(schema.GET_META).fetchall())
        own = msgspec.structs.replace(meta, inode=path.stat().st_ino)
        connection.execute(schema.PUT_META, schema.meta_row(own))
