"""What survives a kill: accepted messages, the cursor, the duplicate filter, the hub's log.

:class:`Store` says where; :func:`trio_signal.open_signal_client` takes one, or a path alone.
"""

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast

import trio

from .._checks import check_choice
from .._contents import Content
from .._continuity import Cursor
from .._errors import ConfigurationError, StoreError
from .._receiver import WallClock
from ._batch import Batch, Past
from ._codec import decode_content
from ._database import Database
from ._files import FileCopies
from ._journal import StoreJournal
from ._keeper import Keeper, Runner, in_thread, inline
from ._schema import Durability

__all__ = ["AttachmentKeeping", "Durability", "Store", "inline"]

#: Seconds in which the file must be closed at the end.
_LAST_ACTS: Final = 0.5

#: Tells one start of the machine from another (Linux).
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

AttachmentKeeping = Literal["reference", "copy"]


@dataclass(frozen=True, slots=True)
class Store:
    """Where a client keeps what must survive, and how safely.

    The file is an SQLite database (and two more files beside it while it is open), readable by its
    owner alone and not encrypted: it holds the texts of messages that have no outcome yet. One
    client at a time may have it open, on a disk of this machine and not on a network.

    Args:
        path: the file; made if there is none.
        durability: ``"process"``: what was accepted survives a kill of the process at any moment. After
            a loss of power the store is whole, but its last moments may be missing: what was accepted
            then may be lost, what was sent then may be sent again. ``"full"``: nothing is
            missing after a loss of power either, at the price of a wait for the disk at each commit.
        attachments: ``"reference"``: files must stay where they are until the message has its outcome.
            ``"copy"``: they are copied into the folder ``PATH-files`` beside the store.
        run: how work is run that waits for the disk: in a thread. :func:`inline` is for tests on a virtual
            clock, which does not wait for threads.

    Raises:
        ConfigurationError: an argument is wrong; it is named.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    durability: Durability = "process"
    attachments: AttachmentKeeping = "reference"
    run: Runner = in_thread

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ConfigurationError("store.path", f"{self.path!r} is no path of a file")
        check_choice("store.durability", self.durability, Durability)
        check_choice("store.attachments", self.attachments, AttachmentKeeping)
        if not callable(self.run):
            raise ConfigurationError("store.run", f"{type(self.run).__name__} cannot be called")


def as_store(given: object) -> Store | None:
    """Return the store that was meant.

    Raises:
        ConfigurationError: it is neither a store nor a path.
    """
    if given is None or isinstance(given, Store):
        return given
    if isinstance(given, str | os.PathLike):
        return Store(cast("str | os.PathLike[str]", given))
    raise ConfigurationError("store", f"{type(given).__name__} is neither a path nor a Store")


@asynccontextmanager
async def open_journal(
    store: Store, account: str | None, cursor: Cursor | None, wall: WallClock, *, receives: bool
) -> AsyncGenerator[StoreJournal]:
    """Open a store, and close it at the end. Entering is a checkpoint; cancelled, it is not open.

    Args:
        store: where it is.
        account: whose it is; None for that of a client that serves all accounts.
        cursor: how far the application has come, if the store does not know.
        wall: tells the time of day.
        receives: whether anything is received; if not, the cursor stays where it is.

    Raises:
        StoreError: it cannot be used; nothing was changed.
    """
    database, copies = _parts(store)
    found: list[Past] = []
    try:
        first = (Cursor(wall.now()) if cursor is None else cursor) if receives else None
        await store.run(partial(_open, database, account, copies, first, found))
        # Nothing here may hold on to what was found: it may be megabytes, and this frame lives for months.
        past = found.pop()
        keeper = Keeper(database, store.run, past.log)
        journal = StoreJournal(
            keeper, past, cursor=cursor, copies=copies, wall=wall, run=store.run, receives=receives
        )
        del past
        try:
            yield journal
        finally:
            with trio.move_on_after(_LAST_ACTS, shield=True):
                await journal.aclose(in_order=False)
    finally:
        # A cancelled opening may still be busy in its thread; this waits for it, and goes on without us.
        # What is wrong with the disk has been told by then.
        with trio.move_on_after(_LAST_ACTS, shield=True), suppress(StoreError):
            await store.run(partial(database.close, clean=False))


def _parts(store: Store) -> tuple[Database, FileCopies | None]:
    path = Path(store.path).absolute()
    database = Database(path, durability=store.durability)
    if store.attachments == "reference":
        return database, None
    folder = path.with_name(path.name + "-files")
    return database, FileCopies(folder, durable=store.durability == "full")


def _open(
    database: Database,
    account: str | None,
    copies: FileCopies | None,
    first: Cursor | None,
    found: list[Past],
) -> None:
    past = database.open(account, boot=_boot_id())
    if past.cursor is None and first is not None:
        # Before anything can come: what a first process receives and then is killed over is no first time any
        # more for the next one, which must tell what is missing.
        database.apply(Batch(cursor=first))
    if copies is not None:
        copies.clean(_contents(past))
    found.append(past)


def _contents(past: Past) -> Iterator[Content]:
    """Yield what waits; what cannot be read is reported later, and has no copies that could be found."""
    for stored in past.messages:
        if stored.content:
            with suppress(ValueError):
                yield decode_content(stored.content)


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None
