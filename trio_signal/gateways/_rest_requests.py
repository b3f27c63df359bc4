"""Messages as signal-cli-rest-api takes them. Pure.

Source: the gateway's ``src/api/api.go`` (SendMessageV2, SendReaction, RemoteDelete); a hub
takes the same.
"""

import base64
from typing import Any
from urllib.parse import quote

from .._contents import Reaction, RemoteDelete, Text
from .._outgoing import OutgoingMessage
from .._recipients import is_username
from ._calls import Call, call_with_files, json_call


def encode_message(message: OutgoingMessage, account: str) -> Call:
    """Return the request that sends a message."""
    content = message.content
    if isinstance(content, Reaction):
        return _reaction(message.recipient, content, account)
    if isinstance(content, RemoteDelete):
        body = {"recipient": marked(message.recipient), "timestamp": content.timestamp}
        return json_call("DELETE", f"/v1/remote-delete/{in_path(account)}", body)
    fields = {"number": account, "recipients": [message.recipient], "message": content.text}
    fields |= _extras(content)
    return call_with_files(
        "POST", "/v2/send", fields, place=("base64_attachments",), files=content.attachments
    )


def marked(recipient: str) -> str:
    """Return a recipient with a username marked as one.

    Where the gateway passes it on as it is, signal-cli would take it for a number
    (``RecipientIdentifier.fromString``); of ``/v2/send`` the gateway marks it itself.
    """
    return f"u:{recipient}" if is_username(recipient) else recipient


def in_path(part: str) -> str:
    """Return a part of a path, with what has a meaning in URLs escaped; the gateway takes a plain ``+``."""
    return quote(part, safe="+")


def _reaction(recipient: str, reaction: Reaction, account: str) -> Call:
    body = {
        "recipient": marked(recipient),
        "reaction": reaction.emoji,
        "target_author": reaction.author,
        "timestamp": reaction.timestamp,
    }
    return json_call("DELETE" if reaction.remove else "POST", f"/v1/reactions/{in_path(account)}", body)


def _extras(text: Text) -> dict[str, Any]:
    """Return the fields of what goes with a text."""
    fields: dict[str, Any] = {}
    if text.styled:
        fields["text_mode"] = "styled"
    if text.quote is not None:
        fields |= {
            "quote_timestamp": text.quote.timestamp,
            "quote_author": text.quote.author,
            "quote_message": text.quote.text,
        }
    if text.mentions:
        fields["mentions"] = [
            {"start": mention.start, "length": mention.length, "author": mention.author}
            for mention in text.mentions
        ]
    if text.view_once:
        fields["view_once"] = True
    if text.edits is not None:
        fields["edit_timestamp"] = text.edits
    if text.preview is not None:
        preview = {"url": text.preview.url, "title": text.preview.title}
        preview["description"] = text.preview.description
        if text.preview.image is not None:
            preview["base64_thumbnail"] = base64.b64encode(text.preview.image).decode()
        fields["link_preview"] = preview
    return fields
