"""Files in JSON: base64, bare or as data URIs, decoded without holding up anybody else."""

import base64
import re
from typing import Final

import msgspec
import trio

from .._attachments import OutgoingAttachment
from ._bodies import decoded, refused

#: The most files of one message.
_MOST_FILES: Final = 32

#: So much base64 is decoded before others have their turn, in characters; a multiple of 4.
_PIECE: Final = 1024 * 1024

#: The most of what goes before a file's contents: ``data:MIME;filename=NAME;base64``.
_MOST_LABEL: Final = 1024

#: A file that comes without its type is sent as what its first bytes say, as the gateway would have done.
_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
    (re.compile(rb"OggS"), "audio/ogg"),
    (re.compile(rb"%PDF-"), "application/pdf"),
)


class _Files(msgspec.Struct):
    base64_attachments: list[str] | None


async def read_files(field: str, value: msgspec.Raw) -> tuple[OutgoingAttachment, ...]:
    """Decode the files of one message. A checkpoint; others have their turn between its steps.

    Args:
        field: what the list is called.
        value: the list, as JSON; null for none.

    Raises:
        HttpError: it is none (422), or one of them is no file; it is named.
    """
    await trio.lowlevel.checkpoint()
    return tuple([await _file(f"{field}[{n}]", text) for n, text in enumerate(_texts(field, value))])


async def decode(field: str, coded: str) -> bytes:
    """Decode base64 piece by piece. A checkpoint.

    Raises:
        HttpError: it is none (422); the field is named.
    """
    await trio.lowlevel.checkpoint()
    # Line breaks are what the base64 program makes, and the gateway takes them.
    coded = coded.replace("\n", "").replace("\r", "")
    data = bytearray()
    try:
        for start in range(0, len(coded), _PIECE):
            data += base64.b64decode(coded[start : start + _PIECE], validate=True)
            await trio.lowlevel.checkpoint()
    except ValueError:
        raise refused(field, "it is not base64") from None
    # A piece that ends with a filling is valid, but where another follows the length tells.
    if len(data) != len(coded) // 4 * 3 - coded.count("=", -2):
        raise refused(field, "it is not base64")
    if not data:
        raise refused(field, "it is empty")
    return bytes(data)


def _texts(field: str, value: msgspec.Raw) -> list[str]:
    """Return the files' texts, after making sure that there are few."""
    body = b'{"base64_attachments":%b}' % bytes(value)
    # One behind each but the last, and one behind its label: millions are seen without taking them apart.
    if body.count(b",") < 2 * _MOST_FILES:
        texts = decoded(body, _Files, {}).base64_attachments or []
        if len(texts) <= _MOST_FILES:
            return texts
    raise refused(field, f"give at most {_MOST_FILES}")


async def _file(field: str, text: str) -> OutgoingAttachment:
    name, mime, coded = _split_data_uri(field, text) if text.startswith("data:") else (None, None, text)
    data = await decode(field, coded)
    if name is None and mime is None:
        mime = next((kind for signature, kind in _SIGNATURES if signature.match(data)), None)
    return OutgoingAttachment(data, name, mime, len(data))


def _split_data_uri(field: str, text: str) -> tuple[str | None, str | None, str]:
    """Return file name, content type and contents. Other parameters are passed over, as the gateway does."""
    label, comma, coded = text.partition(",")
    if not comma or len(label) > _MOST_LABEL or not label.endswith(";base64"):
        raise refused(field, "a data URI must be like data:image/png;filename=a.png;base64,…")
    mime, *parameters = label.removeprefix("data:").removesuffix(";base64").split(";")
    names = [p.removeprefix("filename=") for p in parameters if p.startswith("filename=")]
    return next(iter(names), "") or None, mime or None, coded
