"""The store's file: opened for us alone, and one transaction for each batch. Synchronous; knows no Trio.

Theory of operation
===================

The file is an SQLite database in WAL mode: a commit is appended to ``PATH-wal``, from where it goes
into the file itself from time to time. Killed at any moment, the next process finds every batch that
was committed, whole, and nothing of another.

**Opening** does everything in one transaction: it finds out what the file is, looks for damage, creates or
migrates, reads, and marks that a run has begun. Whatever is wrong, nothing of that is committed, and the file
and its WAL stay as they were, byte for byte.

**The lock** is SQLite's own, held from the first look until the end (``locking_mode=EXCLUSIVE``). Being a
POSIX lock it has a trap: it is gone as soon as *any* descriptor of the file is closed in this process,
as by somebody who makes a copy. So there is a second lock (``flock``), bound to one descriptor that is
held as long, and a set of what is open in this process, which is looked at before that descriptor is
made. All this happens in turn, so that none is closed while another store of this process gets its locks.

**Loss of power.** With ``durability="process"`` commits are not waited for, so the last of them may be gone
then, and never one without all after it. That a run has begun is waited for always: where that mark is found
and no mark of an end, and the machine was started since, something may be missing, and the log cannot
go on under its epoch; nor can it in a copy that was brought back (:class:`~._schema.Meta`).
"""

import contextlib
import logging
import os
import random
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from .._errors import StoreDamaged, StoreError, StoreForeign, StoreInUse, StoreTooNew
from . import _schema as schema
from ._batch import Batch, MessageState, Past
from ._problems import damaged, explained, in_use, named, unusable
from ._schema import Durability, Meta

_logger: Final = logging.getLogger("trio_signal.store")

#: Seconds in which a process that is just ending may let go of the file.
_PATIENCE: Final = 0.5

#: Seconds between two looks, drawn at random: two that begin at once would stay in each other's way.
_PAUSE: Final = (0.01, 0.05)

#: The WAL is cut to this many bytes when a large batch has made it larger.
_MAX_WAL: Final = 16 * 1024 * 1024

_SETTINGS: Final = (
    # Before the first look at the file: then the WAL needs no shared memory, and the lock is never let go.
    "locking_mode = EXCLUSIVE",
    # Until the mark of this run is on the disk.
    "synchronous = FULL",
    # macOS has another call for "on the disk"; elsewhere these say nothing.
    "fullfsync = ON",
    "checkpoint_fullfsync = ON",
    # What was deleted is overwritten: a text that was sent is nobody's business any more.
    "secure_delete = ON",
    f"journal_size_limit = {_MAX_WAL}",
    # A damaged file must not run code that somebody has put into its schema, nor lead beyond a page.
    "trusted_schema = OFF",
    "cell_size_check = ON",
)

#: Held while a store's descriptors are opened or closed; see "The lock" above.
_turn: Final = threading.Lock()

#: The device and inode of each store that is open in this process.
_open_here: Final[set[tuple[int, int]]] = set()


class Database:
    """A store's file. Its methods block, and may be called from any thread. Making one does nothing.

    Args:
        path: the file; links are followed.
        durability: ``"full"`` waits for the disk at each commit.
    """

    def __init__(self, path: Path, *, durability: Durability) -> None:
        self._path: Final = path
        self._durability: Final[Durability] = durability
        self._lock: Final = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        #: The descriptor that holds the second lock.
        self._file = -1
        self._place = path
        self._identity = (0, 0)
        self._meta = Meta(account=None)

    def open(self, account: str | None, *, boot: str | None) -> Past:
        """Open the file, or create it, and return what an earlier run left. Waits up to 0.5 s for its lock.

        Args:
            account: whose store it is; None for that of a client that serves all accounts.
            boot: names the start of this machine; None where nothing tells.

        Raises:
            StoreInUse: it is open already, here or in another process.
            StoreDamaged: it cannot be read.
            StoreTooNew: a newer version has written it.
            StoreForeign: it is another account's or another program's.
            StoreFull: the disk is full.
            StoreError: there is no such folder, it may not be written, it is no file.
        """
        with self._lock:
            self._place = _find(self._path)
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    return self._open(account, boot)
                except StoreInUse:
                    if time.monotonic() >= end:
                        raise
                time.sleep(random.uniform(*_PAUSE))  # noqa: S311  (no secret)

    def apply(self, batch: Batch) -> None:
        """Write a batch: all of it, or nothing and an error. Writing it again changes nothing.

        Raises:
            StoreFull: the disk is full.
            StoreError: it cannot be written, is not open, or is no longer where it was.
        """
        with self._lock:
            if self._connection is None:
                raise StoreError(f"the store {named(self._place)} is not open")
            self._write(self._connection, batch, clean=False)

    def close(self, batch: Batch | None = None, *, clean: bool) -> None:
        """Write a last batch and close the file. Does nothing if it is not open.

        Args:
            batch: what is still to be written.
            clean: whether to mark that the run has ended as it should; the batch is then on the disk too.

        Raises:
            StoreFull: the disk is full; what had been written is kept. The file is closed.
            StoreError: it cannot be written, or is no longer where it was. The file is closed.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                if clean or batch is not None:
                    self._write(connection, batch or Batch(), clean=clean)
            finally:
                with _turn:
                    # This moves the WAL into the file and deletes it.
                    connection.close()
                    os.close(self._file)
                    _open_here.discard(self._identity)

    def _open(self, account: str | None, boot: str | None) -> Past:
        with _turn, explained(self._place), contextlib.ExitStack() as stack:
            self._identity = _identity(self._place)
            file = _hold(self._place, self._identity)
            stack.callback(os.close, file)
            # The path is absolute, so SQLite does not take it for a URI, whatever characters it has.
            connection = sqlite3.connect(
                self._place, timeout=0, isolation_level=None, check_same_thread=False
            )
            stack.callback(_leave_as_it_is, connection)
            connection.text_factory = partial(str, encoding="utf-8")
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            try:
                with _transaction(connection):
                    past = self._enter(connection, account, boot)
            except ValueError as error:
                raise damaged(self._place, error) from error
            connection.execute("PRAGMA journal_mode = WAL")
            if self._durability == "process":
                connection.execute("PRAGMA synchronous = NORMAL")
            stack.pop_all()
            _open_here.add(self._identity)
            self._connection, self._file = connection, file
        return past

    def _enter(self, connection: sqlite3.Connection, account: str | None, boot: str | None) -> Past:
        """Check, create or migrate, read, and mark that a run has begun; in a transaction."""
        version = _version(connection, self._place)
        if version:
            _check(connection, self._place)
        for step in schema.MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        if version == 0:
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(schema.PUT_META, schema.meta_row(Meta(account=account)))
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        meta = schema.read_meta(_rows(connection, schema.GET_META))
        _check_owner(self._place, meta.account, account)
        self._meta = meta.begin(durability=self._durability, boot=boot, inode=self._identity[1])
        past = _read(connection, self._meta)
        connection.execute(schema.PUT_META, schema.meta_row(self._meta))
        return past

    def _write(self, connection: sqlite3.Connection, batch: Batch, *, clean: bool) -> None:
        self._check_place()
        meta = msgspec.structs.replace(self._meta.after(batch), clean=clean)
        with explained(self._place), _transaction(connection):
            _write(connection, batch)
            if meta != self._meta:
                connection.execute(schema.PUT_META, schema.meta_row(meta))
        self._meta = meta

    def _check_place(self) -> None:
        """Refuse to write into a file that no next process would find."""
        try:
            found = _identity(self._place)
        except OSError:
            found = None
        if found != self._identity:
            raise StoreError(
                f"the store {named(self._place)} was moved, replaced or deleted while it was open; "
                "put it back"
            )


def _find(path: Path) -> Path:
    """Return where the file really is, creating it if there is none.

    Raises:
        StoreError: there cannot be one, or only a WAL is left of it.
    """
    try:
        place = Path(os.path.realpath(path))
        wal = Path(f"{place}-wal")
        # In this order: there is never a WAL before there is something in the file.
        with _turn:
            left = _size(wal)
            size = _size(place)
            if left and not size:
                raise StoreDamaged(
                    f"there is a {named(wal)}, which belongs to a store that is not there any more: "
                    "bring that back, or move this away"
                )
            if size is None:
                # For its owner alone: it will hold what people write. SQLite gives the WAL the same rights.
                os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            elif not stat.S_ISREG(place.stat().st_mode) or size == 1:
                # SQLite takes one byte for nothing and would write over it.
                raise StoreError(f"{named(place)} is neither a store nor an empty file; name another")
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error
    return place


def _size(path: Path) -> int | None:
    """Return a file's size in bytes; None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _hold(place: Path, identity: tuple[int, int]) -> int:
    """Return a descriptor of the file with the lock that no other descriptor's end can take from it.

    Raises:
        StoreInUse: another has it.
        StoreError: it may not be read.
    """
    if identity in _open_here:
        raise in_use(place)
    try:
        file = os.open(place, os.O_RDONLY)
    except OSError as error:
        raise unusable(place, error) from error
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415  (there is none on Windows)

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise in_use(place) from error
        except OSError as error:
            _logger.debug("The file system of %s knows no flock: %s", named(place), error)
    return file


def _version(connection: sqlite3.Connection, place: Path) -> int:
    """Return which version the file has; 0 if it is empty.

    Raises:
        StoreError: it is not ours, or too new.
    """
    owner, version = _number(connection, "PRAGMA application_id"), _number(connection, "PRAGMA user_version")
    if owner == version == _number(connection, "SELECT count(*) FROM sqlite_master") == 0:
        return 0
    if owner != schema.APPLICATION_ID:
        raise StoreForeign(f"{named(place)} is another program's database; name another file")
    if version > schema.VERSION:
        raise StoreTooNew(
            f"the store {named(place)} has version {version}, written by a newer trio_signal; this one "
            f"knows up to {schema.VERSION}: upgrade it, or name another file"
        )
    if version < 1:
        raise damaged(place, f"it says that its version is {version}")
    return version


def _check(connection: sqlite3.Connection, place: Path) -> None:
    """Have SQLite look at every page.

    Raises:
        StoreDamaged: one makes no sense.
    """
    found = _rows(connection, "PRAGMA quick_check(1)")
    if found != [("ok",)]:
        raise damaged(place, found[0][0])


def _check_owner(place: Path, owner: str | None, account: str | None) -> None:
    if owner != account:
        theirs, ours = (name or "all accounts of a gateway" for name in (owner, account))
        raise StoreForeign(f"the store {named(place)} is that of {theirs}, not of {ours}; name another file")


def _read(connection: sqlite3.Connection, meta: Meta) -> Past:
    messages = schema.read_messages(_rows(connection, schema.GET_MESSAGES))
    return Past(
        messages=messages,
        next_sequence=max(meta.next_sequence, messages[-1].sequence + 1 if messages else 1),
        keys=schema.read_keys(_rows(connection, schema.GET_KEYS)),
        cursor=meta.cursor,
        log=schema.read_log(_rows(connection, schema.GET_LOG), meta),
    )


def _write(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write a batch's rows; in a transaction."""
    messages = batch.messages.values()
    done = [(message.sequence,) for message in messages if message.state is MessageState.DONE]
    struck = [(sequence,) for sequence in batch.struck]
    contents = [schema.content_row(m) for m in messages if m.state is not MessageState.DONE]
    connection.executemany(schema.PUT_MESSAGE, map(schema.message_row, messages))
    connection.executemany(schema.PUT_CONTENT, contents)
    connection.executemany(schema.STRIKE_CONTENT, done + struck)
    connection.executemany(schema.STRIKE_MESSAGE, struck)
    if done:
        connection.execute(schema.TRIM_DONE, (schema.MAX_DONE,))
    if batch.keys:
        connection.executemany(schema.PUT_KEY, ((key,) for key in batch.keys))
        connection.execute(schema.TRIM_KEYS, (schema.MAX_KEYS,))
    connection.executemany(schema.PUT_LOG, map(schema.log_row, batch.log_rows))
    if batch.log_oldest is not None:
        connection.execute(schema.TRIM_LOG, (batch.log_oldest,))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit what the block does, or undo it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _leave_as_it_is(connection: sqlite3.Connection) -> None:
    """Close without moving a WAL that was left behind into the file, which a close does otherwise."""
    connection.interrupt()
    connection.close()


def _rows(connection: sqlite3.Connection, statement: str) -> list[schema.Row]:
    return connection.execute(statement).fetchall()


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])
