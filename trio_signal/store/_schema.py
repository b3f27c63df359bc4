"""The tables of a store, how they came to be, and what their rows say. Pure.

Theory of operation
===================

- ``meta`` has one row, a JSON object: all that there is one of (:class:`Meta`).
- ``outgoing`` has a row for each message, written anew at each step of its life; what it says
  is in ``contents``, written once, since it may be large, and gone once the message is DONE.
- ``taken`` has the keys of received messages in the order in which they were taken.
- ``log`` has the hub's entries.

Each row carries a checksum of what it says. SQLite finds a page that makes no sense, but not a digit
that has become another, and a message must not go to another number because a bit fell over.
Only the keys have none: of a wrong one comes no more than a duplicate.

``user_version`` tells how many of :data:`MIGRATIONS` a file has been through; a new one goes through
all of them. What is in there never changes again: another table or column is another entry.
"""

import zlib
from typing import Final, Literal, TypeVar

import msgspec

from .._continuity import Cursor
from ._batch import Batch, LogPast, LogRow, MessageState, StoredMessage

#: ``"process"``: a commit survives the process. ``"full"``: a loss of power too.
Durability = Literal["process", "full"]

#: Marks the file as ours, for ``file`` and for us: "tsig".
APPLICATION_ID: Final = 0x74736967

#: How many taken keys are kept, and outcomes that nobody has looked at.
MAX_KEYS: Final = 10_000
MAX_DONE: Final = 1_000

MIGRATIONS: Final = (
    (
        """CREATE TABLE meta (
            one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL, sum INTEGER NOT NULL)""",
        """CREATE TABLE outgoing (
            sequence INTEGER PRIMARY KEY, id BLOB NOT NULL, account TEXT, recipient TEXT NOT NULL,
            deadline INTEGER, state INTEGER NOT NULL, begun INTEGER, outcome BLOB, sum INTEGER NOT NULL)""",
        "CREATE INDEX done ON outgoing (sequence) WHERE state = 2",
        "CREATE TABLE contents (sequence INTEGER PRIMARY KEY, content BLOB NOT NULL, sum INTEGER NOT NULL)",
        "CREATE TABLE taken (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE)",
        """CREATE TABLE log (
            sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER NOT NULL)""",
    ),
    ("ALTER TABLE outgoing ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",),
)
VERSION: Final = len(MIGRATIONS)

GET_META: Final = "SELECT value, sum FROM meta"
PUT_META: Final = "INSERT OR REPLACE INTO meta (one, value, sum) VALUES (1, ?, ?)"

GET_MESSAGES: Final = (
    "SELECT sequence, id, account, recipient, deadline, state, begun, outcome, outgoing.sum, attempts,"
    " content, contents.sum FROM outgoing LEFT JOIN contents USING (sequence) ORDER BY sequence"
)
PUT_MESSAGE: Final = (
    "INSERT OR REPLACE INTO outgoing"
    " (sequence, id, account, recipient, deadline, state, begun, outcome, sum, attempts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
#: What is there already is compared and not written again, however large it is.
PUT_CONTENT: Final = (
    "INSERT INTO contents (sequence, content, sum) VALUES (?, ?, ?) ON CONFLICT (sequence)"
    " DO UPDATE SET content = excluded.content, sum = excluded.sum WHERE content <> excluded.content"
)
STRIKE_CONTENT: Final = "DELETE FROM contents WHERE sequence = ?"
STRIKE_MESSAGE: Final = "DELETE FROM outgoing WHERE sequence = ?"
TRIM_DONE: Final = (
    "DELETE FROM outgoing WHERE state = 2 AND sequence <="
    " (SELECT sequence FROM outgoing WHERE state = 2 ORDER BY sequence DESC LIMIT 1 OFFSET ?)"
)

GET_KEYS: Final = "SELECT key FROM taken ORDER BY number"
PUT_KEY: Final = "INSERT OR IGNORE INTO taken (key) VALUES (?)"
TRIM_KEYS: Final = "DELETE FROM taken WHERE number <= (SELECT max(number) FROM taken) - ?"

GET_LOG: Final = "SELECT sequence, time, body, sum FROM log ORDER BY sequence"
PUT_LOG: Final = "INSERT OR REPLACE INTO log (sequence, time, body, sum) VALUES (?, ?, ?, ?)"
TRIM_LOG: Final = "DELETE FROM log WHERE sequence < ?"

_T = TypeVar("_T")

#: A row as SQLite gives or takes it.
Row = tuple[object, ...]

#: What :data:`GET_MESSAGES` and :data:`GET_LOG` give; SQLite itself holds anything in any column.
_MessageRow = tuple[
    int, bytes, str | None, str, int | None, int, int | None, bytes | None, int, int, bytes | None, int | None
]
_LogRow = tuple[int, int, bytes, int]


class Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that there is one of.

    Attributes:
        account: whose store it is; None for that of a client that serves all accounts.
        next_sequence: for the next message: above all that were ever given out.
        cursor: how far the application has come.
        epoch: the name of the log's numbering; None if there never was a log.
        head: the last number of the log.
        clean: whether the last run has ended as it should.
        durability: of the last run.
        boot: names the start of the machine in which the last run began; None where nothing tells.
        inode: of the file in the last run; another means that a copy was brought back.
        is_broken: whether something of the log may be missing since ``epoch`` was drawn. It stays until
            another is, however many runs that takes: no number that was lost may be given out anew.
    """

    account: str | None
    next_sequence: int = 1
    cursor: Cursor | None = None
    epoch: str | None = None
    head: int = 0
    clean: bool = True
    durability: Durability = "full"
    boot: str | None = None
    inode: int | None = None
    is_broken: bool = False

    def after(self, batch: Batch) -> "Meta":
        """Return how things are once a batch is written."""
        newest = max((*batch.messages, *batch.struck), default=0)
        return msgspec.structs.replace(
            self,
            next_sequence=max(self.next_sequence, newest + 1),
            cursor=batch.cursor or self.cursor,
            epoch=self.epoch if batch.log_epoch is None else batch.log_epoch,
            head=batch.log_rows[-1].sequence if batch.log_rows else self.head,
            is_broken=self.is_broken and batch.log_epoch in {None, self.epoch},
        )

    def begin(self, *, durability: Durability, boot: str | None, inode: int) -> "Meta":
        """Return how things are once another run has begun."""
        may_lack_its_end = (
            not self.clean and self.durability != "full" and (boot is None or boot != self.boot)
        )
        is_copy = self.inode not in {None, inode}
        return msgspec.structs.replace(
            self,
            clean=False,
            durability=durability,
            boot=boot,
            inode=inode,
            is_broken=self.is_broken or may_lack_its_end or is_copy,
        )


def checksum(*values: object) -> int:
    """Return a number that another row hardly has."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def meta_row(meta: Meta) -> Row:
    """Return what :data:`PUT_META` takes."""
    value = msgspec.json.encode(meta).decode()
    return value, checksum(value)


def read_meta(rows: list[Row]) -> Meta:
    """Read what :data:`GET_META` gave.

    Raises:
        ValueError: it is damaged.
    """
    ((value, known),) = _convert(rows, list[tuple[str, int]])
    _check(known, value)
    return msgspec.json.decode(value, type=Meta)


def message_row(message: StoredMessage) -> Row:
    """Return what :data:`PUT_MESSAGE` takes."""
    # Nothing says that the caller's id is valid Unicode.
    name = message.id.encode(errors="surrogatepass")
    row = (
        *(message.sequence, name, message.account, message.recipient, message.deadline),
        *(int(message.state), message.begun, message.outcome),
    )
    return *row, checksum(*row), message.attempts


def content_row(message: StoredMessage) -> Row:
    """Return what :data:`PUT_CONTENT` takes."""
    return message.sequence, message.content, checksum(message.sequence, message.content)


def read_messages(rows: list[Row]) -> tuple[StoredMessage, ...]:
    """Read what :data:`GET_MESSAGES` gave.

    Raises:
        ValueError: something is damaged.
    """
    return tuple(_read_message(row) for row in _convert(rows, list[_MessageRow]))


def _read_message(row: _MessageRow) -> StoredMessage:
    *said, known, attempts, content, content_sum = row
    _check(known, *said)
    sequence, name, account, recipient, deadline, state, begun, outcome, *_ = row
    if state == MessageState.DONE:
        content = b""
    elif content is None:
        raise ValueError(f"message {sequence} has no content")
    else:
        _check(content_sum, sequence, content)
    return StoredMessage(
        sequence=sequence,
        id=name.decode(errors="surrogatepass"),
        account=account,
        recipient=recipient,
        content=content,
        deadline=deadline,
        state=MessageState(state),
        begun=begun,
        attempts=attempts,
        outcome=outcome,
    )


def read_keys(rows: list[Row]) -> tuple[bytes, ...]:
    """Read what :data:`GET_KEYS` gave.

    Raises:
        ValueError: something is damaged.
    """
    return tuple(key for (key,) in _convert(rows, list[tuple[bytes]])[-MAX_KEYS:])


def log_row(row: LogRow) -> Row:
    """Return what :data:`PUT_LOG` takes."""
    return row.sequence, row.time, row.body, checksum(row.sequence, row.time, row.body)


def read_log(rows: list[Row], meta: Meta) -> LogPast | None:
    """Read what :data:`GET_LOG` gave; None if there never was a log. The run has begun.

    Raises:
        ValueError: something is damaged.
    """
    read: list[LogRow] = []
    for sequence, time, body, known in _convert(rows, list[_LogRow]):
        _check(known, sequence, time, body)
        read.append(LogRow(sequence, time, body))
    numbers = [row.sequence for row in read]
    if numbers != list(range(meta.head - len(read) + 1, meta.head + 1)):
        raise ValueError("the log has a hole")
    if meta.epoch is None:
        return None
    return LogPast(meta.epoch, meta.head, tuple(read), continues=not meta.is_broken)


def _convert(rows: list[Row], kind: type[list[_T]]) -> list[_T]:
    # Bytes are bytes here, and not base64 in a text as in JSON.
    return msgspec.convert(rows, kind, builtin_types=(bytes,))


def _check(known: int | None, *values: object) -> None:
    if checksum(*values) != known:
        raise ValueError("a row is not what was written")
