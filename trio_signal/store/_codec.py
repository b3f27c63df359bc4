"""What a message says, and what became of it, as bytes. Pure.

What comes back is checked as it was when the application gave it, so that nothing gets into the
buffer from a store that could not get in otherwise. An error comes back as a
:class:`RecordedError`: what it said and of which kind it was.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from .._attachments import OutgoingAttachment
from .._contents import Content, LinkPreview, Mention, Quote, Reaction, RemoteDelete, Text, with_files
from .._errors import AnswerError, Certainty, FailedRecipient, RecordedError
from .._outcomes import Dropped, DropReason, Failed, Outcome, Sent


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="is"):
    """What is written. A field that is not known is a mistake and not news: the file has a version."""


class _File(_Record, frozen=True, tag="_File"):
    name: str | None
    type: str | None
    size: int
    path: bytes | None = None
    data: bytes | None = None


class _Text(_Record, frozen=True, tag="text"):
    text: str
    files: tuple[_File, ...] = ()
    quote: Quote | None = None
    styled: bool = False
    mentions: tuple[Mention, ...] = ()
    view_once: bool = False
    preview: LinkPreview | None = None
    edits: int | None = None


class _Reaction(_Record, frozen=True, tag="reaction"):
    emoji: str
    author: str
    timestamp: int
    remove: bool = False


class _Delete(_Record, frozen=True, tag="delete"):
    timestamp: int


class _Sent(_Record, frozen=True, tag="sent"):
    timestamp: int
    failed: tuple[FailedRecipient, ...] = ()


class _Dropped(_Record, frozen=True, tag="dropped"):
    reason: DropReason


class _Failed(_Record, frozen=True, tag="failed"):
    text: bytes
    kind: str
    certainty: Certainty
    failed: tuple[FailedRecipient, ...] = ()


_contents: Final = msgspec.msgpack.Decoder(_Text | _Reaction | _Delete)
_outcomes: Final = msgspec.msgpack.Decoder(_Sent | _Dropped | _Failed)


def encode_content(content: Content) -> bytes:
    """Return what a message says as bytes.

    Raises:
        ValueError: a path of a file is not absolute, and would mean another in another process.
    """
    return msgspec.msgpack.encode(_content_record(content))


def decode_content(data: bytes) -> Content:
    """Return what :func:`encode_content` was given.

    Raises:
        ValueError: it has not made these bytes.
    """
    match _contents.decode(data):
        case _Reaction(emoji, author, timestamp, remove):
            return Reaction(emoji, author, timestamp, remove)
        case _Delete(timestamp):
            return RemoteDelete(timestamp)
        case record:
            return Text(
                record.text,
                tuple(map(_read_file, record.files)),
                record.quote,
                styled=record.styled,
                mentions=record.mentions,
                view_once=record.view_once,
                preview=record.preview,
                edits=record.edits,
            )


def encode_outcome(outcome: Outcome) -> bytes:
    """Return what became of a message as bytes."""
    return msgspec.msgpack.encode(_outcome_record(outcome))


def decode_outcome(data: bytes) -> Outcome:
    """Return what :func:`encode_outcome` was given, with a :class:`RecordedError` for an error.

    Raises:
        ValueError: it has not made these bytes.
    """
    match _outcomes.decode(data):
        case _Sent(timestamp, failed):
            return Sent(timestamp, failed)
        case _Dropped(reason):
            return Dropped(reason)
        case record:
            text = record.text.decode(errors="surrogatepass")
            return Failed(RecordedError(text, record.kind, failed=record.failed), record.certainty)


def with_paths(content: Content, change: Callable[[Path, int], Path]) -> Content:
    """Return the content with other paths; ``change`` is given each and its file's size in bytes."""
    if not isinstance(content, Text):
        return content
    files = tuple(
        replace(file, source=change(file.source, file.size)) if isinstance(file.source, Path) else file
        for file in content.attachments
    )
    return with_files(content, files) if files != content.attachments else content


def _content_record(content: Content) -> _Record:
    match content:
        case Reaction(emoji, author, timestamp, remove):
            return _Reaction(emoji, author, timestamp, remove)
        case RemoteDelete(timestamp):
            return _Delete(timestamp)
        case text:
            return _Text(
                text.text,
                tuple(map(_file, text.attachments)),
                text.quote,
                text.styled,
                text.mentions,
                text.view_once,
                text.preview,
                text.edits,
            )


def _outcome_record(outcome: Outcome) -> _Record:
    match outcome:
        case Sent(timestamp, failed):
            return _Sent(timestamp, failed)
        case Dropped(reason):
            return _Dropped(reason)
        case failure:
            error = failure.error
            # What the system says of a path need not be valid Unicode.
            text = str(error).encode(errors="surrogatepass")
            kind = error.kind if isinstance(error, RecordedError) else type(error).__name__
            failed = error.failed if isinstance(error, AnswerError | RecordedError) else ()
            return _Failed(text, kind, failure.certainty, failed)


def _file(attachment: OutgoingAttachment) -> _File:
    source, name, kind = attachment.source, attachment.filename, attachment.content_type
    if isinstance(source, bytes):
        return _File(name, kind, attachment.size, data=source)
    if not source.is_absolute():
        raise ValueError(f"the path {str(source)!r} is not absolute")
    # A path is bytes, which need not be valid Unicode.
    return _File(name, kind, attachment.size, path=os.fsencode(source))


def _read_file(file: _File) -> OutgoingAttachment:
    if file.path is None:
        if file.data is None or file.size not in {-1, len(file.data)}:
            raise ValueError("a file without its content")
        return OutgoingAttachment(file.data, file.name, file.type, file.size)
    path = Path(os.fsdecode(file.path))
    if file.data is not None or file.size < -1 or b"\0" in file.path or not path.is_absolute():
        raise ValueError("a file that can be nowhere")
    return OutgoingAttachment(path, file.name, file.type, file.size)
