"""Requests as values: JSON with files spliced in, that are read as they go."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal import OutgoingAttachment, OutgoingMessage, Quote, SignalError
from trio_signal._attachments import check_attachments
from trio_signal._contents import Text
from trio_signal._dial import parse_url
from trio_signal.gateways._calls import Call, LocalFileError, call_with_files, json_call
from trio_signal.gateways._clients import RequestWriter
from trio_signal.gateways._rest_requests import encode_message

ACCOUNT = "+15550001"
ADDRESS = parse_url("http://gateway.example")
PEER = "+15550002"
GROUP = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
PIECE = 6

#: What json.loads() gives.
Json: TypeAlias = Any


async def collect(content: bytes | AsyncIterator[bytes] | None) -> bytes:
    if content is None or isinstance(content, bytes):
        return content or b""
    return b"".join([piece async for piece in content])


async def collect_into(sent: bytearray, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        sent += piece


async def encoded(message: OutgoingMessage) -> Json:
    """Return the decoded body, having checked that its length is as promised."""
    assert isinstance(message.content, Text)
    call = encode_message(message, ACCOUNT)
    assert isinstance(call.body, bytes) == (not message.content.attachments)
    assert (call.method, call.path) == ("POST", "/v2/send")
    return await decoded(call)


async def decoded(call: Call) -> Json:
    body = await collect(call.body)
    head = RequestWriter(ADDRESS).write(call, []).head
    assert head.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert head.count(b"\r\nContent-") == 2
    return json.loads(body)


@pytest.mark.parametrize("recipient", [PEER, GROUP, "00000000-0000-4000-8000-000000000002", "ada.01"])
async def test_a_plain_message_is_the_least_that_the_gateway_needs(recipient: str) -> None:
    assert await encoded(OutgoingMessage(recipient, "hello")) == {
        "number": ACCOUNT,
        "recipients": [recipient],
        "message": "hello",
    }


async def test_styles_and_quotes_go_in_their_own_fields() -> None:
    quote = Quote(1795300291244, PEER, 'what "was" that?')
    assert await encoded(OutgoingMessage(PEER, Text("**no**", styled=True, quote=quote))) == {
        "number": ACCOUNT,
        "recipients": [PEER],
        "message": "**no**",
        "text_mode": "styled",
        "quote_timestamp": 1795300291244,
        "quote_author": PEER,
        "quote_message": 'what "was" that?',
    }


async def test_attachments_are_data_uris_with_name_and_type(tmp_path: Path) -> None:
    path = tmp_path / 'Grüße "von" mir 👋.txt'
    path.write_bytes(b"from disk")
    files = await check_attachments([path, b"from memory", OutgoingAttachment(b"", "empty.png")], limit=100)
    body = await encoded(OutgoingMessage(PEER, Text("", files)))
    assert body == {
        "number": ACCOUNT,
        "recipients": [PEER],
        "message": "",
        "base64_attachments": [
            'data:text/plain;filename=Grüße "von" mir 👋.txt;base64,ZnJvbSBkaXNr',
            "data:application/octet-stream;base64,ZnJvbSBtZW1vcnk=",
            "data:image/png;filename=empty.png;base64,",
        ],
    }


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FILE_NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=";,/\\"), min_size=1, max_size=8
)
SIZE = st.one_of(st.integers(0, 40), st.sampled_from([n * PIECE + d for n in (1, 2, 3) for d in (-1, 0, 1)]))
FILE = st.tuples(SIZE, st.one_of(st.none(), FILE_NAME), st.booleans())


@given(TEXT, st.one_of(st.none(), TEXT), st.booleans(), st.lists(FILE, max_size=4))
@example('"\\\x00\x1f\x7f\u2028👋', '"]}', True, [(PIECE, '"]}', True)])
def test_any_message_is_json_of_the_promised_length(
    text: str, quoted: str | None, styled: bool, files: list[tuple[int, str | None, bool]]
) -> None:
    async def main(folder: Path) -> None:
        given_files: list[OutgoingAttachment] = []
        for n, (size, name, on_disk) in enumerate(files):
            path = folder / str(n)
            path.write_bytes(content(n, size))
            given_files.append(OutgoingAttachment(path if on_disk else path.read_bytes(), name or f"{n}"))
        content_ = Text(
            text,
            await check_attachments(given_files, limit=10**6),
            quote=None if quoted is None else Quote(5, PEER, quoted),
            styled=styled,
        )
        message = OutgoingMessage(PEER, content_)
        body = await encoded(message)
        assert body["message"] == text
        assert body.get("quote_message") == quoted
        assert body.get("text_mode") == ("styled" if styled else None)
        uris: list[str] = body.get("base64_attachments", [])
        assert [base64.b64decode(uri.split(";base64,")[-1], validate=True) for uri in uris] == [
            content(n, size) for n, (size, _, _) in enumerate(files)
        ]
        assert [uri.split(";filename=")[1].rsplit(";base64,")[0] for uri in uris] == [
            name or f"{n}" for n, (_, name, _) in enumerate(files)
        ]

    with pytest.MonkeyPatch.context() as patch, TemporaryFolder() as folder:
        patch.setattr("trio_signal._attachments._PIECE", PIECE)
        trio.run(main, folder)


def content(n: int, size: int) -> bytes:
    """Return bytes that differ from file to file."""
    return bytes((7 * n + i) % 256 for i in range(size))


class TemporaryFolder:
    """A folder for one example; pytest's own lasts for the whole test."""

    def __enter__(self) -> Path:
        from tempfile import TemporaryDirectory

        self._folder = TemporaryDirectory()
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def shrink(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def vanish(path: Path) -> None:
    path.unlink()


@pytest.mark.contract("O5")
@pytest.mark.parametrize("change", [grow, shrink, vanish])
@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE + 1])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_file_that_changed_ends_the_body_before_its_end(
    change: Callable[[Path], None], size: int, which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_signal._attachments._PIECE", PIECE)
    paths = [tmp_path / "0", tmp_path / "1"]
    for path in paths:
        path.write_bytes(b"x" * size)
    message = OutgoingMessage(PEER, Text("hello", await check_attachments(paths, limit=1000)))
    call = encode_message(message, ACCOUNT)
    headers, body = call.headers, call.body
    change(paths[which])
    sent = bytearray()
    assert isinstance(body, AsyncGenerator)
    with pytest.raises(LocalFileError, match="an attachment could not be read while sending: ") as caught:
        await collect_into(sent, body)
    assert isinstance(caught.value, SignalError)
    assert caught.value.__cause__ is not None
    # What has left can be nobody's whole request.
    assert len(sent) < int(headers["Content-Length"])
    assert not sent.endswith(b'"]}')
    with pytest.raises(ValueError, match=r"Unterminated string|Expecting"):
        json.loads(sent)


async def test_no_file_is_read_before_the_body_is() -> None:
    file = OutgoingAttachment(Path("/no/such/file"), "a", "text/plain", 10)
    message = OutgoingMessage(PEER, Text("hello", (file,)))
    call = encode_message(message, ACCOUNT)
    headers, body = call.headers, call.body
    assert isinstance(body, AsyncGenerator)
    assert b'"message":"hello","base64_attachments":["data:text/plain;filename=a;base64,' in await anext(body)
    with pytest.raises(LocalFileError, match="No such file"):
        await anext(body)
    assert int(headers["Content-Length"]) > 100


async def test_files_may_stand_deep_inside() -> None:
    fields: dict[str, Any] = {"id": 1, "params": {"message": "hi", "nested": {}}}
    files = await check_attachments([b"one", b"two"], limit=100)
    call = call_with_files("POST", "/rpc", fields, place=("params", "attachments"), files=files)
    uri = "data:application/octet-stream;base64,"
    assert await decoded(call) == {
        "id": 1,
        "params": {"message": "hi", "nested": {}, "attachments": [f"{uri}b25l", f"{uri}dHdv"]},
    }


async def test_without_files_there_is_no_list() -> None:
    call = call_with_files("POST", "/rpc", {"params": {"x": "}}"}}, place=("params", "files"), files=())
    assert await decoded(call) == {"params": {"x": "}}"}}


async def test_a_value_becomes_the_body() -> None:
    call = json_call("DELETE", "/v1/x", ["ü", None])
    assert (call.method, call.path) == ("DELETE", "/v1/x")
    assert await decoded(call) == ["ü", None]
