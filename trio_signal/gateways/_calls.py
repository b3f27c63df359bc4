"""HTTP requests as values, and JSON bodies with files in them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from .._attachments import OutgoingAttachment
from .._errors import ConfigurationError, SignalError

Body = bytes | AsyncGenerator[bytes]

_TYPE: Final = {"Content-Type": "application/json"}

#: The headers of a request whose body is JSON that is there. How long it is, who writes the request sees.
JSON: Final[Mapping[str, str]] = MappingProxyType(_TYPE)


class LocalFileError(SignalError):
    """A file to be attached could not be read to its end while it was being sent."""


class Call(msgspec.Struct, frozen=True):
    """An HTTP request.

    Attributes:
        method: the HTTP method.
        path: path and query behind the base path.
        headers: beside the credentials, and the length of a body that is there; what comes in pieces has it.
        body: bytes, or an iterator over them that reads files as it goes; None for none. An iterator raises
            :class:`LocalFileError`.
    """

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: Body | None = None


def json_call(method: str, path: str, value: object) -> Call:
    """Return a request with a JSON body."""
    return Call(method, path, JSON, msgspec.json.encode(value))


def call_with_files(
    method: str,
    path: str,
    fields: object,
    *,
    place: tuple[str, ...],
    files: Sequence[OutgoingAttachment],
) -> Call:
    """Return a request with a JSON object, whose list at ``place`` holds the files as data URIs.

    The files are read as they go, so that none is in memory as a whole.

    Args:
        method: the HTTP method.
        path: path and query behind the base path.
        fields: the object, without that list; whatever msgspec writes as one.
        place: the keys that lead to it; all but the last must lead to the last field of its object.
        files: what it holds; without any there is no list.
    """
    head = msgspec.json.encode(fields)
    if not files:
        return Call(method, path, JSON, head)
    # They are spliced in before the closing braces, each between its data-URI head and a quote.
    braces = b"}" * len(place)
    opening = head.removesuffix(braces) + b"," + msgspec.json.encode(place[-1]) + b':["'
    heads = [msgspec.json.encode(file.head())[1:-1] for file in files]
    closing = b'"]' + braces
    size = len(opening) + len(closing) + len(b'","') * (len(heads) - 1)
    size += sum(map(len, heads)) + sum(file.encoded_size() for file in files)
    return Call(method, path, {**JSON, "Content-Length": str(size)}, _pieces(opening, heads, files, closing))


# HTTP clients ask for an async iterable. Nothing is open between steps, so leaving it half way leaks nothing.
async def _pieces(  # noqa: ASYNC900, ASYNC911
    opening: bytes, heads: Sequence[bytes], files: Sequence[OutgoingAttachment], closing: bytes
) -> AsyncGenerator[bytes]:
    joint = opening
    for head, file in zip(heads, files, strict=True):
        yield joint + head  # noqa: ASYNC911
        for start in file.starts():
            yield await _read_piece(file, start)
        joint = b'","'
    yield closing  # noqa: ASYNC911


async def _read_piece(file: OutgoingAttachment, start: int) -> bytes:
    try:
        return await file.encoded(start)
    except (OSError, ConfigurationError) as error:
        raise LocalFileError(f"an attachment could not be read while sending: {error}") from error
