"""``POST /v2/send``: the body in, a message of the hub's own client, its outcome out.

The body is the gateway's. What the hub cannot pass on it refuses by name, since a message
that arrives without its mentions or its sticker says something else than was meant.
"""

import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import trio

from .._attachments import OutgoingAttachment
from .._client import SignalClient
from .._errors import AnswerError, BufferFull, ClientClosed, ConfigurationError
from .._outgoing import (
    Certainty,
    Dropped,
    DropReason,
    Failed,
    FailedRecipient,
    MessageDropped,
    Outcome,
    OutgoingMessage,
    Quote,
    SendFailed,
)
from .._recipients import check_recipient
from ._http import Answer, HttpError

#: When to try again where the hub is full or away, in seconds.
_RETRY_AFTER: Final = (("Retry-After", "5"),)

#: How much of anybody's words goes into an answer.
_MOST_WORDS: Final = 500

#: The arguments of the client's that have another name in the body.
_FIELDS: Final = {
    "recipient": "recipients",
    "text": "message",
    "attachments": "base64_attachments",
    "quote.timestamp": "quote_timestamp",
    "quote.author": "quote_author",
    "quote.text": "quote_message",
}

#: The most files of one message.
_MOST_FILES: Final = 32

#: Of a body up to this size every field that cannot be sent is named, of a larger one the first.
_SMALL: Final = 64 * 1024

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


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be sent, as read from a request."""

    recipient: str
    text: str = ""
    styled: bool = False
    quote: Quote | None = None
    attachments: tuple[OutgoingAttachment, ...] = ()


class _Body(msgspec.Struct):
    """The fields that the hub can pass on. A field that is null counts as absent."""

    recipients: tuple[str] | None = None
    number: str | None = None
    message: str | None = None
    text_mode: Literal["normal", "styled"] | None = None
    quote_timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    quote_author: str | None = None
    quote_message: str | None = None
    # Not yet taken apart: there may be millions of them.
    base64_attachments: msgspec.Raw = msgspec.Raw(b"null")


class _LargeBody(_Body, forbid_unknown_fields=True):
    """The same, given up at the first other field."""


class _Files(msgspec.Struct):
    base64_attachments: list[str] | None


_KNOWN: Final = frozenset(_Body.__struct_fields__)
_Decoded = TypeVar("_Decoded")


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
        raise _refused("number", "this hub sends for another account")
    if fields.recipients is None:
        raise _refused("recipients", "give exactly one; send once for each")
    try:
        recipient = check_recipient(fields.recipients[0])
        quote = _quote(fields)
    except ConfigurationError as error:
        raise _wrong(error) from None
    texts = _files(fields.base64_attachments)
    if not fields.message and not texts:
        raise _refused("message", "it is empty and there is no attachment")
    attachments = [
        await _attachment(f"base64_attachments[{index}]", text) for index, text in enumerate(texts)
    ]
    return Letter(recipient, fields.message or "", fields.text_mode == "styled", quote, tuple(attachments))


async def send(
    signal: SignalClient,
    letter: Letter,
    *,
    wait: float = 25.0,
    hung_up: Callable[[], Awaitable[None]],
    going_down: Callable[[], Awaitable[None]] = trio.sleep_forever,
    on_taken: Callable[[], None] = lambda: None,
) -> Answer:
    """Send a letter and answer with its outcome.

    A checkpoint. What still waits after ``wait`` is dropped; what is being sent by then
    has the client's ``send_timeout`` on top. If the peer hangs up, if the hub goes down, or if
    this is cancelled, a letter that still waits is withdrawn; one that is being sent goes its way.

    Args:
        signal: whose account sends it.
        letter: what to send.
        wait: how long the letter may wait for its turn, in seconds.
        hung_up: returns when the peer has hung up.
        going_down: returns when the answer must be given.
        on_taken: called when the client has the letter, within its own limits, or has refused it.
    """
    taken: OutgoingMessage | Answer = answer_for(Dropped(DropReason.WITHDRAWN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_after, hung_up, nursery.cancel_scope)
        nursery.start_soon(_cancel_after, going_down, nursery.cancel_scope)
        taken = await _hand_over(signal, letter, wait)
        on_taken()
        if isinstance(taken, OutgoingMessage):
            await _see_through(taken)
        nursery.cancel_scope.cancel()
    if isinstance(taken, Answer):
        return taken
    return answer_for(
        taken.outcome or Failed(AnswerError("the hub went down while it was sent"), Certainty.UNKNOWN)
    )


def answer_for(outcome: Outcome) -> Answer:
    """Return the answer that tells an outcome. Pure."""
    if isinstance(outcome, Dropped):
        return _unsent(503, f"the message was dropped: {outcome.reason.value}")
    if isinstance(outcome, Failed):
        return _failed(outcome)
    entry: dict[str, Any] = {"timestamp": str(outcome.timestamp)}
    if outcome.failed:
        entry["errors"] = {"recipients": list(map(_failed_recipient, outcome.failed))}
    return Answer(201, msgspec.json.encode([entry]))


def _read(body: bytes) -> _Body:
    """Read the fields. Takes time in proportion to the bytes, not to how many names or values they are."""
    if len(body) > _SMALL:
        return _decoded(body, _LargeBody)
    given = _decoded(body, dict[str, msgspec.Raw])
    unknown = sorted(name for name in given.keys() - _KNOWN if bytes(given[name]) != b"null")
    if unknown:
        raise HttpError(422, _shortened(f"the hub cannot send {', '.join(unknown)}"))
    return _decoded(body, _Body)


def _files(value: msgspec.Raw) -> list[str]:
    """Return the files' texts, after making sure that there are few."""
    body = b'{"base64_attachments":%b}' % bytes(value)
    # One behind each but the last, and one behind its label: millions are seen without taking them apart.
    if body.count(b",") < 2 * _MOST_FILES:
        texts = _decoded(body, _Files).base64_attachments or []
        if len(texts) <= _MOST_FILES:
            return texts
    raise _refused("base64_attachments", f"give at most {_MOST_FILES}")


def _decoded(body: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise HttpError(422, _shortened(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HttpError(400, "the body is not JSON") from None


def _quote(fields: _Body) -> Quote | None:
    if fields.quote_timestamp is not None and fields.quote_author is not None:
        return Quote(fields.quote_timestamp, fields.quote_author, fields.quote_message or "")
    if fields.quote_timestamp is not None or fields.quote_author is not None or fields.quote_message:
        missing = "quote_author" if fields.quote_author is None else "quote_timestamp"
        raise _refused(missing, "a quote needs its timestamp and its author")
    return None


async def _attachment(field: str, text: str) -> OutgoingAttachment:
    name, mime, coded = _split_data_uri(field, text) if text.startswith("data:") else (None, None, text)
    await trio.lowlevel.checkpoint()
    # Line breaks are what the base64 program makes, and the gateway takes them.
    coded = coded.replace("\n", "").replace("\r", "")
    try:
        data = await _decode(coded)
    except ValueError:
        raise _refused(field, "it is not base64") from None
    if not data:
        raise _refused(field, "it is empty")
    if name is None and mime is None:
        mime = next((kind for signature, kind in _SIGNATURES if signature.match(data)), None)
    return OutgoingAttachment(data, name, mime, len(data))


async def _decode(coded: str) -> bytes:
    """Decode base64 piece by piece. A checkpoint; raises ValueError."""
    await trio.lowlevel.checkpoint()
    data = bytearray()
    for start in range(0, len(coded), _PIECE):
        data += base64.b64decode(coded[start : start + _PIECE], validate=True)
        await trio.lowlevel.checkpoint()
    # A piece that ends with a filling is valid, but where another follows the length tells.
    if len(data) != len(coded) // 4 * 3 - coded.count("=", -2):
        raise ValueError("there is a filling within it")
    return bytes(data)


def _split_data_uri(field: str, text: str) -> tuple[str | None, str | None, str]:
    """Return file name, content type and contents. Other parameters are passed over, as the gateway does."""
    label, comma, coded = text.partition(",")
    if not comma or len(label) > _MOST_LABEL or not label.endswith(";base64"):
        raise _refused(field, "a data URI must be like data:image/png;filename=a.png;base64,…")
    mime, *parameters = label.removeprefix("data:").removesuffix(";base64").split(";")
    names = [p.removeprefix("filename=") for p in parameters if p.startswith("filename=")]
    return next(iter(names), "") or None, mime or None, coded


async def _hand_over(signal: SignalClient, letter: Letter, wait: float) -> OutgoingMessage | Answer:
    """Give the letter to the client; return an answer where it does not take it."""
    deadline = trio.current_time() + wait
    try:
        # With overflow="wait" it may stand behind others whose deadlines are later.
        with trio.move_on_at(deadline):
            return await signal.send_message(
                letter.recipient,
                letter.text,
                attachments=letter.attachments,
                quote=letter.quote,
                styled=letter.styled,
                deadline=deadline,
            )
        return answer_for(Dropped(DropReason.EXPIRED))
    except ConfigurationError as error:
        return _wrong(error).answer  # noqa: ASYNC910  (send_message() is one)
    except (BufferFull, ClientClosed) as error:
        return _unsent(503, str(error))  # noqa: ASYNC910


async def _see_through(message: OutgoingMessage) -> None:
    """Wait for the message's outcome; withdraw it if that is cancelled. A checkpoint."""
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        await message.wait()
    except (MessageDropped, SendFailed):
        pass  # The message has it as its outcome.
    finally:
        message.withdraw()


async def _cancel_after(event: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await event()
    scope.cancel(reason="the peer has hung up")


def _failed(outcome: Failed) -> Answer:
    error = outcome.error
    told: dict[str, Any] = {"error": _shortened(str(error)), "certainty": outcome.certainty.value}
    if isinstance(error, AnswerError):
        # The gateway's own words, as the gateway would have put them.
        told["error"] = _shortened(error.text or str(error))
        if error.challenge_tokens:
            told["challenge_tokens"] = error.challenge_tokens
    return Answer(400 if outcome.certainty is Certainty.NOT_SENT else 504, msgspec.json.encode(told))


def _failed_recipient(failed: FailedRecipient) -> dict[str, str]:
    return {"number": failed.recipient, "reason": failed.reason}


def _unsent(status: int, words: str) -> Answer:
    told = {"error": words, "certainty": Certainty.NOT_SENT.value}
    return Answer(status, msgspec.json.encode(told), headers=_RETRY_AFTER)


def _refused(field: str, words: str) -> HttpError:
    return HttpError(422, _shortened(f"{field}: {words}"))


def _wrong(error: ConfigurationError) -> HttpError:
    """Tell what is wrong with an argument of the client's by the name that it has in the body."""
    words = str(error).removeprefix(f"{error.argument}: ")
    return _refused(_FIELDS.get(error.argument, error.argument), words)


def _shortened(words: str) -> str:
    return words[:_MOST_WORDS]
