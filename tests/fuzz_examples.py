"""What strangers write to us when they mean well: what was recorded, and what nobody has recorded yet."""

import base64
import json
from pathlib import Path
from typing import Any, Final, cast

from trio_signal import AnswerError, Certainty, Dropped, DropReason, Failed, FailedRecipient, Sent
from trio_signal._attachments import OutgoingAttachment
from trio_signal._contents import Mention, Quote, Reaction, RemoteDelete, Text
from trio_signal.store._codec import encode_content, encode_outcome
from trio_signal.testing import server_frame

DATA: Final = Path(__file__).parent / "data"

ACCOUNT: Final = "+15550001"
PEER: Final = "+15550002"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
UUID: Final = "01234567-89ab-cdef-0123-456789abcdef"


def _recordings() -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(DATA.glob("gateway-*.json"))]


def _cases() -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads((DATA / "signal_cli_cases.json").read_bytes())["cases"])


def _payload(frame: bytes) -> bytes:
    """Return what a frame of a server's holds."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def _written(*values: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)


FRAMES: Final = tuple(
    _payload(base64.b64decode(frame))
    for recording in _recordings()
    for frame in recording["websocket_frames_base64"]
)
RESPONSES: Final = tuple(
    exchange["response"].encode()
    for recording in _recordings()
    for exchange in recording["http"]
    if exchange["response"]
)
REQUESTS: Final = tuple(
    exchange["request"].encode() for recording in _recordings() for exchange in recording["http"]
)
BODIES: Final = tuple({response.partition(b"\r\n\r\n")[2] for response in RESPONSES})
RPC_ANSWERS: Final = (
    *{case["answer"].encode() for case in _cases()},
    *_written(
        {
            "jsonrpc": "2.0",
            "id": "1",
            "result": {
                "timestamp": 1,
                "results": [
                    {"recipientAddress": {"uuid": UUID, "number": PEER}, "type": "SUCCESS"},
                    {
                        "recipientAddress": {"number": PEER},
                        "type": "RATE_LIMIT_FAILURE",
                        "token": "t",
                        "retryAfterSeconds": 5,
                    },
                ],
            },
        },
        {
            "id": "1",
            "error": {"code": -5, "message": "no", "data": {"response": {"results": [{"type": "x"}]}}},
        },
        {"id": "1", "result": [{"id": "AA==", "name": "g", "members": [{"number": PEER, "uuid": UUID}]}]},
        {"id": "1", "result": {"groupId": "AA=="}},
        {"id": "1", "result": [{"number": PEER, "profile": {"givenName": "A", "about": "x"}}]},
        {"id": "1", "result": {"data": "aGVsbG8="}},
    ),
)
REST_RESULTS: Final = _written(
    [{"id": GROUP, "name": "g", "members": [PEER, {"uuid": UUID}], "invite_link": "", "blocked": False}],
    {"id": GROUP},
    [{"number": PEER, "profile": {"about": "x"}, "message_expiration": "60", "blocked": None}],
    [ACCOUNT],
    {"device_link_uri": "sgnl://linkdevice?uuid=a&pub_key=b"},
    None,
)
HUB_FRAMES: Final = (
    *_written(
        {"type": "hello", "epoch": "Kx3v", "head": 4, "oldest": 2, "heartbeat_interval": 15.0},
        {"type": "message", "sequence_number": 3, "timestamp": 1_795_302_674_123, "data": {"envelope": {}}},
        {"type": "message", "sequence_number": 4, "timestamp": 1_795_302_674_123, "data": "no JSON"},
        {"type": "gap", "sequence_number": 5, "timestamp": 5, "reason": "gateway", "since": 1, "until": 2},
        {"type": "gap", "reason": "expired", "first": 3, "last": 4},
        {"type": "gap", "reason": "epoch_changed", "first": None, "last": None},
        {"type": "heartbeat", "head": 4},
        {"type": "token_expiring", "expires_in": 25.0},
        {"type": "goodbye", "retry_after": 3.2},
        {"type": "direct", "connection_sequence": 1, "timestamp": 5, "data": {"a": True}},
    ),
)
SENDS: Final = _written(
    {"recipients": [PEER], "message": "hi", "number": ACCOUNT, "text_mode": "styled"},
    {
        "recipients": [GROUP],
        "message": "hi @ https://a.example/x",
        "quote_timestamp": 5,
        "quote_author": PEER,
        "quote_message": "q",
        "mentions": [{"start": 3, "length": 1, "author": UUID}],
        "link_preview": {"url": "https://a.example/x", "title": "t", "base64_thumbnail": "aGVsbG8="},
        "base64_attachments": ["aGVsbG8=", "data:image/png;filename=a.png;base64,iVBORw0KGgo="],
        "edit_timestamp": 7,
    },
    {"recipients": [PEER], "message": "", "view_once": True, "base64_attachments": ["/9j/"]},
    {"recipient": PEER, "reaction": "👍", "target_author": UUID, "timestamp": 1_700_000_000_000},
    {"recipient": GROUP, "timestamp": 1_700_000_000_000},
)
OPERATIONS: Final = _written(
    {"operation": "SendReceipt", "recipient": PEER, "timestamp": 1_700_000_000_000, "kind": "read"},
    {"operation": "SendTyping", "recipient": GROUP, "stop": True},
    {"operation": "CreateGroup", "name": "g", "members": [PEER, UUID], "link": "enabled", "expiration": 60},
    {"operation": "UpdateGroup", "group": GROUP, "avatar": "aGVsbG8=", "permissions": {"add_members": "x"}},
    {"operation": "ChangeMembers", "group": GROUP, "action": "add", "members": [PEER]},
    {"operation": "JoinGroup", "group": "https://signal.group/#abc"},
    {"operation": "ListContacts", "all_recipients": True},
    {"operation": "UpdateProfile", "name": "n", "about": "x", "avatar": None},
    {"operation": "SubmitRateLimitChallenge", "challenge_token": "t", "captcha": "signalcaptcha://x"},
    {"operation": "DeleteAttachment", "id": "a.png"},
)
CLAIMS: Final = _written(
    {"sub": "me", "aud": "trio-signal", "exp": 5_000_000_100, "iat": 4_999_999_000, "nbf": 0},
    {"sub": "me", "aud": ["trio-signal", "x"], "exp": 5e9},
)
QUERIES: Final = (
    b"since=41&epoch=Kx3v&limit=10",
    b"since=0",
    b"ticket=abc&since=999999999999999999&epoch=%C3%A4+b",
    b"limit=100000&since=00",
)
HANDSHAKES: Final = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n"
    + server_frame(b"hi"),
    b"upgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-accept: ACCEPT\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" + server_frame(b"x" * 300),
)
STYLED: Final = (
    b"**bold *italic* `mono` ~strike~** ||spoiler||",
    "\\**a\\*b* ||\N{ROCKET}|| ~~x~ ***y***".encode(),
)
STREAM: Final = (
    b":\nevent:receive\ndata:" + FRAMES[0] + b"\n\n:\n",
    b"\xef\xbb\xbfevent: receive\r\ndata: 1\r\ndata: 2\r\n\r\n:\r\rid:5\rdata\r\r",
)
LINES: Final = (
    b'{"recipient": "+15550002", "text": "hi", "id": "1"}\n\n{"recipient": "x"}\nnonsense\n',
    b'{"recipient": "group.x", "text": "\\ud83d\\ude80"}',
)
NAMES: Final = (
    b"photo.jpg",
    b"../../etc/passwd",
    "a\u202egpj.exe".encode(),
    b"con.txt",
    b"x" * 300 + b".tar.gz",
)
REFUSALS: Final = (
    b"text/event-stream\n\n200\n",
    b"text/html\ngzip\n404\n404 page not found",
    b"text/event-stream; charset=utf-8\nbr\n200\nNo context found for request",
)
STORED: Final = (
    encode_content(Text("hi **b**", styled=True, quote=Quote(5, PEER, "q"), mentions=(Mention(0, 1, UUID),))),
    encode_content(
        Text("", (OutgoingAttachment(Path("/a/b.png"), "b.png", "image/png", 5),), view_once=True)
    ),
    encode_content(Reaction("👍", UUID, 1_700_000_000_000)),
    encode_content(RemoteDelete(1_700_000_000_000)),
    encode_outcome(Sent(5, (FailedRecipient(PEER, "x", 5.0, "t"),))),
    encode_outcome(Dropped(DropReason.EXPIRED)),
    encode_outcome(Failed(AnswerError("no", status=400, text="no"), Certainty.NOT_SENT)),
)
