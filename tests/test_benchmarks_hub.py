"""The benchmarks of the hub: their clients count what really came; ours is put beside each of the others."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.askers import Askers
from benchmarks.audience import Audience
from benchmarks.cases import CASES
from benchmarks.contender import Gateway, Measurement, Params, Work
from benchmarks.generators import HOST, Generator
from benchmarks.harness import Case, CaseResult, Contender, Metric, Result, run_case
from benchmarks.traffic import broadcast_work, hub_item, hub_messages

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


def frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x81, 127)) + size.to_bytes(8, "big") + payload


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
        sock.recv(1)

    return serve


@pytest.fixture
def audience() -> Iterator[Audience]:
    it = Audience()
    yield it
    it.close()


# The audience.


@pytest.mark.parametrize("size", [1, 2, 3, 700, 10_000_000])
def test_the_audience_counts_whole_messages_however_they_come(audience: Audience, size: int) -> None:
    long = b'{"type":"message","sequence_number":4,"timestamp":7,"data":"%b"}' % (b"x" * 70_000)
    short = b'{"type":"message","sequence_number":5,"timestamp":7,"data":{}}'
    messages = [*hub_messages(3), long, short]
    sent = SWITCHING + frame(HELLO) + b"\x89\x00" + b"".join(map(frame, messages))
    # The tail in pieces, so that a length is cut in two as well.
    pieces = [sent[: -80_000 if size == 1 else 60]]
    pieces += [sent[start : start + size] for start in range(len(pieces[0]), len(sent), size)][:3000]
    pieces.append(sent[sum(map(len, pieces)) :])
    with closing(Server(speaking(*pieces))) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(len(messages))
        assert audience.work == Work(10, Work.of(map(hub_item, messages)).digest)
        audience.close()


def test_what_is_lacking_is_lacking_in_the_work(audience: Audience) -> None:
    # The second client is hung up on in the middle of its second message.
    first, second = hub_messages(2)
    whole = frame(first) + frame(second)
    ends = iter((whole, whole[:-1]))

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + next(ends))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(2)
        assert audience.work == Work(3, "the clients got different messages")
        audience.close()


def test_other_messages_of_the_same_number_are_found_out(audience: Audience) -> None:
    first, second = hub_messages(2)
    orders = iter((frame(first) + frame(second), frame(second) + frame(first)))

    def serve(sock: socket.socket) -> None:
        speaking(SWITCHING, next(orders))(sock)

    with closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 2)
        audience.watch(2)
        assert audience.work.count == 4
        assert audience.work != broadcast_work([first, second], 2)
        audience.close()


def test_the_spread_is_of_the_messages_that_were_timed(audience: Audience) -> None:
    first, second = map(frame, hub_messages(2))
    may_go_on = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(SWITCHING + first)
        assert may_go_on.wait(10)
        sock.sendall(second)
        sock.recv(1)

    with closing(Server(serve)) as server:
        audience.attend(HOST, server.port, 3)
        audience.watch(1)
        assert audience.figures == {}
        may_go_on.set()
        audience.time(2)
        assert audience.figures["spread"] > 0.0
        assert audience.work == broadcast_work(hub_messages(2), 3)
        audience.close()


def test_nobody_attends_what_refuses(audience: Audience) -> None:
    with closing(Server(speaking(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"))) as server:
        with pytest.raises(ConnectionError, match=r"refused: b'HTTP/1\.1 503"):
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


# The generator and the harness.


def test_why_an_order_failed_is_told() -> None:
    generator = Generator()
    generator.start()
    with closing(Server(speaking(b"HTTP/1.1 403 Forbidden\r\n\r\n"))) as server:
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
    assert re.search(r"^  ours +2\.00 ", table, re.MULTILINE)
    assert not re.search(r"^  (plain|floor) ", table, re.MULTILINE)
    assert "FAILED" not in table
    assert "ours =" not in table


# Both cases as they are run by hand.


@pytest.mark.parametrize(("name", "count"), [("broadcast", 100 * (20 + 400 + 30)), ("recovery", 870)])
def test_a_quick_run_prints_ratios_to_each_of_the_others(
    name: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, file = CASES[name], tmp_path / "results.json"
    assert command.main(["run", name, "--quick", "--rounds", "1", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert f"all had the same {count:,} messages in the same order" in out
    others = [contender.name for contender in case.contenders if contender.name != case.subject]
    ratios = "; ".join(rf"[\d.]+x \([\d.]+ \.\. [\d.]+\) {re.escape(other)}" for other in others)
    assert len(re.findall(f"{case.subject} = {ratios}", " ".join(out.split()))) == len(
        [metric for metric in case.metrics if metric.is_common]
    )
    (kept,) = json.loads(file.read_text())["cases"]
    for contender in kept["contenders"]:
        figures = contender["rounds"][0]["measurement"]["figures"]
        assert figures.keys() >= {metric.name for metric in case.metrics if metric.is_common}
        assert min(figures.values()) > 0
