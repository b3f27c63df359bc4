"""Messages as signal-cli-rest-api takes them. Pure.

Source: the gateway's ``src/api/api.go`` (SendMessageV2, SendReaction, RemoteDelete); a hub
takes the same.
"""

import base64
from typing import Any
from urllib.parse import quote

import msgspec

from .._contents import LinkPreview, Reaction, Text
from .._outgoing import OutgoingMessage
from .._recipients import is_username
from ._calls import JSON, Call, call_with_files, json_call


class _Letter(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /v2/send``; what is not given is not written."""

    number: str
    recipients: list[str]
    message: str
    text_mode: str | None = None
    quote_timestamp: int | None = None
    quote_author: str | None = None
    quote_message: str | None = None
    mentions: list[dict[str, Any]] | None = None
    view_once: bool = False
    edit_timestamp: int | None = None
    link_preview: dict[str, Any] | None = None


def encode_message(message: OutgoingMessage, account: str) -> Call:
    """Return the request that sends a message."""
    content = message.content
    if isinstance(content, Text):
        return _text(message.recipient, content, account)
    if isinstance(content, Reaction):
        return _reaction(message.recipient, content, account)
    body = {"recipient": marked(message.recipient), "timestamp": content.timestamp}
    return json_call("DELETE", f"/v1/remote-delete/{in_path(account)}", body)


def marked(recipient: str) -> str:
    """Return a recipient with a username marked as one.

    Where the gateway passes it on as it is, signal-cli would take it for a number
    (``RecipientIdentifier.fromString``); of ``/v2/send`` the gateway marks it itself.
    """
    return f"u:{recipient}" if is_username(recipient) else recipient


def in_path(part: str) -> str:
    """Return a part of a path, with what has a meaning in URLs escaped; the gateway takes a plain ``+``."""
    return quote(part, safe="+")


def _text(recipient: str, text: Text, account: str) -> Call:
    letter = _Letter(account, [recipient], text.text)
    if text.styled:
        letter.text_mode = "styled"
    if text.quote is not None:
        letter.quote_timestamp = text.quote.timestamp
        letter.quote_author = text.quote.author
        letter.quote_message = text.quote.text
    if text.mentions:
        letter.mentions = [
            {"start": mention.start, "length": mention.length, "author": mention.author}
            for mention in text.mentions
        ]
    if text.view_once:
        letter.view_once = True
    if text.edits is not None:
        letter.edit_timestamp = text.edits
    if text.preview is not None:
        letter.link_preview = _preview(text.preview)
    if not text.attachments:
        return Call("POST", "/v2/send", JSON, msgspec.json.encode(letter))
    return call_with_files("POST", "/v2/send", letter, place=("base64_attachments",), files=text.attachments)


def _preview(preview: LinkPreview) -> dict[str, Any]:
    fields = {"url": preview.url, "title": preview.title, "description": preview.description}
    if preview.image is not None:
        fields["base64_thumbnail"] = base64.b64encode(preview.image).decode()
    return fields


def _reaction(recipient: str, reaction: Reaction, account: str) -> Call:
    body = {
        "recipient": marked(recipient),
        "reaction": reaction.emoji,
        "target_author": reaction.author,
        "timestamp": reaction.timestamp,
    }
    return json_call("DELETE" if reaction.remove else "POST", f"/v1/reactions/{in_path(account)}", body)
