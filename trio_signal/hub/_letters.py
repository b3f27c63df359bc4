"""The bodies of texts, reactions and deletions, which are the gateway's own, read strictly.

What the hub cannot pass on it refuses by name, since a message that arrives without its
sticker, or with a sound where silence was asked for, says something else than was meant.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import trio

from .._contents import Content, LinkPreview, Mention, Quote, Reaction, RemoteDelete, Text
from .._errors import ConfigurationError
from .._recipients import check_recipient
from ._bodies import decoded, refused, shortened, wrong
from ._encoded import decode, read_files
from ._exchange import HttpError

#: The arguments of the client's that have another name in the body.
FIELDS: Final = {
    "recipient": "recipients",
    "text": "message",
    "attachments": "base64_attachments",
    "quote.timestamp": "quote_timestamp",
    "quote.author": "quote_author",
    "quote.text": "quote_message",
    "preview.url": "link_preview.url",
    "preview.title": "link_preview.title",
    "preview.description": "link_preview.description",
    "preview.image": "link_preview.base64_thumbnail",
    "edits": "edit_timestamp",
}

#: The same in the bodies of reactions and deletions.
_TARGET_FIELDS: Final = {
    "emoji": "reaction",
    "target.author": "target_author",
    "target.timestamp": "timestamp",
}

#: Of a body up to this size every field that cannot be sent is named, of a larger one the first.
_SMALL: Final = 64 * 1024

#: The most people named in one text.
_MOST_MENTIONS: Final = 1000

_Time = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be sent, and to whom, as read from a request."""

    recipient: str
    content: Content


class _Body(msgspec.Struct):
    """The fields that the hub can pass on. A field that is null counts as absent."""

    recipients: tuple[str] | None = None
    number: str | None = None
    message: str | None = None
    text_mode: Literal["normal", "styled"] | None = None
    quote_timestamp: _Time | None = None
    quote_author: str | None = None
    quote_message: str | None = None
    view_once: bool | None = None
    edit_timestamp: _Time | None = None
    # Not yet taken apart: there may be millions of things in them.
    link_preview: msgspec.Raw = msgspec.Raw(b"null")
    mentions: msgspec.Raw = msgspec.Raw(b"null")
    base64_attachments: msgspec.Raw = msgspec.Raw(b"null")


class _LargeBody(_Body, forbid_unknown_fields=True):
    """The same, given up at the first other field."""


class _Mention(msgspec.Struct, forbid_unknown_fields=True):
    start: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    length: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    author: str


class _Mentions(msgspec.Struct):
    mentions: list[_Mention] | None


class _Preview(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    title: str
    description: str | None = None
    base64_thumbnail: str | None = None


class _Previews(msgspec.Struct):
    link_preview: _Preview | None


class _Reaction(msgspec.Struct, forbid_unknown_fields=True):
    recipient: str
    reaction: str
    target_author: str
    timestamp: _Time


class _Deletion(msgspec.Struct, forbid_unknown_fields=True):
    recipient: str
    timestamp: _Time


_KNOWN: Final = frozenset(_Body.__struct_fields__)


async def parse_send(body: bytes, account: str) -> Letter:
    """Read the body of a send.

    A checkpoint; cancelling is safe. Others have their turn between its steps, each of which
    holds them up by 50 ms at most for a body of 16 MiB, whatever is in it.

    Args:
        body: the request's, whole.
        account: the hub's number; another one in the body is refused.

    Raises:
        HttpError: it is no JSON (400), or no send that the hub can pass on as it is (422, naming the field).
    """
    await trio.lowlevel.checkpoint()
    fields = _read(body)
    await trio.lowlevel.checkpoint()
    if fields.number not in (None, account):
        raise refused("number", "this hub sends for another account")
    if fields.recipients is None:
        raise refused("recipients", "give exactly one; send once for each")
    try:
        recipient = check_recipient(fields.recipients[0])
        return Letter(recipient, await _text(fields))
    except ConfigurationError as error:
        raise wrong(error, FIELDS) from None


def parse_reaction(body: bytes, *, remove: bool) -> Letter:
    """Read the body of a reaction, or of one that is taken back. Pure.

    Raises:
        HttpError: it is no JSON (400), or no reaction (422, naming the field).
    """
    fields = decoded(body, _Reaction, {})
    try:
        content = Reaction(fields.reaction, fields.target_author, fields.timestamp, remove)
        return Letter(_addressee(fields.recipient), content)
    except ConfigurationError as error:
        raise wrong(error, _TARGET_FIELDS) from None


def parse_deletion(body: bytes) -> Letter:
    """Read the body of a deletion. Pure; as :func:`parse_reaction`."""
    fields = decoded(body, _Deletion, {})
    try:
        return Letter(_addressee(fields.recipient), RemoteDelete(fields.timestamp))
    except ConfigurationError as error:
        raise wrong(error, _TARGET_FIELDS) from None


def _addressee(recipient: str) -> str:
    # In these bodies the gateway wants usernames marked.
    return check_recipient(recipient.removeprefix("u:"))


def _read(body: bytes) -> _Body:
    """Read the fields. Takes time in proportion to the bytes, not to how many names or values they are."""
    if len(body) > _SMALL:
        return decoded(body, _LargeBody, {})
    given = decoded(body, dict[str, msgspec.Raw], {})
    unknown = sorted(name for name in given.keys() - _KNOWN if bytes(given[name]) != b"null")
    if unknown:
        raise HttpError(422, shortened(f"the hub cannot send {', '.join(unknown)}"))
    return decoded(body, _Body, {})


async def _text(fields: _Body) -> Text:
    """Put together what is to be written. A checkpoint; raises ConfigurationError and HttpError."""
    quote, mentions = _quote(fields), _mentions(fields.mentions)
    preview = await _preview(fields.link_preview)
    files = await read_files("base64_attachments", fields.base64_attachments)
    return Text(
        fields.message or "",
        files,
        quote,
        styled=fields.text_mode == "styled",
        mentions=mentions,
        view_once=fields.view_once or False,
        preview=preview,
        edits=fields.edit_timestamp,
    )


def _quote(fields: _Body) -> Quote | None:
    if fields.quote_timestamp is not None and fields.quote_author is not None:
        return Quote(fields.quote_timestamp, fields.quote_author, fields.quote_message or "")
    if fields.quote_timestamp is not None or fields.quote_author is not None or fields.quote_message:
        missing = "quote_author" if fields.quote_author is None else "quote_timestamp"
        raise refused(missing, "a quote needs its timestamp and its author")
    return None


def _mentions(value: msgspec.Raw) -> tuple[Mention, ...]:
    """Read the people named in the text, after making sure that they are few."""
    body = b'{"mentions":%b}' % bytes(value)
    if body.count(b"{") > 1 + _MOST_MENTIONS:
        raise refused("mentions", f"give at most {_MOST_MENTIONS}")
    given = decoded(body, _Mentions, {}).mentions or []
    mentions: list[Mention] = []
    for index, mention in enumerate(given):
        names = {f"mentions.{name}": f"mentions[{index}].{name}" for name in ("start", "length", "author")}
        try:
            mentions.append(Mention(mention.start, mention.length, mention.author))
        except ConfigurationError as error:
            raise wrong(error, names) from None
    return tuple(mentions)


async def _preview(value: msgspec.Raw) -> LinkPreview | None:
    await trio.lowlevel.checkpoint()
    fields = decoded(b'{"link_preview":%b}' % bytes(value), _Previews, {}).link_preview
    if fields is None:
        return None
    image = fields.base64_thumbnail
    decoded_image = await decode("link_preview.base64_thumbnail", image) if image else None
    return LinkPreview(fields.url, fields.title, fields.description or "", decoded_image)
