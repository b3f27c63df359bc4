"""The benchmarks of the hub: their clients count what really came; ours is put beside each of the others."""

import re
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from pkgutil import resolve_name
from typing import Final

import pytest

from benchmarks import report
from benchmarks.askers import Askers
from benchmarks.audience import Audience
from benchmarks.case import Case, Contender, Metric
from benchmarks.cases.broadcast import quiet
from benchmarks.cases.program import running
from benchmarks.catalogue import CASES
from benchmarks.connections import HOST
from benchmarks.contender import Gateway, Measurement, Params, Run, Work
from benchmarks.crowd import Crowd, delays, joined
from benchmarks.generators import Generator
from benchmarks.harness import CaseResult, Result, run_case
from benchmarks.peers import PeerMissing, programs
from benchmarks.traffic import broadcast_work, hub_item, hub_messages
from benchmarks.wires import NATS, WEBSOCKET, WIRES, NatsWire, WebSocketWire

HELLO: Final = b'{"type":"hello","epoch":"epoch","head":0,"oldest":1}'
SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

Serve = Callable[[socket.socket], None]


class Server:
    """Serves each connection that comes, in threads; what the script raises fails the test."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.errors: list[Exception] = []

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # it was shut down
                return
            self._threads.append(threading.Thread(target=self._attend, args=(sock,), daemon=True))
            self._threads[-1].start()

    def _attend(self, sock: socket.socket) -> None:
        with sock:
            try:
                self._serve(sock)
            except Exception as error:  # noqa: BLE001  (close() tells of it)
                self.errors.append(error)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        assert self.errors == []


frame: Final = WIRES[WEBSOCKET].encode


def read_request(sock: socket.socket) -> bytes:
    """Return a request's head; nothing when the client has hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (data := sock.recv(4096)):
        head += data
    return head


def speaking(*pieces: bytes) -> Serve:
    """Return a server that answers the handshake, writes these pieces and waits for the end."""

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert read_request(sock).startswith(b"GET /websocket HTTP/1.1\r\n")
        for piece in pieces:
            sock.sendall(piece)
        # Pongs, too, until the client hangs up.
        while sock.recv(100):
            pass

    return serve


def gathered(messages: Sequence[bytes], wire: int = WEBSOCKET) -> "closing[Audience]":
    return closing(Audience(WIRES[wire], messages))


# What an audience speaks.


@pytest.mark.parametrize(
    ("size", "head"), [(125, "817d"), (126, "817e007e"), (65_536, "817f0000000000010000")]
)
def test_a_message_comes_as_one_frame_in_the_shortest_form(size: int, head: str) -> None:
    assert WebSocketWire().encode(bytes(size)) == bytes.fromhex(head) + bytes(size)


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        ("8900", "8a8000000000"),
        ("89026869", "8a82000000006869"),
        ("8800", ""),
        ("81027b7d", ""),
        ("817e0080" + "20" * 128, ""),
        ("817f0000000000000080" + "20" * 128, ""),
    ],
)
def test_what_is_no_message_is_cut_off_once_it_is_whole(frame: str, reply: str) -> None:
    data = bytes.fromhex(frame)
    for end in range(len(data)):
        assert WebSocketWire().foreign(data[:end]) == (0, b"")
    assert WebSocketWire().foreign(data + b"\x81") == (len(data), bytes.fromhex(reply))


def test_a_message_is_not_taken_for_anything_else() -> None:
    with pytest.raises(ValueError, match="another message than expected: b'{"):
        WebSocketWire().foreign(frame(hub_messages(1)[0]))
    with pytest.raises(ValueError, match="another message than expected: b'MSG broadcast 1 2"):
        NatsWire().foreign(b"MSG broadcast 1 2\r\n{}\r\n")


def test_a_line_of_nats_is_cut_off_once_it_is_whole() -> None:
    assert NatsWire().foreign(b"PING") == NatsWire().foreign(b"INFO {}\r") == (0, b"")
    assert NatsWire().foreign(b"PING\r\nMSG") == (6, b"PONG\r\n")
    assert NatsWire().foreign(b"INFO {}\r\n") == (9, b"")


# The audience.


@pytest.mark.parametrize("size", [1, 2, 3, 700, 10_000_000])
def test_the_audience_takes_whole_messages_however_they_come(size: int) -> None:
    long = b'{"type":"message","sequence_number":4,"timestamp":7,"data":"%b"}' % (b"x" * 70_000)
    short = b'{"type":"message","sequence_number":5,"timestamp":7,"data":{}}'
    messages = [*hub_messages(3), long, short]
    behind = b"\x89\x00" + frame(b'{"type":"heartbeat","head":5}')
    sent = SWITCHING + frame(HELLO) + b"\x89\x00" + behind.join(map(frame, messages))
    # The tail in pieces, so that a length is cut in two as well.
    pieces = [sent[: -71_000 if size == 1 else 60]]
    pieces += [sent[start : start + size] for start in range(len(pieces[0]), len(sent), size)][:3000]
    pieces.append(sent[sum(map(len, pieces)) :])
    with gathered(messages) as audience, closing(Server(speaking(*pieces))) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(len(messages))
        assert audience.work == Work(10, Work.of(map(hub_item, messages)).digest)
        assert 0.0 < audience.figures["busy"] <= 110.0
        audience.close()


def test_what_is_lacking_is_lacking_in_the_work() -> None:
    # The second client is hung up on in the middle of its second message.
    messages = hub_messages(2)
    whole = b"".join(map(frame, messages))
    ends = iter((whole, whole[:-1]))

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + next(ends))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with gathered(messages) as audience, closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(2)
        assert audience.work == Work(3, "the clients got different messages")
        audience.close()


def test_other_messages_than_expected_are_found_out() -> None:
    first, second = hub_messages(2)
    orders = iter((frame(first) + frame(second), frame(second) + frame(first)))

    def serve(sock: socket.socket) -> None:
        speaking(SWITCHING, next(orders))(sock)

    with gathered([first, second]) as audience, closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(2)
        assert audience.work.count == 2
        assert audience.work.digest.startswith('another message than expected: b\'{"type":"message"')
        audience.close()


def test_a_message_that_is_changed_in_one_byte_is_found_out() -> None:
    messages = hub_messages(3)
    changed = messages[1][:-20] + b"#" + messages[1][-19:]

    with gathered(messages) as audience:
        with closing(Server(speaking(SWITCHING, *map(frame, (messages[0], changed, messages[2]))))) as server:
            audience.attend(HOST, server.port, 1)
            audience.watch(3)
            assert audience.work.count == 1
            assert audience.work.digest.startswith("another message")
            audience.close()


def test_the_spread_is_of_the_messages_that_were_timed() -> None:
    messages = hub_messages(2)
    may_go_on = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + frame(messages[0]))
        assert may_go_on.wait(10)
        sock.sendall(frame(messages[1]))
        sock.recv(1)

    with gathered(messages) as audience, closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 3)
        audience.watch(1)
        assert audience.figures.keys() == {"busy"}
        may_go_on.set()
        audience.time(2)
        assert audience.figures["spread"] > 0.0
        assert [len(times) for times in audience.arrivals] == [1, 1, 1]
        assert audience.work == broadcast_work(messages, 3)
        audience.close()


def test_who_is_idle_answers_pings() -> None:
    answers: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + b"\x89\x03abc")
        answers.append(sock.recv(100))

    with gathered(hub_messages(1)) as audience, closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 1)
        audience.idle(0.05)
        audience.close()
    # A client's frame is masked, here with a mask of zeros.
    assert answers == [b"\x8a\x83\x00\x00\x00\x00abc"]


def test_an_audience_speaks_nats_too() -> None:
    messages = hub_messages(2)
    wire = WIRES[NATS]
    told: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        sock.sendall(b'INFO {"server_id":"X"}\r\n')
        while not told or not told[-1].endswith(b"PING\r\n"):
            told.append(sock.recv(4096))
        sock.sendall(b"PONG\r\n" + wire.encode(messages[0]) + b"PING\r\n" + wire.encode(messages[1]))
        told.append(sock.recv(4096))

    with gathered(messages, NATS) as audience, closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 1)
        audience.watch(2)
        assert audience.work == broadcast_work(messages, 1)
        audience.close()
    assert b"SUB broadcast 1\r\n" in b"".join(told)
    assert told[-1] == b"PONG\r\n"


@pytest.mark.parametrize(
    ("wire", "words", "error"),
    [
        (WEBSOCKET, b"HTTP/1.1 503 Service Unavailable\r\n\r\n", r"refused: b'HTTP/1\.1 503"),
        (NATS, b"HTTP/1.1 400 Bad Request\r\n", "this is not NATS"),
    ],
)
def test_nobody_attends_what_refuses(wire: int, words: bytes, error: str) -> None:
    with gathered(hub_messages(1), wire) as audience:
        with closing(Server(lambda sock: sock.sendall(words))) as server:
            with pytest.raises(ConnectionError, match=error):
                audience.attend(HOST, server.port, 1)
        assert audience.work.count == 0


# The askers.


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def page(*messages: bytes) -> bytes:
    return b'{"messages":[%b],"gap":null}' % b",".join(messages)


def answering(*answers: list[bytes]) -> Serve:
    """Return a server that gives these answers, each in pieces, to one connection after the other."""
    given = iter(answers)

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while read_request(sock):
            for piece in next(given):
                sock.sendall(piece)

    return serve


def test_askers_take_answers_however_they_come() -> None:
    messages = hub_messages(2)
    full = answer(page(*messages))
    in_pieces = [full[start : start + 5] for start in range(0, len(full), 5)]
    askers = Askers()
    with closing(Server(answering([full], in_pieces, [full[:40], full[40:]], [answer(page())]))) as server:
        askers.ask(HOST, server.port, 1, 0, 3)
        askers.ask(HOST, server.port, 1, 2, 1)
    expected = Work(0, "").then(3, map(hub_item, messages)).then(1, [])
    assert askers.work == expected
    assert askers.figures.keys() == {"p99_2", "p99_0"}
    assert min(askers.figures.values()) > 0.0


def test_more_connections_than_questions_are_not_opened() -> None:
    askers = Askers()
    opened: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        while request := read_request(sock):
            opened.append(request)
            sock.sendall(answer(page()))

    with closing(Server(serve)) as server:
        askers.ask(HOST, server.port, 8, 17, 3)
    assert len(opened) == 3
    assert all(b" /websocket/messages?since=17 " in request for request in opened)
    assert askers.work.count == 3


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([answer(page()), answer(page(*hub_messages(1)))], "an answer differs from the one before"),
        ([answer(b'{"error":"later"}', b"429 Too Many Requests")], r"not an answer of 200.*429 Too Many"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], "not an answer of 200 with its length"),
    ],
)
def test_another_answer_than_expected_ends_it(answers: list[bytes], error: str) -> None:
    with closing(Server(answering(*([one] for one in answers)))) as server:
        with pytest.raises(ValueError, match=error):
            Askers().ask(HOST, server.port, 1, 0, 2)


def test_a_server_that_hangs_up_ends_it() -> None:
    with closing(Server(lambda sock: sock.shutdown(socket.SHUT_WR))) as server:
        with pytest.raises(ConnectionError):
            Askers().ask(HOST, server.port, 1, 0, 1)


def test_a_storm_asks_once_from_each_of_many_clients() -> None:
    messages = hub_messages(3)
    heads = iter(range(100))
    asked: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        while request := read_request(sock):
            asked.append(request)
            # The head of the log moves on meanwhile, and so answers differ behind their messages.
            body = b'{"messages":[%b],"head":%d}' % (b",".join(messages), next(heads))
            sock.sendall(answer(body))

    askers = Askers()
    with closing(Server(serve)) as server:
        askers.storm(HOST, server.port, 5, 3)
    assert len(asked) == 5
    assert all(b" /websocket/messages?since=0&limit=3 " in request for request in asked)
    assert askers.work == Work(0, "").then(5, map(hub_item, messages))
    assert askers.figures["storm"] > 0.0
    assert askers.figures["recovered"] > 0.0
    assert askers.storm_times is not None
    assert askers.storm_times[0] < askers.storm_times[1]


def test_a_storm_is_told_other_messages() -> None:
    with closing(Server(answering([answer(page())], [answer(page(*hub_messages(1)))]))) as server:
        with pytest.raises(ValueError, match="the answers differ"):
            Askers().storm(HOST, server.port, 2, 1)


def test_a_storm_at_a_closed_door_fails() -> None:
    with closing(socket.create_server((HOST, 0))) as listener:
        port: int = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Askers().storm(HOST, port, 2, 1)


# The crowd.


def test_the_crowd_obeys_and_sums_up() -> None:
    messages = hub_messages(5)
    is_timing = threading.Event()

    def serve(sock: socket.socket) -> None:
        if read_request(sock).startswith(b"GET /websocket HTTP"):
            sock.sendall(SWITCHING)
            assert is_timing.wait(10)
            sock.sendall(b"".join(map(frame, messages[2:])))
            sock.recv(1)
        else:
            sock.sendall(answer(page(*messages[:2])))

    crowd = Crowd(HOST)
    orders = crowd.orders
    before = crowd.has_served
    with pytest.raises(RuntimeError, match="no audience was gathered"):
        orders["attend"](1, 1)
    with closing(Server(serve)) as server:
        orders["gather"](WEBSOCKET, 5, 2)
        assert (before, crowd.has_served) == (False, True)
        orders["attend"](server.port, 1)
        crowd.expect()
        orders["schedule"](1_000_000, 20_000)
        is_timing.set()
        orders["time"](3)
        orders["watched"]()
        assert crowd.work == broadcast_work(messages[2:], 1)
        # All came long after they were due, which was in 1970, and not in a storm.
        assert crowd.figures["quiet"] > 1e9
        orders["storm"](server.port, 1, 2)
        crowd.close()
    asked = Work(0, "").then(1, map(hub_item, messages[:2]))
    assert crowd.work == joined(broadcast_work(messages[2:], 1), asked)
    assert crowd.work.count == 4
    assert crowd.figures.keys() >= {"storm", "recovered"}


def test_delays_in_the_storm_are_told_apart() -> None:
    # Due at 10, 20, 30 and 40 s; the second client has got less than the first.
    arrivals = [[10.001, 20.5, 30.25, 40.002], [10.003]]
    found = delays(arrivals, 10.0, 10.0, storm=(15.0, 35.0))
    assert found == {"live": pytest.approx(500.0), "quiet": pytest.approx(3.0)}
    assert delays(arrivals, 10.0, 10.0, storm=None) == {"quiet": pytest.approx(500.0)}
    assert delays([[]], 10.0, 10.0, storm=(15.0, 35.0)) == {}


# The generator and the harness.


def test_why_an_order_failed_is_told() -> None:
    generator = Generator()
    generator.start()
    with closing(Server(speaking(b"HTTP/1.1 403 Forbidden\r\n\r\n"))) as server:
        generator.address.order("gather", WEBSOCKET, 1)
        with pytest.raises(RuntimeError, match=rf"attend {server.port} 1: the handshake was refused: b'HTTP"):
            generator.address.order("attend", server.port, 1)
    generator.stop()


def forgetful(gateway: Gateway, params: Params) -> Measurement:
    """Claim more than its clients got."""
    messages = hub_messages(2)

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + frame(messages[0]))

    with closing(Server(serve)) as server:
        gateway.order("gather", WEBSOCKET, 2)
        gateway.order("attend", server.port, params["clients"])
        gateway.order("watch", 1)
        gateway.order("watched")
    return Measurement({"rate": 1.0}, broadcast_work(messages, params["clients"]))


def test_deliveries_that_are_missing_make_a_failure() -> None:
    case = Case(
        name="case",
        title="",
        notes="",
        metrics=(Metric("rate", "deliveries/s", more_is_better=True),),
        contenders=(Contender("forgetful", f"{__name__}:forgetful"),),
        baseline="forgetful",
        full={"clients": 3},
        quick={"clients": 3},
    )
    (result,) = run_case(case, rounds=1, params=case.quick).results
    assert result.error is not None
    assert re.fullmatch(r"did Work\(count=6, .*\), but the generator Work\(count=3, .*\)", result.error)


def compared() -> CaseResult:
    case = Case(
        name="case",
        title="a case",
        notes="",
        metrics=(
            Metric("rate", "turns/s", more_is_better=True),
            Metric("own", "us of its own", more_is_better=False, is_common=False),
        ),
        contenders=tuple(Contender(name, "") for name in ("plain", "ours", "floor")),
        baseline="plain",
        full={},
        quick={},
        subject="ours",
    )
    result = CaseResult(case, {}, 2)
    for number, factor in enumerate((1.0, 3.0)):
        for name, rate in (("plain", 10.0), ("ours", 20.0), ("floor", 40.0)):
            figures = {"rate": rate * factor} | ({"own": 2.0} if name == "ours" else {})
            result.results.append(Result(name, number, Measurement(figures, Work(0, ""))))
    return result


def test_the_subject_is_put_beside_each_of_the_others() -> None:
    result = compared()
    text = report.case_text(result)
    assert "  ours = 2.00x (2.00 .. 2.00) plain; 0.50x (0.50 .. 0.50) floor\n" in text
    (case,) = report.as_json({}, [result])["cases"]
    ratios = {one["name"]: one["summary"]["rate"]["subject_ratio"] for one in case["contenders"]}
    assert ratios["floor"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert ratios["ours"]["median"] == 1.0


def test_a_figure_that_only_some_have_is_shown_for_those() -> None:
    text = report.case_text(compared())
    _, _, table = text.partition("us of its own")
    assert re.search(r"^  ours +2 ", table, re.MULTILINE)
    assert not re.search(r"^  (plain|floor) ", table, re.MULTILINE)
    assert "FAILED" not in table
    assert "ours =" not in table


# Programs that are contenders.

_PROGRAM: Final = """
import sys
print("port 7", flush=True)
for line in sys.stdin:
    sum(range(300_000))
    print("heard", line.strip(), flush=True)
"""


def test_a_program_is_told_and_heard_and_its_cpu_counted() -> None:
    with running((sys.executable, "-c", _PROGRAM)) as program:
        assert program.hear("port") == "7"
        before = program.cpu()
        program.tell("one", "two")
        assert program.hear("heard") == "one"
        assert program.hear("heard") == "two"
        assert before < program.cpu() < before + 60.0
        assert program.memory() > 1024 * 1024
        program.tell("three")
        with pytest.raises(RuntimeError, match="did not say 'done' but 'heard three'"):
            program.hear("done")


def test_what_has_another_checksum_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "ws.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(PeerMissing, match="ws.tgz has another checksum"):
        programs._unpack(archive, tmp_path)
    assert [*tmp_path.iterdir()] == [archive]


def test_a_program_that_cannot_be_brought_says_why() -> None:
    with pytest.raises(PeerMissing, match="could not be brought: it is not there"):
        programs._run(sys.executable, "-c", "import sys; sys.exit('it is not there')")
    with pytest.raises(PeerMissing, match="could not be brought: /nowhere/npm: FileNotFoundError"):
        programs._run("/nowhere/npm", "pack")


# The cases, with those contenders that bring nothing, and in small.

TINY: Final[dict[str, Params]] = {
    "broadcast": {"clients": 5, "warm": 2, "count": 20, "paced": 3, "pause": 5},
    "bursts": {"clients": 5, "warm": 2, "count": 40},
    "idle": {"clients": 20, "warm": 5, "beat": 200, "idle": 300},
    "recovery": {"connections": 2, "warm": 1, "requests": 5, "large": 2},
    "storm": {"live": 3, "pause": 2, "count": 200, "calm": 50, "clients": 60, "missed": 50},
}


ALONE: Final = [(name, one.target) for name in TINY for one in CASES[name].contenders if not one.peer]


@pytest.mark.parametrize(("name", "target"), ALONE)
def test_who_brings_nothing_does_the_work_and_has_figures_for_it(name: str, target: str) -> None:
    run: Run = resolve_name(target)
    generator = Generator()
    generator.start()
    measurement = run(generator.address, TINY[name])
    assert measurement.work.count > 0
    assert measurement.work == generator.work
    figures = {**measurement.figures, **generator.figures}
    assert figures.keys() >= {metric.name for metric in CASES[name].metrics if metric.is_common}
    assert min(figures.values()) >= 0.0
    generator.stop()


def test_a_machine_that_allows_too_few_connections_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"allows \d+ open files, and 1000000000 are needed \(ulimit -n\)"):
        quiet.check_files(10**9)
    quiet.check_files(10)


def test_the_goals_of_the_hub_are_of_contenders_and_metrics_that_there_are() -> None:
    for case in CASES.values():
        names = {contender.name for contender in case.contenders}
        for goal in case.goals:
            assert {goal.of, goal.to or goal.of} <= names
            assert goal.metric in {metric.name for metric in case.metrics}
