"""The store's file: killed, copied, cut, bent, full, in use, foreign, old and new."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

import pytest

from trio_signal import (
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreInUse,
    StoreTooNew,
)
from trio_signal._continuity import Cursor
from trio_signal.store import _schema as schema
from trio_signal.store._batch import Batch, LogPast, LogRow, MessageState, Past, StoredMessage
from trio_signal.store._database import Database
from trio_signal.store._schema import Durability

ROOT: Final = Path(__file__).parents[1]
ACCOUNT: Final = "+15550100"
PEER: Final = "+15550101"
BOOT: Final = "one start of the machine"
NAMES: Final = (
    *(
        "plain.db",
        "file:x?mode=ro",
        "what?.db",
        "a#b.db",
        "100%.db",
        "%41.db",
        "two\nlines",
        "'; --",
        "café.db",
    ),
    *(":memory:", os.fsdecode(b"\xff\xfe.db")),
)


def message(sequence: int, **more: Any) -> StoredMessage:
    given: dict[str, Any] = {"account": None, "recipient": PEER, "content": b"content %d" % sequence}
    return StoredMessage(sequence, f"id {sequence}", **given | more)


def done(sequence: int) -> StoredMessage:
    return message(sequence, content=b"", state=MessageState.DONE, outcome=b"sent", begun=5, attempts=1)


def batch(*messages: StoredMessage, **more: Any) -> Batch:
    return Batch({one.sequence: one for one in messages}, **more)


def opened(
    path: Path, durability: Durability = "process", *, boot: str | None = BOOT
) -> tuple[Database, Past]:
    database = Database(path, durability=durability)
    return database, database.open(ACCOUNT, boot=boot)


def past_of(path: Path, *, boot: str | None = BOOT) -> Past:
    """Return what the store holds; it is closed again."""
    database, past = opened(path, boot=boot)
    database.close(clean=False)
    return past


def filled(path: Path, *batches: Batch, clean: bool = True) -> Path:
    """Make a store that holds what batches say; not clean, it is left as a kill leaves it."""
    database, _ = opened(path)
    for one in batches:
        database.apply(one)
    if clean:
        database.close(clean=True)
        return path
    target = path.with_name("killed") / path.name
    target.parent.mkdir()
    copy_files(path, target)
    database.close(clean=False)
    return target


def copy_files(source: Path, target: Path) -> None:
    for end in ("", "-wal", "-journal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{source}{end}", f"{target}{end}")


def bytes_of(path: Path) -> dict[str, bytes]:
    """Return all that lies around a store."""
    return {other.name: other.read_bytes() for other in path.parent.iterdir() if other.is_file()}


SOME: Final = batch(
    message(1, deadline=10**12, account=ACCOUNT),
    message(2, state=MessageState.WRITING, begun=7, attempts=3),
    done(3),
    keys=[b"k" * 16, b"l" * 16],
    cursor=Cursor(5, "there", 9),
    log_epoch="here",
    log_rows=[LogRow(1, 11, b"{}"), LogRow(2, 12, b'{"a":1}')],
)


# --- What was written is there ---


@pytest.mark.threat("T11")
def test_a_new_store_is_empty_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, past = opened(path)
    assert past == Past((), 1, (), None, None)
    database.apply(Batch())
    database.apply(Batch(cursor=Cursor(5)))
    assert sorted(bytes_of(path)) == ["bot.db", "bot.db-wal"]
    assert {stat.S_IMODE(other.stat().st_mode) for other in tmp_path.iterdir()} == {0o600}
    database.close(clean=True)
    assert sorted(bytes_of(path)) == ["bot.db"]
    assert past_of(path) == replace(past, cursor=Cursor(5))


@pytest.mark.contract("D1")
@pytest.mark.parametrize("durability", ["process", "full"])
@pytest.mark.parametrize("clean", [True, False])
def test_what_was_written_is_there_in_the_next_process(
    tmp_path: Path, durability: Durability, clean: bool
) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path, durability)
    database.apply(SOME)
    database.apply(batch(message(2, state=MessageState.WAITING, attempts=4), struck={1}, keys=[b"m" * 16]))
    rows = [LogRow(3, 13, b"[]")]
    database.close(Batch(log_rows=rows, log_oldest=2, cursor=Cursor(6)), clean=clean)
    log = LogPast("here", 3, (LogRow(2, 12, b'{"a":1}'), *rows), continues=True)
    keys = (b"k" * 16, b"l" * 16, b"m" * 16)
    messages = (message(2, attempts=4), done(3))
    assert past_of(path) == Past(messages, 4, keys, Cursor(6), log)


@pytest.mark.parametrize(
    "text", ["", "two\nlines", "NUL \0 in it", "👋", "half \ud83d of one", "'; DROP TABLE"]
)
def test_every_id_survives(tmp_path: Path, text: str) -> None:
    one = replace(message(1), id=text)
    assert past_of(filled(tmp_path / "bot.db", batch(one))).messages == (one,)


@pytest.mark.contract("D1")
def test_a_batch_that_is_written_twice_is_as_one_that_is_written_once(tmp_path: Path) -> None:
    later = batch(done(1), message(4), struck={2, 9}, keys=[b"m" * 16, b"k" * 16], log_oldest=2)
    once = past_of(filled(tmp_path / "once.db", SOME, later))
    twice = past_of(filled(tmp_path / "twice.db", SOME, SOME, later, later))
    assert once == twice
    assert once.next_sequence == 10
    assert [one.sequence for one in once.messages] == [1, 3, 4]


def test_no_number_is_ever_given_out_twice(tmp_path: Path) -> None:
    path = filled(tmp_path / "bot.db", batch(message(1), message(7)), Batch(struck={1, 7}))
    assert past_of(path).next_sequence == 8
    filled(path, Batch(struck={12}), batch(message(8)))
    assert past_of(path).next_sequence == 13


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    keys = [number.to_bytes(16) for number in range(10_700)]
    path = filled(
        tmp_path / "bot.db",
        batch(message(1), *map(done, range(2, 1_102)), keys=keys[:600], log_epoch="e"),
        batch(keys=keys[600:], log_rows=[LogRow(number, 1, b"{}") for number in range(1, 50)]),
        Batch(log_oldest=50),
    )
    past = past_of(path)
    # The oldest outcomes go; what has none stays.
    assert [one.sequence for one in past.messages] == [1, *range(102, 1_102)]
    assert past.keys == tuple(keys[-10_000:])
    assert past.log == LogPast("e", 49, (), continues=True)


def test_a_text_that_was_sent_does_not_stay_in_the_file(tmp_path: Path) -> None:
    secret = b"nobody's business " * 1_000
    path = filled(tmp_path / "bot.db", batch(message(1, content=secret)), batch(done(1)))
    assert b"nobody's business" not in path.read_bytes()


def test_a_large_text_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    large = message(1, content=os.urandom(1_000_000))
    database.apply(batch(large))
    before = Path(f"{path}-wal").stat().st_size
    for attempts in range(20):
        database.apply(batch(replace(large, state=MessageState.WRITING, begun=attempts, attempts=attempts)))
    assert Path(f"{path}-wal").stat().st_size - before < 500_000
    database.close(batch(replace(large, content=b"other")), clean=True)
    assert past_of(path).messages == (replace(large, content=b"other"),)


# --- Opening and closing ---


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_a_path_whatever_is_in_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = filled(Path(name), SOME)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert past_of(tmp_path / path).next_sequence == 4


def test_an_empty_file_may_become_a_store(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    path.touch(mode=0o644)
    assert past_of(filled(path, SOME)).next_sequence == 4


def test_a_store_that_was_begun_and_not_finished_is_finished(tmp_path: Path) -> None:
    """As a kill leaves it that came before the first commit."""
    path = tmp_path / "bot.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    assert path.stat().st_size
    assert past_of(filled(path, SOME)).next_sequence == 4


def test_making_one_does_nothing_and_closing_twice_neither(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database = Database(path, durability="process")
    database.close(clean=True)
    assert not path.exists()
    with pytest.raises(StoreError, match="is not open"):
        database.apply(Batch())
    database.open(ACCOUNT, boot=BOOT)
    database.close(SOME, clean=True)
    database.close(SOME, clean=True)
    with pytest.raises(StoreError, match="is not open"):
        database.apply(Batch())
    assert database.open(ACCOUNT, boot=BOOT).next_sequence == 4
    database.close(clean=False)


def test_a_link_leads_to_the_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "bot.db"
    link.symlink_to(tmp_path / "real" / "store.db")
    killed, _ = opened(link)
    killed.apply(SOME)
    assert sorted(bytes_of(tmp_path / "real" / "store.db")) == ["store.db", "store.db-wal"]
    killed.close(clean=False)
    assert past_of(tmp_path / "real" / "store.db").next_sequence == 4


def test_any_thread_may_write(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    failures: list[Exception] = []

    def write(first: int) -> None:
        try:
            for sequence in range(first, first + 50):
                database.apply(batch(message(sequence)))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 51, 101, 151)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close(clean=True)
    assert not failures
    assert [one.sequence for one in past_of(path).messages] == [*range(1, 201)]


# --- Loss of power ---


@pytest.mark.contract("D1", "H3")
@pytest.mark.parametrize(
    ("durability", "clean", "next_boot", "continues"),
    [
        ("process", True, "another", True),
        ("process", True, None, True),
        ("process", False, BOOT, True),
        ("process", False, "another", False),
        ("process", False, None, False),
        ("full", False, "another", True),
        ("full", False, None, True),
    ],
)
def test_a_log_goes_on_unless_its_end_may_be_missing(
    tmp_path: Path, durability: Durability, clean: bool, next_boot: str | None, continues: bool
) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path, durability)
    database.apply(SOME)
    database.close(clean=clean)
    log = past_of(path, boot=next_boot).log
    assert log is not None
    assert log.continues is continues


@pytest.mark.contract("H3")
def test_a_machine_that_nothing_names_may_have_been_started_since(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path, boot=None)
    database.apply(SOME)
    database.close(clean=False)
    log = past_of(path, boot=None).log
    assert log is not None
    assert not log.continues


@pytest.mark.contract("H3")
def test_a_log_that_lost_its_end_stays_broken_until_it_has_another_epoch(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    database.apply(SOME)
    database.close(clean=False)

    def continues(*batches: Batch, boot: str) -> bool:
        client, past = opened(path, boot=boot)
        for one in batches:
            client.apply(one)
        client.close(clean=True)
        assert past.log is not None
        return past.log.continues

    # Once it may have been lost, no number of runs that draw no epoch, and no clean end, brings it back.
    assert not continues(boot="another")
    assert not continues(Batch(cursor=Cursor(9)), boot="another")
    assert not continues(Batch(log_epoch="here"), boot="another")
    assert not continues(Batch(log_epoch="new", log_rows=[LogRow(3, 13, b"{}")]), boot="another")
    assert continues(boot="another")
    assert continues(boot="a third")


@pytest.mark.contract("H3")
@pytest.mark.parametrize("durability", ["process", "full"])
def test_the_log_of_a_copy_that_was_brought_back_does_not_go_on(
    tmp_path: Path, durability: Durability
) -> None:
    path, copy = tmp_path / "bot.db", tmp_path / "copy.db"
    database, _ = opened(path, durability)
    database.close(SOME, clean=True)
    shutil.copyfile(path, copy)
    database.open(ACCOUNT, boot=BOOT)
    database.close(Batch(log_rows=[LogRow(3, 13, b"{}")]), clean=True)
    copy.replace(path)
    log = past_of(path).log
    assert log is not None
    assert (log.head, log.continues) == (2, False)


@pytest.mark.contract("H3")
def test_a_run_that_left_nothing_else_behind_has_left_its_mark(tmp_path: Path) -> None:
    """The mark of a beginning is on the disk before anything of the run is, so it alone may be left."""
    path = filled(tmp_path / "bot.db", SOME)
    database, _ = opened(path)
    lost = tmp_path / "lost" / "bot.db"
    lost.parent.mkdir()
    copy_files(path, lost)
    database.apply(Batch(log_rows=[LogRow(3, 13, b"{}")]))
    database.close(clean=True)
    # Into the same file: one that was copied is known by that already.
    copy_files(lost, path)
    log = past_of(path, boot="another").log
    assert log is not None
    assert (log.head, log.continues) == (2, False)


@pytest.mark.contract("H3")
def test_a_log_in_which_nothing_was_numbered_yet_has_its_name(tmp_path: Path) -> None:
    path = filled(tmp_path / "bot.db", Batch(log_epoch="here"))
    assert past_of(path) == Past((), 1, (), None, LogPast("here", 0, (), continues=True))


# --- Killed at any moment ---


def some_batches(seed: int, count: int) -> Iterator[Batch]:
    """Yield what a busy client writes: the same for the same seed."""
    draw = random.Random(seed)
    alive: dict[int, StoredMessage] = {}
    following = head = 1
    for number in range(count):
        one = Batch(cursor=Cursor(number), keys=[draw.randbytes(16) for _ in range(draw.randrange(4))])
        for _ in range(draw.randrange(3)):
            alive[following] = one.messages[following] = message(following, content=draw.randbytes(3_000))
            following += 1
        for sequence in draw.sample(sorted(alive), min(len(alive), 2)):
            known = alive[sequence]
            if known.state is MessageState.DONE:
                one.messages.pop(sequence, None)
                one.struck.add(sequence)
                del alive[sequence]
            else:
                alive[sequence] = one.messages[sequence] = (
                    done(sequence)
                    if known.state is MessageState.WRITING
                    else replace(known, state=MessageState.WRITING, begun=number, attempts=1)
                )
        size = draw.choice((10, 2_000, 30_000))
        one.log_epoch = "epoch"
        one.log_rows = [LogRow(head + n, number, draw.randbytes(size)) for n in range(draw.randrange(4))]
        head += len(one.log_rows)
        one.log_oldest = max(1, head - 20)
        yield one


def model(batches: Iterator[Batch]) -> Iterator[Past]:
    """Yield what must be there before the first batch, after it, and after each further one."""
    messages: dict[int, StoredMessage] = {}
    keys: list[bytes] = []
    past = Past((), 1, (), None, None)
    yield past
    for one in batches:
        messages |= one.messages
        messages = {sequence: known for sequence, known in messages.items() if sequence not in one.struck}
        keys += one.keys
        rows = (*(past.log.rows if past.log else ()), *one.log_rows)
        head = rows[-1].sequence if rows else 0
        rows = tuple(row for row in rows if one.log_oldest is None or row.sequence >= one.log_oldest)
        past = Past(
            tuple(messages[sequence] for sequence in sorted(messages)),
            max(past.next_sequence, *(sequence + 1 for sequence in (*one.messages, *one.struck, 0))),
            tuple(keys),
            one.cursor,
            LogPast(one.log_epoch or "", head, rows, continues=True),
        )
        yield past


def as_if_it_went_on(past: Past) -> Past:
    """Return a past whose log goes on: what was looked at was a copy, whose log does not."""
    return past if past.log is None else replace(past, log=replace(past.log, continues=True))


WRITER: Final = """
import sys
from pathlib import Path
from tests.test_store_database import opened, some_batches

database, _ = opened(Path(sys.argv[1]))
print("open", flush=True)
for one in some_batches(int(sys.argv[2]), int(sys.argv[3])):
    database.apply(one)
    print(flush=True)
sys.stdin.read()
"""


def stopped_at_random(path: Path, seed: int, *, batches: int, looks: int) -> Iterator[tuple[Path, int]]:
    """Stop a process that writes at random moments, and kill it; yield what is on the disk, and what it told.

    A stopped process lies between two system calls, or within one, and nothing of it goes on: what
    its files hold is what a kill at that moment would leave.
    """
    command = [sys.executable, "-c", WRITER, str(path), str(seed), str(batches)]
    draw = random.Random(seed)
    # Killed while it writes down what was covered, it would leave a file that nobody can read.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, env=env) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            os.set_blocking(process.stdout.fileno(), False)
            told = 0
            for look in range(looks):
                threading.Event().wait(draw.uniform(0, 0.01))
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                os.waitpid(process.pid, os.WUNTRACED)
                told += count_lines(process.stdout)
                target = path.with_name(f"look {look}") / path.name
                target.parent.mkdir()
                copy_files(path, target)
                process.send_signal(signal.SIGCONT)
                yield target, told
            with pytest.raises(StoreInUse):
                opened(path)
            process.kill()
            process.wait()
            yield path, told + count_lines(process.stdout)
        finally:
            process.kill()


def count_lines(pipe: IO[bytes]) -> int:
    lines = 0
    while data := pipe.read(65_536):
        lines += data.count(b"\n")
    return lines


@pytest.mark.contract("D1")
def test_killed_at_any_moment_the_file_holds_what_was_told_and_at_most_one_batch_more(
    tmp_path: Path,
) -> None:
    assert [*filter(None, check_stops(tmp_path, seed=5, looks=25))] == []


def check_stops(folder: Path, *, seed: int, looks: int) -> Iterator[str | None]:
    """Yield an item for each look at a process that writes: a text where the file held something else."""
    known = [*model(some_batches(seed, 500))]
    for path, told in stopped_at_random(folder / "bot.db", seed, batches=500, looks=looks):
        found = as_if_it_went_on(past_of(path))
        yield None if found in known[told : told + 2] else f"seed {seed}: not what {told} batches leave"


@pytest.mark.contract("D1")
def test_a_wal_that_ends_anywhere_holds_the_batches_before_that_whole(tmp_path: Path) -> None:
    """As after a loss of power: the end is missing, in the middle of a page too."""
    batches = [*some_batches(7, 25)]
    known = [*model(iter(batches))]
    path = filled(tmp_path / "bot.db", *batches, clean=False)
    data, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    draw = random.Random(7)
    last = 0
    for cut in sorted(draw.sample(range(len(wal) + 1), 40)):
        path.write_bytes(data)
        Path(f"{path}-wal").write_bytes(wal[:cut])
        found = past_of(path, boot=BOOT)
        number = known.index(as_if_it_went_on(found))
        assert number >= last
        last = number
    assert last > 0


# --- Somebody else's ---


OPENER: Final = """
import sys
from pathlib import Path
from tests.test_store_database import opened
for path in sys.argv[1:]:
    try:
        opened(Path(path))
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.mark.contract("D2")
@pytest.mark.parametrize("by", ["path", "symbolic link", "hard link"])
def test_a_store_in_use_is_left_alone(tmp_path: Path, by: str) -> None:
    path = tmp_path / "bot.db"
    other = {"path": path, "symbolic link": tmp_path / "link", "hard link": tmp_path / "hard"}[by]
    database, _ = opened(path)
    database.apply(SOME)
    if by == "symbolic link":
        other.symlink_to(path)
    elif by == "hard link":
        other.hardlink_to(path)
    before = bytes_of(path)
    client = database if by == "path" else Database(other, durability="full")
    with pytest.raises(StoreInUse, match="is open already"):
        client.open(ACCOUNT, boot=BOOT)
    assert bytes_of(path) == before
    database.apply(batch(message(4)))
    database.close(clean=True)
    assert past_of(path).next_sequence == 5


@pytest.mark.contract("D2")
def test_a_store_that_was_read_by_its_own_process_is_still_closed_to_others(tmp_path: Path) -> None:
    """The end of any descriptor takes all of a process's POSIX locks from a file, and so SQLite's."""
    path = tmp_path / "bot.db"
    hard = tmp_path / "hard"
    database, _ = opened(path)
    database.apply(SOME)
    hard.hardlink_to(path)
    before = bytes_of(path)
    command = [sys.executable, "-c", OPENER, str(path), str(hard)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.split() == ["StoreInUse"] * 2
    assert bytes_of(path) == before
    database.close(clean=True)


@pytest.mark.contract("D2")
def test_another_program_that_reads_the_store_is_no_reason_to_share_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "bot.db", SOME)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreInUse):
            opened(path)
    assert past_of(path).next_sequence == 4


def test_of_many_that_open_at_once_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    ready = threading.Barrier(4)
    got: list[Database] = []
    refused: list[StoreError] = []

    def race() -> None:
        database = Database(path, durability="process")
        ready.wait()
        try:
            database.open(ACCOUNT, boot=BOOT)
            got.append(database)
        except StoreError as error:
            refused.append(error)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert [type(error) for error in refused] == [StoreInUse] * 3
    got[0].close(SOME, clean=True)
    assert past_of(path).next_sequence == 4


@pytest.mark.threat("T15")
@pytest.mark.contract("D2")
@pytest.mark.parametrize("clean", [True, False])
def test_another_accounts_store_is_left_alone(tmp_path: Path, clean: bool) -> None:
    path = filled(tmp_path / "bot.db", SOME, clean=clean)
    before = bytes_of(path)
    for account in (PEER, None):
        with pytest.raises(StoreForeign, match=rf"is that of \{ACCOUNT}, not of"):
            Database(path, durability="full").open(account, boot=BOOT)
    assert bytes_of(path) == before
    assert past_of(path).next_sequence == 4


@pytest.mark.threat("T15")
@pytest.mark.contract("D2")
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("mark", ["", "PRAGMA application_id = 5", "PRAGMA user_version = 2"])
def test_another_programs_database_is_left_alone(tmp_path: Path, mode: str, mark: str) -> None:
    original, path = tmp_path / "original.db", tmp_path / "there" / "bot.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(original, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE meta (value TEXT)")
        connection.execute("INSERT INTO meta VALUES ('theirs')")
        connection.execute(mark)
        copy_files(original, path)
    before = bytes_of(path)
    with pytest.raises(StoreForeign, match="another program's database"):
        opened(path)
    assert bytes_of(path) == before


@pytest.mark.threat("T15")
@pytest.mark.contract("D2")
@pytest.mark.parametrize("clean", [True, False])
def test_a_newer_store_is_left_alone(tmp_path: Path, clean: bool) -> None:
    path = filled(tmp_path / "bot.db", SOME)
    database = Database(path, durability="process")
    database.open(ACCOUNT, boot=BOOT)
    assert database._connection is not None
    database._connection.execute("CREATE TABLE news (what)")
    database._connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    newer = path
    if clean:
        database.close(clean=True)
    else:
        newer = tmp_path / "killed" / "bot.db"
        newer.parent.mkdir()
        copy_files(path, newer)
        database.close(clean=False)
    before = bytes_of(newer)
    with pytest.raises(
        StoreTooNew, match=f"has version {schema.VERSION + 1}, .*up to {schema.VERSION}: upgrade"
    ):
        opened(newer)
    assert bytes_of(newer) == before


# --- An older version's ---

#: As version 1 wrote it: recorded, so not made from today's statements.
VERSION_1: Final = """
PRAGMA application_id = 1953720679;
PRAGMA user_version = 1;
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE outgoing (
    sequence INTEGER PRIMARY KEY, id BLOB NOT NULL, account TEXT, recipient TEXT NOT NULL,
    deadline INTEGER, state INTEGER NOT NULL, begun INTEGER, outcome BLOB, sum INTEGER NOT NULL);
CREATE INDEX done ON outgoing (sequence) WHERE state = 2;
CREATE TABLE contents (sequence INTEGER PRIMARY KEY, content BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE taken (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER NOT NULL);
"""


def version_1(path: Path) -> None:
    """Build a store of version 1 with one of each."""
    value = (
        '{"account":"+15550100","next_sequence":4,"cursor":{"time":5,"epoch":"there","sequence":9},'
        '"epoch":"here","head":1,"clean":true,"durability":"process","boot":"old"}'
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(VERSION_1)
        connection.execute("INSERT INTO meta VALUES (1, ?, ?)", (value, 0))
        connection.execute(
            "INSERT INTO outgoing VALUES (3, x'616263', NULL, '+15550101', NULL, 1, 7, NULL, 0)"
        )
        connection.execute("INSERT INTO contents VALUES (3, x'80', 0)")
        connection.execute("INSERT INTO taken VALUES (8, x'0102')")
        connection.execute("INSERT INTO log VALUES (1, 11, x'7b7d', 0)")
        for table, columns in (
            ("meta", "value"),
            ("outgoing", "sequence, id, account, recipient, deadline, state, begun, outcome"),
            ("contents", "sequence, content"),
            ("log", "sequence, time, body"),
        ):
            row = connection.execute(f"SELECT {columns} FROM {table}").fetchone()  # noqa: S608
            connection.execute(f"UPDATE {table} SET sum = ?", (schema.checksum(*row),))  # noqa: S608


def test_a_store_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    version_1(path)
    database, past = opened(path, boot="another")
    one = StoredMessage(3, "abc", None, PEER, b"\x80", state=MessageState.WRITING, begun=7)
    log = LogPast("here", 1, (LogRow(1, 11, b"{}"),), continues=True)
    assert past == Past((one,), 4, (b"\1\2",), Cursor(5, "there", 9), log)
    database.apply(batch(replace(one, attempts=5)))
    database.close(clean=True)
    assert past_of(path).messages == (replace(one, attempts=5),)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_the_tables_of_version_1_are_what_it_wrote() -> None:
    def tables(statements: str) -> list[Any]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(statements)
            return connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()

    def without_blanks(found: list[Any]) -> list[Any]:
        return [(kind, name, sql and "".join(sql.split())) for kind, name, sql in found]

    assert without_blanks(tables(";".join(schema.MIGRATIONS[0]))) == without_blanks(tables(VERSION_1))


@pytest.mark.contract("D2")
def test_a_damaged_store_of_version_1_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    version_1(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE outgoing SET recipient = '+15550102'")
    before = bytes_of(path)
    with pytest.raises(StoreDamaged):
        opened(path)
    assert bytes_of(path) == before


# --- What cannot be a store ---


PATHS: Final = {
    "device": "/dev/null",
    "no folder": "no/bot.db",
    "below a file": "bot.db/bot.db",
    "too long": "x" * 300,
    "NUL": "a\0b",
    "kernel's": "/proc/bot.db",
}
TEXTS: Final = {
    "below a file": "x",
    "text": "This is no database. " * 500,
    "short text": "xy",
    "one byte": "x",
    "emptied": "",
}


def in_the_way(folder: Path, kind: str) -> Path:
    """Put something where a store is to be; return where that is."""
    path = folder / "bot.db"
    if kind in TEXTS:
        path.write_text(TEXTS[kind], encoding="utf-8")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path)
    elif kind in {"left behind", "emptied"}:
        Path(f"{path}-wal").write_bytes(b"all that is left")
    return folder / PATHS.get(kind, "bot.db")


@pytest.mark.contract("D2")
@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("folder", StoreError, "is neither a store"),
        ("pipe", StoreError, "is neither a store"),
        ("device", StoreError, "is neither a store"),
        ("no folder", StoreError, "there is no folder .*; make it"),
        ("below a file", StoreError, "cannot be a store"),
        ("circle", StoreError, "cannot be a store"),
        ("too long", StoreError, "cannot be a store"),
        ("NUL", StoreError, "cannot be a store"),
        ("kernel's", StoreError, "name another file"),
        ("text", StoreDamaged, "damaged, or no store"),
        ("short text", StoreDamaged, "damaged, or no store"),
        ("one byte", StoreError, "is neither a store nor an empty file"),
        ("left behind", StoreDamaged, "there is a .*-wal.*belongs to a store that is not there"),
        ("emptied", StoreDamaged, "there is a .*-wal.*belongs to a store that is not there"),
    ],
)
def test_what_cannot_be_a_store_is_a_clear_error(
    tmp_path: Path, kind: str, error: type[StoreError], told: str
) -> None:
    path = in_the_way(tmp_path, kind)
    before = bytes_of(tmp_path / "x")
    with pytest.raises(error, match=told) as caught:
        opened(path)
    assert type(caught.value) is error
    str(caught.value).encode()
    assert bytes_of(tmp_path / "x") == before


@contextmanager
def as_nobody() -> Generator[None]:
    """Have this process be somebody who may nothing, if it is root; root may write everywhere."""
    if os.getuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        os.setegid(os.getgid())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder to which anybody may go; those of pytest are closed."""
    with tempfile.TemporaryDirectory(prefix="store-") as name:
        yield Path(name)
        Path(name).chmod(0o700)


@pytest.mark.contract("D2")
@pytest.mark.parametrize("what", ["folder", "new in folder", "file", "unreadable"])
def test_what_may_not_be_written_is_a_clear_error(open_folder: Path, what: str) -> None:
    path = open_folder / "bot.db"
    if what != "new in folder":
        filled(path, SOME)
        path.chmod({"folder": 0o666, "file": 0o444}.get(what, 0))
    open_folder.chmod(0o777 if what == "file" else 0o555)
    with as_nobody(), pytest.raises(StoreError, match="look for who may write|Permission denied") as caught:
        opened(path)
    assert type(caught.value) is StoreError
    assert repr(str(path)) in str(caught.value)
    open_folder.chmod(0o700)
    if path.exists():
        path.chmod(0o600)
        assert past_of(path).next_sequence == 4


# --- A full disk ---


@pytest.mark.contract("D2")
@pytest.mark.parametrize("durability", ["process", "full"])
def test_a_full_disk_is_an_error_at_that_call_and_what_was_there_stays(
    tmp_path: Path, durability: Durability
) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path, durability)
    database.apply(SOME)
    connection = database._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    large = batch(message(4), message(5, content=os.urandom(100_000)), struck={1}, cursor=Cursor(99))
    for _ in range(3):
        with pytest.raises(StoreFull, match="no room .* make some and try again"):
            database.apply(large)
    database.apply(batch(message(4)))
    copy = tmp_path / "copy" / "bot.db"
    copy.parent.mkdir()
    copy_files(path, copy)
    past = past_of(copy)
    assert [one.sequence for one in past.messages] == [1, 2, 3, 4]
    assert (past.cursor, past.next_sequence) == (SOME.cursor, 5)
    connection.execute("PRAGMA max_page_count = 100000")
    database.apply(large)
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFull):
        database.close(batch(message(6, content=os.urandom(100_000))), clean=True)
    past = past_of(path, boot="another")
    assert [one.sequence for one in past.messages] == [2, 3, 4, 5]
    assert past.log is not None
    # It has not ended as it should.
    assert past.log.continues is (durability == "full")


@pytest.mark.contract("D2")
def test_a_file_that_may_not_grow_loses_nothing_and_goes_on_once_it_may(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    count = 0
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, old[1]))
    try:
        with pytest.raises(StoreError, match="make some and try again|look for who .* for a quota"):
            for sequence in range(1, 100):
                database.apply(batch(message(sequence, content=b"x" * 10_000)))
                count = sequence
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    database.close(batch(message(1_000)), clean=False)
    assert 5 < count < 99
    assert [one.sequence for one in past_of(path).messages] == [*range(1, count + 1), 1_000]


@pytest.mark.contract("D2")
@pytest.mark.parametrize("room", [0, 600, 10_000])
def test_a_store_for_which_there_is_no_room_can_be_made_once_there_is(tmp_path: Path, room: int) -> None:
    path = tmp_path / "bot.db"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
    try:
        with pytest.raises(StoreError, match="make some and try again|look for who .* for a quota"):
            opened(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert past_of(filled(path, SOME)).next_sequence == 4


def test_a_mistake_of_ours_is_no_damage_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    wrong: Any = object()
    with pytest.raises(sqlite3.ProgrammingError):
        database.apply(batch(message(1), keys=[wrong]))
    with pytest.raises(OverflowError):
        database.apply(batch(message(1), message(2**63)))
    database.close(clean=True)
    assert past_of(path) == Past((), 1, (), None, None)


# --- A file that was taken away ---


@pytest.mark.contract("D2")
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_nobody_would_find_again_takes_nothing_more(tmp_path: Path, how: str) -> None:
    path = tmp_path / "bot.db"
    database, _ = opened(path)
    database.apply(SOME)
    kept = tmp_path / "kept"
    kept.hardlink_to(path)
    path.unlink()
    if how == "replaced":
        path.write_text("another")
    for _ in range(2):
        with pytest.raises(StoreError, match="was moved, replaced or deleted while it was open"):
            database.apply(batch(message(4)))
    if how == "moved":
        kept.rename(path)
        database.apply(batch(message(4)))
        database.close(clean=True)
        assert past_of(path).next_sequence == 5
        return
    with pytest.raises(StoreError, match="was moved, replaced or deleted while it was open"):
        database.close(clean=True)
    assert how == "deleted" or path.read_text() == "another"


# --- Damage ---


@pytest.mark.threat("T15")
@pytest.mark.contract("D2")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE outgoing SET recipient = '+15550102' WHERE sequence = 1",
        "UPDATE outgoing SET recipient = x'ff'",
        "UPDATE outgoing SET recipient = CAST(x'ff' AS TEXT)",
        "UPDATE outgoing SET state = 0 WHERE sequence = 3",
        "UPDATE outgoing SET state = 9",
        "UPDATE outgoing SET attempts = 'many'",
        "UPDATE outgoing SET id = 5",
        "UPDATE contents SET content = x'00' WHERE sequence = 1",
        "UPDATE contents SET sum = 1",
        "DELETE FROM contents WHERE sequence = 1",
        "UPDATE log SET body = x'00' WHERE sequence = 1",
        "UPDATE log SET time = NULL",
        "DELETE FROM log WHERE sequence = 2",
        "UPDATE taken SET key = 'text' WHERE number = 1",
        "UPDATE meta SET value = '{}'",
        "UPDATE meta SET value = replace(value, '9', '8')",
        "UPDATE meta SET value = x'7b'",
        "DELETE FROM meta",
        "DROP TABLE meta",
        "DROP TABLE log",
        "ALTER TABLE outgoing DROP COLUMN attempts",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -1",
    ],
)
def test_rows_that_are_garbage_are_found(tmp_path: Path, change: str) -> None:
    path = filled(tmp_path / "bot.db", SOME)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with suppress(sqlite3.IntegrityError):
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(change)
            change = ""
    if change:
        # The table itself does not take it.
        assert "NULL" in change
        return
    before = bytes_of(path)
    with pytest.raises(StoreDamaged, match="nothing was changed: move it away, or bring a copy back"):
        opened(path)
    assert bytes_of(path) == before


def test_a_row_that_is_valid_json_of_something_else_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path / "bot.db", SOME)
    for value in ("{}", '{"account":"+15550100","cursor":{"time":-1}}', '{"account":"+15550100","new":1}'):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE meta SET value = ?, sum = ?", (value, schema.checksum(value)))
        with pytest.raises(StoreDamaged):
            opened(path)


def test_a_damage_that_sqlite_tells_in_no_valid_text_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path / "bot.db", SOME)
    data = path.read_bytes()
    assert data.count(b"time INTEGER NOT NULL") == 1
    path.write_bytes(data.replace(b"time INTEGER NOT NULL", b"time INTEGER NOT N\xd5LL"))
    before = bytes_of(path)
    with pytest.raises(StoreDamaged):
        opened(path)
    assert bytes_of(path) == before


def valid(past: Past, known: Past) -> bool:
    """Say whether all that was read was once written: a bent bit may lose a WAL's end, and invent nothing."""
    # A wrong number of attempts is not found, and does no harm.
    messages = {replace(one, attempts=0) for one in known.messages}
    rows = set(known.log.rows) if known.log else set[LogRow]()
    return (
        all(replace(one, attempts=0) in messages for one in past.messages)
        and past.next_sequence <= known.next_sequence
        and past.cursor in {None, known.cursor}
        and set(past.log.rows if past.log else ()) <= rows
        and len(past.keys) <= len(known.keys)
    )


def damages(folder: Path, *, seed: int, count: int) -> Iterator[str | None]:
    """Damage a store in many ways; yield a text for each where it came to anything but a clear end."""
    draw = random.Random(seed)
    messages = [message(number, content=draw.randbytes(draw.choice((20, 3_000)))) for number in range(1, 80)]
    rows = [LogRow(number, number, draw.randbytes(100)) for number in range(1, 60)]
    keys = [draw.randbytes(16) for _ in range(300)]
    full = batch(*messages, done(80), cursor=Cursor(7), log_epoch="e", log_rows=rows, keys=keys)
    for clean in (True, False):
        base = folder / f"clean {clean}"
        base.mkdir()
        source = filled(base / "bot.db", full, clean=clean)
        copy = folder / f"known {clean}"
        copy.mkdir()
        copy_files(source, copy / "bot.db")
        known = past_of(copy / "bot.db")
        assert len(known.messages) == 80
        for number in range(count // 2):
            target = folder / f"case {clean} {number}" / "bot.db"
            target.parent.mkdir()
            copy_files(source, target)
            victim = target if clean or draw.random() < 0.3 else Path(f"{target}-wal")
            told = f"seed {seed}, case {clean} {number}: {bend(victim, draw)}"
            before = bytes_of(target)
            try:
                past = past_of(target)
            except StoreError:
                yield None if bytes_of(target) == before else f"{told}: refused, and changed"
            except Exception as error:  # noqa: BLE001
                yield f"{told}: {error!r}"
            else:
                yield None if valid(past, known) else f"{told}: another {past}"
            shutil.rmtree(target.parent)


def bend(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    if draw.random() < 0.3:
        cut = draw.randrange(len(data))
        path.write_bytes(data[:cut])
        return f"{path.name} cut at {cut}"
    # The first bytes say how all else is to be read.
    offsets = [
        draw.randrange(min(len(data), draw.choice((100, 4_096, len(data)))))
        for _ in range(draw.choice((1, 8)))
    ]
    for offset in offsets:
        data[offset] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"{path.name} bent at {offsets}"


@pytest.mark.threat("T15")
@pytest.mark.contract("D2")
def test_a_damaged_store_is_refused_and_left_alone_or_holds_what_was_written(tmp_path: Path) -> None:
    assert [*filter(None, damages(tmp_path, seed=1, count=100))] == []


def soak(count: int) -> Iterator[str | None]:
    """Stop, and damage, stores at random, ``count`` of each; yield a text for each that failed, else None."""
    for seed in range(count // 100):
        with tempfile.TemporaryDirectory(prefix="store-") as folder:
            yield from check_stops(Path(folder), seed=seed, looks=99)
        with tempfile.TemporaryDirectory(prefix="store-") as folder:
            yield from damages(Path(folder), seed=seed, count=100)
