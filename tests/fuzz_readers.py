"""Every reader that gets to see what strangers write, and what it promises about any bytes at all.

Each function here reads bytes, and raises AssertionError where a promise is broken; whatever else it
raises is a bug too. Where time matters it is Trio's, and who is not done within an hour of it hangs.
"""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final, cast, get_args

import jwt
import pytest
import trio
from trio.testing import MockClock

from tests.fuzz_examples import ACCOUNT, GROUP, HUB_FRAMES, PEER
from trio_signal import (
    Cursor,
    ReceivedMessage,
    RequestFailed,
    SignalError,
    Undecodable,
    Unsupported,
)
from trio_signal._cli.lines import BadLine, LineSplitter, parse_line
from trio_signal._cli.text import printable
from trio_signal._connections import Connections
from trio_signal._decoding import decode_frame
from trio_signal._dial import parse_url
from trio_signal._errors import AnswerError, LinkLost, WrongGatewayMode
from trio_signal._http import Request as HttpRequest
from trio_signal._http import Unanswered
from trio_signal._http_answers import Headers
from trio_signal._operations import AnyOperation, Operation
from trio_signal._outcomes import Failed, Sent
from trio_signal._saving import safe_name
from trio_signal._styles import parse_styled
from trio_signal._websocket import open_websocket
from trio_signal.gateways import Note, Numbered, SendResult
from trio_signal.gateways._event_answers import read_refusal
from trio_signal.gateways._hub_answers import read_hub_answer
from trio_signal.gateways._hub_frames import HubFrames
from trio_signal.gateways._hub_operations import read_hub_operation
from trio_signal.gateways._operation_answers import read_call_answer
from trio_signal.gateways._rest_answers import read_answer
from trio_signal.gateways._rest_results import read_operation
from trio_signal.gateways._rpc_answers import read_rpc_answer, read_rpc_result
from trio_signal.gateways._rpc_results import FileReader, read_result
from trio_signal.gateways._sse import EventParser
from trio_signal.hub._exchange import HttpError, Request
from trio_signal.hub._http import HttpConnection
from trio_signal.hub._letters import parse_deletion, parse_reaction, parse_send
from trio_signal.hub._operations import parse_operation
from trio_signal.hub._parameters import epoch_of, handshake_key, number
from trio_signal.hub._protocol import as_json
from trio_signal.hub.auth import Authenticator, Identity, Tickets, Unauthorized
from trio_signal.store._codec import decode_content, decode_outcome, encode_content, encode_outcome
from trio_signal.testing import memory_connection

#: Longer than anything takes here, in seconds of Trio's clock.
PATIENCE: Final = 3600.0


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut bytes into pieces."""
    return (data[start : start + size] for start in range(0, len(data), size))


def read_envelope(data: bytes) -> None:
    """Decode a frame of a gateway's, and read all that can be asked of it."""
    event = decode_frame(data)
    assert event.raw == data
    if isinstance(event, ReceivedMessage):
        for name, value in vars(ReceivedMessage).items():
            if isinstance(value, property):
                getattr(event, name)
        hash(event.duplicate_key)
    assert len(repr(event)) < 10_000 + len(data)
    # The hub hands it on to those whose decoders are less patient.
    json.loads(as_json(data).decode("utf-8"))


def read_hub_frames(data: bytes) -> None:
    """Read what a hub says, a line a frame, with and without a place to go on from."""
    frames = data.split(b"\n")
    for resume in (None, Cursor(5), Cursor(5, "Kx3v", 2)):
        for greeted in (False, True):
            _read_link(HubFrames(resume), [HUB_FRAMES[0], *frames] if greeted else frames)


def _read_link(reader: HubFrames, frames: list[bytes]) -> None:
    before: int | None = None
    for frame in frames:
        try:
            items = reader.read(frame, 1_795_302_674_000)
        except (LinkLost, WrongGatewayMode):
            return
        assert len(items) <= 3
        for item in items:
            _check_item(item)
        assert 1 <= reader.heartbeat_interval <= 600
        if reader.position is not None:
            assert before is None or reader.position.sequence >= before or reader.position.epoch
            before = reader.position.sequence


def _check_item(item: Numbered) -> None:
    if isinstance(item.item, str | bytes):
        decode_frame(item.item)
    else:
        assert isinstance(item.item, Note | Undecodable) or item.item.since <= item.item.until


def _check_result(result: SendResult) -> None:
    assert isinstance(result.outcome, Sent | Failed)
    if result.retry or result.refused:
        assert isinstance(result.outcome, Failed)
        assert result.outcome.certainty == "not_sent", "what may have gone out is never sent again"
    assert all(isinstance(token, str) and token for token in result.challenge_tokens)
    if isinstance(result.outcome, Failed):
        words = str(result.outcome.error)
        assert words.isprintable()
        assert len(words) < 3000


def read_send_answers(data: bytes) -> None:
    """Read an answer to a send as each of the gateways may have given it."""
    for status in (200, 201, 204, 400, 429, 500):
        for reader in (read_answer, read_hub_answer):
            for recipient in (PEER, GROUP):
                result = reader(status, data, recipient=recipient, wait=None)
                _check_result(result)
                assert status == 201 or isinstance(result.outcome, Failed)
        result = read_rpc_answer(status, data, wait=None, request="1")
        _check_result(result)
        assert status == 200 or isinstance(result.outcome, Failed)


def _operations() -> Iterator[Operation[Any]]:
    for kind in cast("tuple[type[Operation[Any]], ...]", get_args(AnyOperation)):
        # Reading a result looks at the kind, and of two kinds at where they are done.
        yield _examples_of(kind)


def _examples_of(kind: type[Operation[Any]]) -> Operation[Any]:
    given: dict[str, dict[str, Any]] = {
        "SendReceipt": {"recipient": PEER, "timestamp": 1_700_000_000_000},
        "SendTyping": {"recipient": PEER},
        "CreateGroup": {"name": "g", "members": ()},
        "UpdateGroup": {"group": GROUP, "name": "g"},
        "ChangeMembers": {"group": GROUP, "action": "add", "members": (PEER,)},
        "JoinGroup": {"group": "https://signal.group/#abc"},
        "QuitGroup": {"group": GROUP},
        "UpdateContact": {"recipient": PEER},
        "UpdateProfile": {"name": "n"},
        "SubmitRateLimitChallenge": {"challenge_token": "t", "captcha": "signalcaptcha://x"},
        "StartLink": {"device_name": "d"},
        "FinishLink": {"uri": "sgnl://linkdevice?uuid=a&pub_key=b", "device_name": "d"},
        "DeleteAttachment": {"id": "a.png"},
    }
    return kind(**given.get(kind.__name__, {}))


ASKED: Final = tuple(_operations())


def read_operation_answers(data: bytes) -> None:
    """Read an answer to each operation as each of the gateways may have given it."""
    read_call_answer(data)
    for reader in (read_operation, read_hub_operation):
        for operation, status in [*zip(ASKED, repeat(200)), *zip(repeat(ASKED[0]), (400, 501))]:
            with contextlib.suppress(RequestFailed, Unsupported):
                reader(operation, status, data)
    with contextlib.suppress(RequestFailed):
        result = read_rpc_result(200, data, request="1")
        for operation in ASKED:
            with contextlib.suppress(RequestFailed):
                read_result(operation, result)


def read_file(data: bytes) -> None:
    """Take a file out of an answer of signal-cli's."""
    reader = FileReader()
    with contextlib.suppress(RequestFailed):
        for piece in pieces(data, 7):
            assert len(reader.feed(piece)) <= len(piece) + 3
            assert len(reader.head) <= 4096 + 7


def read_events_refusal(data: bytes) -> None:
    """Say why an answer is no stream of events: content type, encoding, status and words, a line each."""
    kind, encoding, status, words = (data.split(b"\n", 3) + [b""] * 3)[:4]
    headers = Headers([(b"Content-Type", kind), (b"Content-Encoding", encoding), (b"Server", words)])
    code = int(status) if status.isdigit() and len(status) < 4 else 200
    for account in (None, ACCOUNT):
        error = read_refusal(parse_url("http://127.0.0.1:8080"), account, code, headers, words)
        assert error is None or len(str(error)) < 1000


def read_event_stream(data: bytes) -> None:
    """Read a stream of events whole, byte by byte and in pieces: it comes to the same, and little is held."""
    limit = 50
    found: list[list[object]] = []
    for size in (max(1, len(data)), 1, 3):
        parser = EventParser(limit)
        events: list[object] = []
        for piece in pieces(data, size):
            events += parser.feed(piece)
            assert len(parser._line) + len(parser._data) <= limit + 64
        found.append(events)
    assert found[0] == found[1] == found[2]


def read_lines(data: bytes) -> None:
    """Read standard input: the same lines however they come, and nothing but messages or what is wrong."""
    whole = _lines(data, max(1, len(data)))
    assert whole == _lines(data, 1) == _lines(data, 5)
    assert [line for _, line in whole] == [line for line in data.split(b"\n") if line.strip()]
    for _, line in whole:
        with contextlib.suppress(BadLine):
            parse_line(line)


def _lines(data: bytes, size: int) -> list[tuple[int, bytes]]:
    splitter = LineSplitter()
    return [line for piece in pieces(data, size) for line in splitter.feed(piece)] + list(splitter.end())


def read_styled(data: bytes) -> None:
    """Take the marks out of a text; what is left, and every style, stands in it."""
    text = data.decode("utf-8", "surrogateescape")
    plain, styles = parse_styled(text)
    units = len(plain.encode("utf-16-le", "surrogatepass")) // 2
    assert len(plain) <= len(text)
    assert all(0 <= style.start < style.start + style.length <= units for style in styles)


def read_names(data: bytes) -> None:
    """Make a file's name of what somebody calls a file, and show it on a terminal."""
    text = data.decode("utf-8", "surrogateescape")
    name = safe_name(text)
    assert name == Path(name).name or not name
    assert len(name.encode()) <= 210
    assert not {"/", "\\", "\0", "\n"} & set(name)
    assert name not in {".", ".."}
    assert printable(name) == name
    shown = printable(text)
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert "\u202e" not in shown


def read_letters(data: bytes) -> None:
    """Read a body of one of the hub's routes: a letter, an operation or a refusal that names the fault."""

    async def sent() -> object:
        return await parse_send(data, ACCOUNT)

    readers: tuple[Callable[[], object], ...] = (
        partial(trio.run, sent),
        partial(parse_reaction, data, remove=True),
        partial(parse_deletion, data),
        partial(parse_operation, data),
    )
    for read in readers:
        try:
            read()
        except HttpError as refused:
            _check_refusal(refused, 400, 422)


def _check_refusal(refused: HttpError, *statuses: int) -> None:
    body = refused.answer.body
    assert refused.answer.status in statuses
    assert isinstance(body, bytes)
    assert len(body) < 4000
    assert list(json.loads(body)) == ["error"]


def read_parameters(data: bytes) -> None:
    """Read the target of a recovery, and a handshake's key."""
    request = _requested(b"GET /websocket/messages?" + data + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    if not isinstance(request, Request):
        return
    for read in (partial(number, name="since"), partial(number, name="limit"), epoch_of, handshake_key):
        try:
            value = read(request)
        except HttpError as refused:
            _check_refusal(refused, 400, 422, 426)
        else:
            assert not isinstance(value, int) or 0 <= value < 10**18
            assert not isinstance(value, str) or 0 < len(value) <= 200


def read_request(data: bytes) -> None:
    """Read requests as the hub does, until there are no more: each is one, or is refused by a status."""
    answer = _requested(data)
    if isinstance(answer, Request):
        assert answer.path.startswith("/")
        assert answer.method.isascii()
        assert "?" not in repr(answer)


def _requested(data: bytes) -> Request | int | None:
    """Return the last request on a connection, or the status of its refusal."""

    async def main() -> Request | int | None:
        peer, ours = memory_connection(len(data) + 4096)
        await peer.send_all(data)
        await peer.send_eof()
        connection, last = HttpConnection(ours), None
        with trio.fail_after(PATIENCE):
            try:
                while (request := await connection.next_request()) is not None:
                    last = request
                    await connection.read_body(1000, timeout=30)
            except HttpError as refused:
                return refused.answer.status if last is None else last
        return last

    told = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not isinstance(told, int) or told in (400, 408, 413, 414, 431, 501, 505)
    return told


def read_response(data: bytes) -> None:
    """Read an answer to a request of the client's: it is one, or an error of ours says why not."""

    async def main() -> None:
        peer, ours = memory_connection(len(data) + 4096)

        async def dial() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return ours

        await peer.send_all(data)
        await peer.send_eof()
        connections = Connections(dial)
        with trio.fail_after(PATIENCE), contextlib.suppress(Unanswered, AnswerError):
            answer = await connections.exchange(HttpRequest(b"GET /x HTTP/1.1\r\n\r\n"), max_answer=1000)
            assert len(answer.body) <= 1000
            assert 200 <= answer.status <= 999
        await connections.aclose()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def read_handshake(data: bytes) -> None:
    """Open a WebSocket whose other side answers so, and read from it: an error that says why it ended."""

    async def main() -> None:
        ended: list[str] = []
        peer, ours = memory_connection(1 << 20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, peer)
            with trio.fail_after(PATIENCE):
                try:
                    async with open_websocket(
                        ours, host="x", resource="/", headers=(), max_message_size=1000
                    ) as link:
                        while True:
                            assert all(len(frame) <= 1000 for frame in await link.receive())
                except SignalError as error:
                    ended.append(str(error))
            nursery.cancel_scope.cancel()
        assert len(ended[0]) < 1000

    async def answer(peer: trio.abc.HalfCloseableStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += bytes(await peer.receive_some())
        key = next(
            line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: ")
        )
        start, rest = b"HTTP/1.1 101 Switching Protocols\r\n", data.replace(b"ACCEPT", _accept(key))
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.send_all(rest if data.startswith(b"HTTP/") else start + rest)
            await peer.send_eof()
            while await peer.receive_some():
                pass

    trio.run(main, clock=MockClock(autojump_threshold=0))


def _accept(key: bytes) -> bytes:
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key + guid).digest())  # noqa: S324  (RFC 6455 has it so)


_KEY: Final = b"a key that is good enough for this"
_CHECKER: Final = Authenticator(_KEY, clock=lambda: 5e9)


def read_token(data: bytes) -> None:
    """Judge claims that were signed with the right key, and the same bytes as a token and as a ticket."""
    text = data.decode("latin-1")
    with contextlib.suppress(Unauthorized):
        assert _CHECKER.check(
            jwt.PyJWS(["HS256"]).encode(data, _KEY, algorithm="HS256")
        ).subject.isprintable()
    with pytest.raises(Unauthorized, match=r"^unauthorized$") as caught:
        _CHECKER.check(text)
    assert caught.value.__context__ is None
    tickets = Tickets(clock=lambda: 0.0)
    tickets.issue(Identity("me", None))
    assert tickets.redeem(text) is None
    assert tickets.redeem(data.decode("utf-8", "surrogateescape")) is None


def read_store(data: bytes) -> None:
    """Read what a store says: a message or an outcome that can be written again, or no such thing."""
    with contextlib.suppress(ValueError):
        content = decode_content(data)
        assert decode_content(encode_content(content)) == content
    with contextlib.suppress(ValueError):
        assert repr(decode_outcome(encode_outcome(decode_outcome(data))))
