"""``ConnectionManager`` alone, with outlets that keep what they are handed."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.hubs import Frame, frames_in
from tests.shelf import Shelf
from trio_signal import Gap, GapReason
from trio_signal.hub import (
    CloseCode,
    Connection,
    ConnectionManager,
    MessageLog,
    UnknownConnection,
    connections,
)
from trio_signal.testing._frames import Opcode

NOW = 1_700_000_000_123
PING = b"\x89\x00"


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Client:
    """Somebody who is connected and takes pages when told to."""

    def __init__(
        self,
        manager: ConnectionManager,
        since: int | None = None,
        epoch: str | None = None,
        *,
        room: int = 1_000_000,
        kind: type[Shelf] = Shelf,
    ) -> None:
        self.manager = manager
        self.shelf = kind(room)
        self.connection = manager.connect(
            self.shelf,
            subject="somebody",
            remote="192.0.2.1",
            heartbeat_interval=15.0,
            since=since,
            epoch=epoch,
        )

    def take_page(self) -> None:
        """Do what a session does while its client catches up: hand it the next page."""
        if not self.connection.is_live and self.shelf.ending is None:
            self.shelf.frames.append(self.manager.next_page(self.connection))

    def catch_up(self) -> None:
        while not self.connection.is_live:
            self.take_page()

    @property
    def frames(self) -> list[Frame]:
        buffer = bytearray(b"".join(self.shelf.frames))
        frames = list(frames_in(buffer))
        assert not buffer
        return frames

    @property
    def told(self) -> list[Any]:
        """Everything it was told, pings aside."""
        return [frame.json for frame in self.frames if frame.opcode is Opcode.TEXT]

    @property
    def numbers(self) -> list[int]:
        return [frame["sequence_number"] for frame in self.told if "sequence_number" in frame]

    @property
    def holes(self) -> list[Any]:
        return [frame for frame in self.told if frame["type"] == "gap" and "sequence_number" not in frame]


def manager_of(log: MessageLog | None = None, **options: Any) -> ConnectionManager:
    return ConnectionManager(log or MessageLog(clock=Clock()), wall=lambda: NOW, **options)


def tell(manager: ConnectionManager, count: int = 1) -> None:
    for _ in range(count):
        manager.broadcast(b'{"n":%d}' % (manager.log.head + 1))


# --- the scenario that decides ---


@pytest.mark.contract("H1", "H4", "H5")
def test_who_was_away_while_nobody_was_connected_gets_exactly_what_it_missed() -> None:
    manager = manager_of()
    first = Client(manager)
    tell(manager, 3)
    assert first.numbers == [1, 2, 3]
    manager.disconnect(first.connection)
    assert manager.connections == ()

    tell(manager, 3)

    page = manager.get_messages_since(3, epoch=manager.log.epoch)
    assert [entry.sequence for entry in page.messages] == [4, 5, 6]
    assert page.gap is None
    second = Client(manager, 3, manager.log.epoch)
    assert second.connection.id != first.connection.id
    second.catch_up()
    assert second.numbers == [4, 5, 6]
    assert [json.loads(entry.body) for entry in page.messages] == second.told[1:]
    assert first.numbers == [1, 2, 3]
    tell(manager)
    assert second.numbers == [4, 5, 6, 7]


# --- one step (H1), one encoding (H8) ---


@pytest.mark.contract("H8")
def test_all_clients_get_the_very_same_bytes_object() -> None:
    manager = manager_of()
    clients = [Client(manager) for _ in range(50)]
    entry = manager.broadcast(b'{"text":"gr\xc3\xbc\xc3\x9fe"}')
    frame = clients[0].shelf.frames[-1]
    assert all(client.shelf.frames[-1] is frame for client in clients)
    assert frame.endswith(entry.body), "and the log keeps the same bytes that went out"
    assert entry.body.endswith(b'"data":{"text":"gr\xc3\xbc\xc3\x9fe"}}'), "the gateway's own are spliced in"
    manager.heartbeat(PING)
    assert all(client.shelf.frames[-1] is clients[0].shelf.frames[-1] for client in clients)


@pytest.mark.contract("H1")
def test_a_message_is_numbered_and_stored_before_anybody_is_handed_it() -> None:
    class Asking(Shelf):
        def write(self, data: bytes) -> int:
            if b'"message"' in data:
                page = manager.get_messages_since(0)
                seen.append((page.head, [entry.body for entry in page.messages][-1] in data))
            return super().write(data)

    seen: list[tuple[int, bool]] = []
    manager = manager_of()
    manager.connect(Asking(), subject="", remote="", heartbeat_interval=15)
    tell(manager, 3)
    assert seen == [(1, True), (2, True), (3, True)]


@pytest.mark.contract("H1")
def test_nobody_needs_to_be_connected_for_a_message_to_be_kept() -> None:
    manager = manager_of()
    entry = manager.broadcast('{"n":1}', timestamp=5)
    assert json.loads(entry.body) == {
        "type": "message",
        "sequence_number": 1,
        "timestamp": 5,
        "data": {"n": 1},
    }
    assert manager.get_messages_since(0).messages == (entry,)
    assert manager.delivered == 0


@pytest.mark.contract("H1", "R3")
def test_an_absence_from_the_gateway_stands_in_its_place_live_and_later() -> None:
    manager = manager_of()
    live = Client(manager)
    tell(manager)
    entry = manager.broadcast_gap(Gap(GapReason.GATEWAY, 10, 20))
    tell(manager)
    late = Client(manager, 0, manager.log.epoch)
    late.catch_up()
    assert entry.sequence == 2
    assert live.numbers == late.numbers == [1, 2, 3]
    assert live.told[2] == late.told[2]
    assert live.told[2] == {
        "type": "gap",
        "sequence_number": 2,
        "timestamp": NOW,
        "reason": "gateway",
        "since": 10,
        "until": 20,
    }
    assert manager.broadcast_gap(Gap(GapReason.STALLED, 1, 2), timestamp=7).body.count(b'"timestamp":7') == 1


@pytest.mark.parametrize("data", [b"\xff\xfe", "no JSON", b"", '"a string"', b'{"broken":'])
def test_what_is_no_json_breaks_no_frame(data: bytes | str) -> None:
    manager = manager_of()
    client = Client(manager)
    manager.broadcast(data)
    manager.send_message(client.connection.id, data)
    carried = client.told[-2]["data"]
    assert isinstance(carried, str)
    assert client.told[-1]["data"] == carried


# --- registration is atomic with it (H1, H2) ---


@pytest.mark.contract("H1", "H2")
@pytest.mark.parametrize("before", range(4))
def test_without_since_live_starts_right_after_the_head_of_the_hello(before: int) -> None:
    manager = manager_of()
    tell(manager, before)
    client = Client(manager)
    tell(manager, 3)
    assert client.told[0] == {
        "type": "hello",
        "epoch": manager.log.epoch,
        "head": before,
        "oldest": 1,
        "heartbeat_interval": 15.0,
        "connection_id": client.connection.id,
    }
    assert client.numbers == [before + 1, before + 2, before + 3]


def schedules(length: int) -> Iterator[tuple[str, ...]]:
    """Every order of broadcasts, pages and heartbeats of this length."""
    return itertools.product("bph", repeat=length)


@pytest.mark.contract("H1", "H2", "R1")
@pytest.mark.parametrize("kept", [500, 3, 1])
def test_catching_up_goes_over_to_live_without_a_hole_whatever_comes_when(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PAGE", 1)  # one message for each page
    turned_live = told_of_holes = 0
    for since, schedule in itertools.product((0, 2, 4), schedules(6)):
        manager = manager_of(MessageLog(max_messages=kept, clock=Clock()))
        tell(manager, 4)
        client = Client(manager, since, manager.log.epoch)
        for step in schedule:
            if step == "b":
                tell(manager)
            elif step == "p":
                client.take_page()
            else:
                manager.heartbeat(PING)
        turned_live += client.connection.is_live
        client.catch_up()
        manager.heartbeat(PING)
        told_of_holes += bool(client.holes)
        _check_stream(client, since, manager.log.head)
    assert turned_live
    assert bool(told_of_holes) == (kept < 500)


def _check_stream(client: Client, since: int, head: int) -> None:
    """Each number once and in order, or a gap in its place; no heartbeat is ahead of what was streamed."""
    reached = since
    for frame in client.told[1:]:
        if frame["type"] == "heartbeat":
            assert frame["head"] == reached, "an idle client would take this for the sign of a hole"
        elif frame["type"] == "gap":
            assert frame["reason"] == "overwritten"
            assert frame["first"] == reached + 1
            assert frame["last"] >= frame["first"]
            reached = frame["last"]
        else:
            assert frame["sequence_number"] == reached + 1
            reached += 1
    assert reached == head


@pytest.mark.contract("H2")
def test_new_messages_are_not_queued_for_who_catches_up() -> None:
    manager = manager_of()
    tell(manager, 10)
    client = Client(manager, 0)
    handed = len(client.shelf.frames)
    tell(manager, 100)
    assert len(client.shelf.frames) == handed == 1
    client.take_page()
    assert client.numbers == list(range(1, 111))
    assert not client.connection.is_live, "only the step that finds nothing more makes it live"
    client.take_page()
    assert client.connection.is_live


@pytest.mark.contract("H2")
def test_a_page_is_bounded_in_bytes_and_holds_at_least_one_message() -> None:
    manager = manager_of()
    for size in (30_000, 30_000, 30_000, 200_000, 10):
        manager.broadcast(b'"%b"' % (b"x" * size))
    client = Client(manager, 0)
    counts: list[int] = []
    while not client.connection.is_live:
        before = len(client.numbers)
        client.take_page()
        counts.append(len(client.numbers) - before)
    assert counts == [2, 1, 1, 1, 0]


BOUNDARIES: dict[int, tuple[tuple[int, int] | tuple[None, None] | None, list[int]]] = {
    # log of 6 messages that keeps 3: oldest is 4, head is 6
    0: ((1, 3), [4, 5, 6]),
    2: ((3, 3), [4, 5, 6]),  # oldest - 2
    3: (None, [4, 5, 6]),  # oldest - 1
    4: (None, [5, 6]),  # oldest
    5: (None, [6]),  # head - 1
    6: (None, []),  # head
    7: ((None, None), [4, 5, 6]),  # head + 1
    10**18 - 1: ((None, None), [4, 5, 6]),
}


@pytest.mark.contract("H2", "H5", "R4")
@pytest.mark.parametrize("known", [True, False], ids=["with epoch", "without"])
@pytest.mark.parametrize("since", BOUNDARIES)
def test_every_boundary_of_catching_up(since: int, known: bool) -> None:
    manager = manager_of(MessageLog(max_messages=3, clock=Clock()))
    tell(manager, 6)
    client = Client(manager, since, manager.log.epoch if known else None)
    client.catch_up()
    hole, numbers = BOUNDARIES[since]
    assert client.numbers == numbers
    if hole is None:
        assert client.holes == []
    else:
        reason = "overwritten" if hole[0] else "epoch_changed"
        assert client.told[1] == {"type": "gap", "reason": reason, "first": hole[0], "last": hole[1]}
        assert len(client.holes) == 1
    tell(manager)
    assert client.numbers == [*numbers, 7]


@pytest.mark.contract("H2", "H3", "H5")
@pytest.mark.parametrize("since", [0, 1, 3, 9])
def test_another_epoch_is_told_and_everything_kept_follows(since: int) -> None:
    manager = manager_of()
    tell(manager, 3)
    client = Client(manager, since, "of another hub")
    client.catch_up()
    assert client.told[1] == {"type": "gap", "reason": "epoch_changed", "first": None, "last": None}
    assert client.numbers == [1, 2, 3]


@pytest.mark.contract("H2", "H5")
@pytest.mark.parametrize("since", [0, 5])
def test_another_epoch_with_an_empty_log_is_told_once(since: int) -> None:
    manager = manager_of()
    client = Client(manager, since, "of another hub")
    client.catch_up()
    assert [frame["type"] for frame in client.told] == ["hello", "gap"]
    tell(manager)
    assert client.numbers == [1]


@pytest.mark.contract("H5", "H6")
def test_what_expires_while_somebody_catches_up_is_a_gap_in_its_place() -> None:
    clock = Clock()
    manager = manager_of(MessageLog(clock=clock))
    for _ in range(3):
        manager.broadcast(b'"%b"' % (b"x" * 66_000))
    client = Client(manager, 0)
    client.take_page()
    clock.now = 900.0
    manager.broadcast(b"4")
    clock.now = 900.1
    client.catch_up()
    assert client.numbers == [1, 4]
    assert client.told[2] == {"type": "gap", "reason": "expired", "first": 2, "last": 3}


@pytest.mark.contract("H5", "H6")
def test_when_all_has_expired_who_had_it_all_is_told_of_no_gap() -> None:
    clock = Clock()
    manager = manager_of(MessageLog(clock=clock))
    tell(manager, 3)
    clock.now = 901.0
    complete, behind = Client(manager, 3, manager.log.epoch), Client(manager, 1, manager.log.epoch)
    complete.catch_up()
    behind.catch_up()
    assert complete.told[0]["oldest"] == 4
    assert complete.holes == []
    assert behind.holes == [{"type": "gap", "reason": "expired", "first": 2, "last": 3}]
    tell(manager)
    assert complete.numbers == behind.numbers == [4]


# --- heartbeats ---


@pytest.mark.contract("H2")
def test_a_heartbeat_tells_live_clients_the_head_and_others_nothing_that_looks_like_a_hole() -> None:
    manager = manager_of()
    live = Client(manager)
    tell(manager, 2)
    behind = Client(manager, 0)
    manager.heartbeat(PING)
    assert live.told[-1] == {"type": "heartbeat", "head": 2}
    assert [frame.opcode for frame in live.frames[-2:]] == [Opcode.TEXT, Opcode.PING]
    assert [frame.opcode for frame in behind.frames] == [Opcode.TEXT, Opcode.PING]
    assert behind.told[-1]["type"] == "hello"
    behind.catch_up()
    manager.heartbeat(PING)
    assert behind.told[-1] == {"type": "heartbeat", "head": 2}


@pytest.mark.contract("H2", "H7")
def test_a_ping_without_room_costs_nobody_who_catches_up_the_connection() -> None:
    manager = manager_of()
    tell(manager)
    behind = Client(manager, 0, room=1)
    for _ in range(3):
        manager.heartbeat(PING)
    assert behind.shelf.ending is None
    behind.catch_up()
    assert behind.numbers == [1]


# --- slow clients (H7) ---


@pytest.mark.contract("H7", "H11")
def test_a_slow_client_is_closed_and_told_and_delays_nobody() -> None:
    slow: list[Connection] = []
    manager = manager_of(on_slow=slow.append)
    before, full, after = Client(manager), Client(manager, room=3), Client(manager)
    tell(manager, 5)
    assert before.numbers == after.numbers == [1, 2, 3, 4, 5]
    assert full.numbers == [1, 2], "the hello took one place"
    assert full.shelf.ending is not None
    code, reason, flush = full.shelf.ending
    assert (code, flush) == (CloseCode.TOO_SLOW, False)
    assert "recover" in reason
    assert slow == [full.connection]
    assert manager.connections == (before.connection, after.connection)
    assert manager.delivered == 5 + 5 + 2

    again = Client(manager, 2, manager.log.epoch)
    again.catch_up()
    assert again.numbers == [3, 4, 5]


@pytest.mark.contract("H7")
def test_a_live_client_without_room_for_a_heartbeat_is_slow_too() -> None:
    slow: list[Connection] = []
    manager = manager_of(on_slow=slow.append)
    full = Client(manager, room=1)
    manager.heartbeat(PING)
    assert slow == [full.connection]
    manager.heartbeat(PING)
    tell(manager)
    assert slow == [full.connection], "it is told once"
    assert len(manager) == 0


@pytest.mark.contract("H7")
@pytest.mark.parametrize("since", [None, 0])
def test_who_has_no_room_for_a_hello_is_handed_nothing_more(since: int | None) -> None:
    manager = manager_of()
    full = Client(manager, since, room=0)
    assert full.shelf.ending is not None
    assert len(manager) == 0
    full.shelf.room = 10
    tell(manager)
    assert full.shelf.frames == []
    assert manager.delivered == 0


# --- to one connection ---


def test_a_direct_message_has_the_count_of_its_connection_and_is_neither_numbered_nor_kept() -> None:
    manager = manager_of()
    one, other = Client(manager), Client(manager)
    assert [manager.send_message(one.connection.id, b'{"a":1}') for _ in range(3)] == [1, 2, 3]
    assert manager.send_message(other.connection.id, '{"a":2}') == 1
    assert one.told[-1] == {"type": "direct", "connection_sequence": 3, "timestamp": NOW, "data": {"a": 1}}
    assert other.told[1:] == [
        {"type": "direct", "connection_sequence": 1, "timestamp": NOW, "data": {"a": 2}}
    ]
    assert (manager.log.head, manager.delivered) == (0, 0)
    assert (one.connection.sequence, other.connection.sequence) == (3, 1)
    tell(manager)
    assert one.numbers == other.numbers == [1]


def test_a_direct_message_to_nobody_is_an_error_that_names_it() -> None:
    manager = manager_of()
    client = Client(manager)
    manager.disconnect(client.connection)
    manager.disconnect(client.connection)
    for identifier in ("nobody", client.connection.id):
        with pytest.raises(UnknownConnection, match=identifier) as caught:
            manager.send_message(identifier, b"1")
        assert isinstance(caught.value, LookupError)


@pytest.mark.contract("H7")
def test_a_direct_message_without_room_closes_the_connection() -> None:
    manager = manager_of()
    full = Client(manager, room=2)
    manager.send_message(full.connection.id, b"1")
    manager.send_message(full.connection.id, b"2")
    assert full.shelf.ending is not None
    with pytest.raises(UnknownConnection):
        manager.send_message(full.connection.id, b"3")


# --- figures ---


def test_the_figures_tell_how_far_behind_each_client_is() -> None:
    manager = manager_of()
    tell(manager, 5)
    live, behind, ahead = Client(manager), Client(manager, 2), Client(manager, 99)
    tell(manager)
    assert [figures.id for figures in manager.figures()] == [
        client.connection.id for client in (live, behind, ahead)
    ]
    first, second, third = manager.figures()
    assert (first.subject, first.remote, first.connected) == ("somebody", "192.0.2.1", NOW)
    assert (first.sequence, first.queued, first.lag) == (6, 2, 2)
    assert first.queued_bytes == live.shelf.queued_bytes
    assert (second.sequence, second.queued, second.lag) == (2, 1, 5)
    assert (third.sequence, third.lag) == (99, 1)
    assert len(manager) == 3
    manager.disconnect(live.connection)
    assert [figures.id for figures in manager.figures()] == [behind.connection.id, ahead.connection.id]


def test_a_page_can_be_limited() -> None:
    manager = manager_of()
    tell(manager, 5)
    page = manager.get_messages_since(1, limit=2)
    assert [entry.sequence for entry in page.messages] == [2, 3]
    assert page.more


def test_delivered_counts_what_was_handed_over_live_and_in_pages() -> None:
    manager = manager_of()
    tell(manager, 3)
    Client(manager)
    late = Client(manager, 1)
    late.catch_up()
    tell(manager)
    assert manager.delivered == 2 + 2


def test_a_connection_shows_its_id_and_nothing_else() -> None:
    connection = Client(manager_of()).connection
    assert repr(connection) == f"<Connection {connection.id}>"


# --- what waits together is written together ---


@pytest.mark.contract("H1", "H8")
def test_what_comes_at_once_is_one_write_for_each_client() -> None:
    manager = manager_of()
    clients = [Client(manager) for _ in range(3)]
    with manager.one_write():
        tell(manager, 5)
        assert manager.log.head == 5
    tell(manager)
    for client in clients:
        assert client.numbers == [1, 2, 3, 4, 5, 6]
        assert len(client.shelf.frames) == 3, "hello, five messages, one message"
    assert clients[0].shelf.frames[1] is clients[1].shelf.frames[1], "encoded once"
    assert manager.delivered == 18


@pytest.mark.contract("H1")
def test_what_was_numbered_is_handed_out_even_if_the_rest_fails() -> None:
    manager = manager_of()
    client = Client(manager)
    with pytest.raises(ZeroDivisionError), manager.one_write():
        tell(manager, 2)
        raise ZeroDivisionError
    with manager.one_write():
        pass
    tell(manager)
    assert client.numbers == [1, 2, 3]


@pytest.mark.contract("H7")
def test_who_has_no_room_for_all_that_comes_at_once_is_sent_away() -> None:
    slow: list[Connection] = []
    manager = manager_of(on_slow=slow.append)
    clients = [Client(manager), Client(manager, room=1), Client(manager)]
    with manager.one_write():
        tell(manager, 5)
    assert slow == [clients[1].connection]
    assert clients[1].shelf.ending is not None
    assert [client.numbers for client in clients] == [[1, 2, 3, 4, 5], [], [1, 2, 3, 4, 5]]
    assert manager.delivered == 10


@pytest.mark.contract("H7")
def test_a_broken_connection_hinders_no_other() -> None:
    class Broken(Shelf):
        def write(self, data: bytes) -> int:
            if b'"message"' in data:
                raise ConnectionResetError
            return super().write(data)

    class Full(Shelf):
        def write(self, data: bytes) -> int:
            if b'"message"' in data:
                raise BlockingIOError
            return super().write(data)

        def keep(self, frames: Sequence[bytes], taken: int) -> bool:
            self.frames += frames if taken == 0 else []
            return True

    manager = manager_of()
    before, broken, full, behind = [Client(manager, kind=kind) for kind in (Shelf, Broken, Full, Shelf)]
    tell(manager, 2)
    assert before.numbers == full.numbers == behind.numbers == [1, 2]
    assert broken.numbers == []
    assert broken.shelf.ending is None, "its reader learns of it"


@pytest.mark.contract("H2")
def test_heartbeats_may_be_told_to_some_and_to_nobody_who_has_gone() -> None:
    manager = manager_of()
    live, gone, behind = Client(manager), Client(manager), Client(manager, since=0)
    manager.disconnect(gone.connection)
    told = [len(client.shelf.frames) for client in (live, gone, behind)]
    assert manager.heartbeat(PING, among=[live.connection, gone.connection]) == 1
    assert manager.heartbeat(PING, among=[behind.connection, gone.connection]) == 0
    after = [len(client.shelf.frames) for client in (live, gone, behind)]
    assert [now - before for now, before in zip(after, told, strict=True)] == [1, 0, 1]
