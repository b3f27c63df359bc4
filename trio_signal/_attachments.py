"""Files that go out with a message: checked when accepted, read when sent."""

import base64
import mimetypes
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import trio

from ._errors import ConfigurationError

#: Read this many bytes at a time; a multiple of 3, so that base64 pieces join without padding.
_PIECE: Final = 3 * 256 * 1024

_UNSAFE_NAME: Final = re.compile(r"[\x00-\x1f\x7f;,/\\\ud800-\udfff]")
_MIME: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


@dataclass(frozen=True, slots=True)
class OutgoingAttachment:
    """One file to send, from disk or from memory.

    A path is looked at when the message is accepted and read only while it is being
    sent, piece by piece, so a file never sits in memory as a whole. Do not change it
    before the message has its outcome: a file whose size has changed by then fails
    the message with certainty ``"not_sent"``.

    Attributes:
        source: a path, or the bytes themselves.
        filename: what the recipient sees; the path's own name by default.
        content_type: the MIME type; guessed from the name by default.
    """

    source: Path | bytes
    filename: str | None = None
    content_type: str | None = None
    size: int = -1

    @property
    def held(self) -> int:
        """How many bytes it keeps in memory while it waits."""
        return len(self.source) if isinstance(self.source, bytes) else 0

    def head(self) -> str:
        """Return what the gateway wants before the base64 text: ``data:MIME;filename=NAME;base64,``."""
        name = f";filename={self.filename}" if self.filename else ""
        return f"data:{self.content_type}{name};base64,"

    def encoded_size(self) -> int:
        """How many bytes :meth:`encoded` gives."""
        return (self.size + 2) // 3 * 4

    def starts(self) -> range:
        """Where the pieces begin that :meth:`encoded` gives, in bytes."""
        # One byte past the promised size is asked for too, to notice a file that grew.
        return range(0, self.size + 1, _PIECE)

    async def encoded(self, start: int) -> bytes:
        """Return one piece of the contents as base64.

        A checkpoint; cancelling is safe, nothing stays open between pieces.

        Raises:
            OSError: the file cannot be read.
            ConfigurationError: it has another size than when it was accepted.
        """
        piece = await self._read(start, min(_PIECE, self.size + 1 - start))
        if start + len(piece) != min(start + _PIECE, self.size):
            raise ConfigurationError("attachments", f"{self.filename!r} changed its size before it was sent")
        return base64.b64encode(piece)

    async def _read(self, start: int, size: int) -> bytes:
        if isinstance(self.source, bytes):
            await trio.lowlevel.checkpoint()
            return self.source[start : start + size]
        # A read from a dead network disk never ends; abandoning it lets the send be cancelled all the same.
        return await trio.to_thread.run_sync(_read_piece, self.source, start, size, abandon_on_cancel=True)


def _read_piece(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


AttachmentLike = str | os.PathLike[str] | bytes | OutgoingAttachment


async def check_attachments(
    attachments: Iterable[AttachmentLike], *, limit: int
) -> tuple[OutgoingAttachment, ...]:
    """Look at each attachment and return it completed with name, type and size.

    A checkpoint; cancelling is safe.

    Args:
        attachments: paths, bytes, or :class:`OutgoingAttachment` for who wants to name them.
        limit: the most that all of them together may be, in bytes.

    Raises:
        ConfigurationError: one is no readable file, or they are too large together.
    """
    await trio.lowlevel.checkpoint()
    given: object = attachments
    if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable):
        raise ConfigurationError("attachments", "give a list of files, even for one")
    checked = tuple([await _check(attachment) for attachment in attachments])
    total = sum(attachment.size for attachment in checked)
    if total > limit:
        raise ConfigurationError(
            "attachments",
            f"{total} bytes together are over the limit of {limit} (option max_attachment_bytes)",
        )
    return checked


async def _check(given: object) -> OutgoingAttachment:
    attachment = given if isinstance(given, OutgoingAttachment) else OutgoingAttachment(_source(given))
    source = _source(attachment.source)
    name, mime = attachment.filename, attachment.content_type
    if name is None and isinstance(source, Path):
        name = _UNSAFE_NAME.sub("_", source.name)
    if name is not None and (not isinstance(name, str) or _UNSAFE_NAME.search(name)):
        raise ConfigurationError(
            "attachments", f"the file name {name!r} cannot be sent (no ; , / \\ or controls)"
        )
    if mime is None:
        kind, encoding = mimetypes.guess_type(name or "")
        mime = (kind if encoding is None else None) or "application/octet-stream"
    if not isinstance(mime, str) or not _MIME.fullmatch(mime):
        raise ConfigurationError("attachments", f"{mime!r} is no content type like image/png")
    return OutgoingAttachment(source, name, mime, await _measure(source))


def _source(given: object) -> Path | bytes:
    if isinstance(given, bytes | bytearray):
        return bytes(given)
    if isinstance(given, str | os.PathLike):
        path = os.fsdecode(cast("str | os.PathLike[str]", given))
        if "\0" not in path:
            return Path(path)
    raise ConfigurationError("attachments", f"{given!r:.100} is neither a path nor bytes")


async def _measure(source: Path | bytes) -> int:
    if isinstance(source, bytes):
        await trio.lowlevel.checkpoint()
        return len(source)
    try:
        return await trio.to_thread.run_sync(_size_of_readable_file, source, abandon_on_cancel=True)
    except OSError as error:
        raise ConfigurationError("attachments", f"cannot read {str(source)!r}: {error.strerror}") from error


def _size_of_readable_file(path: Path) -> int:
    if not path.is_file() and path.exists():
        # A device or a pipe has no size and may block for ever.
        raise OSError(0, "it is not a regular file")
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size
