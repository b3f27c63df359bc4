"""What a message says: a text, a reaction, or the request to delete one. Pure.

Each is checked when it is made, so that what the buffer accepts can be written by every
gateway. Times are milliseconds since the epoch; a message's own is its id in Signal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeGuard, TypeVar

import msgspec

from ._attachments import OutgoingAttachment
from ._checks import check_type
from ._errors import ConfigurationError
from ._recipients import check_author, check_recipient
from ._styles import parse_styled

#: signal-cli's JSON reader refuses a string of over 20,000,000 characters by dropping its whole connection,
#: and every send in flight then hangs (measured on 0.100). Bytes are at least as many as characters.
MAX_TEXT_BYTES: Final = 16 * 1024 * 1024

#: The largest picture of a link preview, in bytes; people's apps make them far smaller.
MAX_PREVIEW_BYTES: Final = 2 * 1024 * 1024

#: The most of a preview's link, title and description, each, in bytes.
_MAX_PREVIEW_WORDS: Final = 4096

#: The most of an emoji, in bytes, and of the mentions of one text.
_MAX_EMOJI_BYTES: Final = 64
_MAX_MENTIONS: Final = 1000

#: What a mention costs in memory, roughly, in bytes.
_MENTION: Final = 256

_BLANK: Final = re.compile(r"\s")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Target:
    """One message, wherever it stands: what a reaction, an edit, a deletion or a receipt is about.

    Attributes:
        recipient: where it stands: a group, or the other person.
        author: who wrote it: a number or a UUID.
        timestamp: its own, in milliseconds since the epoch.
    """

    recipient: str
    author: str
    timestamp: int

    def __post_init__(self) -> None:
        check_recipient(self.recipient, argument="target.recipient")
        check_author("target.author", self.author)
        check_time("target.timestamp", self.timestamp)


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that an outgoing one answers.

    Attributes:
        timestamp: the quoted message's own, in milliseconds since the epoch.
        author: who wrote it: a number or a UUID.
        text: what to show of it.
    """

    timestamp: int
    author: str
    text: str = ""

    def __post_init__(self) -> None:
        check_author("quote.author", self.author)
        check_text("quote.text", self.text)
        check_time("quote.timestamp", self.timestamp)


@dataclass(frozen=True, slots=True)
class Mention:
    """A person named in a text, in the place of some characters of it.

    With ``styled=True`` the marks do not count: in ``**Hi** X`` the X is at 3.

    Attributes:
        start: where those begin, in UTF-16 code units, as everywhere in Signal.
        length: how many they are, in UTF-16 code units.
        author: the person: a number or a UUID.
    """

    start: int
    length: int
    author: str

    def __post_init__(self) -> None:
        for name, number, least in (("start", self.start, 0), ("length", self.length, 1)):
            if not _is_whole(number) or number < least:
                raise ConfigurationError(f"mentions.{name}", f"{number!r} is no number from {least} on")
        check_author("mentions.author", self.author)


@dataclass(frozen=True, slots=True)
class LinkPreview:
    """What is shown of a link in a text.

    Attributes:
        url: the link, with https; the text must contain it, or no app shows the preview.
        title: its title.
        description: what it is about.
        image: a small picture (JPEG or PNG).
    """

    url: str
    title: str
    description: str = ""
    image: bytes | None = None

    def __post_init__(self) -> None:
        for name, words in (("url", self.url), ("title", self.title), ("description", self.description)):
            if len(check_text(f"preview.{name}", words).encode()) > _MAX_PREVIEW_WORDS:
                raise ConfigurationError(f"preview.{name}", f"it is over {_MAX_PREVIEW_WORDS} bytes")
        if not self.url.startswith("https://") or _BLANK.search(self.url):
            raise ConfigurationError("preview.url", f"{self.url!r} is no link that begins with https://")
        if not self.title:
            raise ConfigurationError("preview.title", "it is empty; Signal shows no preview without a title")
        check_type("preview.image", self.image, bytes)
        if self.image is not None and len(self.image) > MAX_PREVIEW_BYTES:
            raise ConfigurationError(
                "preview.image", f"{len(self.image)} bytes are over {MAX_PREVIEW_BYTES}; make it smaller"
            )

    @property
    def held(self) -> int:
        """How many bytes it keeps in memory while it waits."""
        words = self.url, self.title, self.description
        return sum(len(word.encode()) for word in words) + len(self.image or b"")


class Text(msgspec.Struct, frozen=True):
    """Something written, with all that goes with it.

    Attributes:
        text: the text; may be empty only with an attachment.
        attachments: files that go with it.
        quote: the message it answers.
        styled: whether marks like ``**bold**`` in it are styles.
        mentions: people named in it; with `styled` their places count in the text without marks.
        view_once: whether it may be looked at only once; needs an attachment.
        preview: what is shown of a link in it.
        edits: the timestamp of an earlier message of ours that this one replaces.
    """

    text: str
    attachments: tuple[OutgoingAttachment, ...] = ()
    quote: Quote | None = None
    styled: bool = False
    mentions: tuple[Mention, ...] = ()
    view_once: bool = False
    preview: LinkPreview | None = None
    edits: int | None = None

    def __post_init__(self) -> None:
        check_text("text", self.text)
        if not self.text and not self.attachments:
            raise ConfigurationError(
                "text", "it is empty and there is no attachment; Signal sends no empty message"
            )
        # Nearly every text is nothing but text, so that all else is looked at only where there is any.
        if self.quote is not None:
            check_type("quote", self.quote, Quote)
        if self.styled is not False:
            check_type("styled", self.styled, bool)
        if self.view_once is not False:
            check_type("view_once", self.view_once, bool)
        if self.preview is not None:
            check_type("preview", self.preview, LinkPreview)
        if self.view_once and not self.attachments:
            raise ConfigurationError("view_once", "only a message with an attachment can be viewed once")
        if self.preview is not None and self.preview.url not in self.text:
            raise ConfigurationError("preview.url", "the text does not contain it, so no app shows it")
        if self.edits is not None:
            check_time("edits", self.edits)
        if self.mentions:
            self._check_mentions()

    def _check_mentions(self) -> None:
        if len(self.mentions) > _MAX_MENTIONS:
            raise ConfigurationError("mentions", f"{len(self.mentions)} are over {_MAX_MENTIONS}")
        end = max(mention.start + mention.length for mention in self.mentions)
        text = parse_styled(self.text)[0] if self.styled else self.text
        units = len(text.encode("utf-16-le")) // 2
        if end > units:
            without = " without its marks" if self.styled else ""
            raise ConfigurationError(
                "mentions", f"one ends at {end}, but the text{without} has {units} UTF-16 code units"
            )

    @property
    def held(self) -> int:
        """How many bytes it keeps in memory while it waits."""
        if self.quote is None and self.preview is None and not (self.attachments or self.mentions):
            return len(self.text.encode())
        quoted = len(self.quote.text.encode()) if self.quote else 0
        preview = self.preview.held if self.preview else 0
        files = sum(attachment.held for attachment in self.attachments) if self.attachments else 0
        return len(self.text.encode()) + quoted + preview + files + _MENTION * len(self.mentions)


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji put on a message, or taken off it again.

    Attributes:
        emoji: one emoji.
        author: who wrote that message: a number or a UUID.
        timestamp: that message's own, in milliseconds since the epoch.
        remove: whether to take it off.
    """

    emoji: str
    author: str
    timestamp: int
    remove: bool = False

    def __post_init__(self) -> None:
        check_text("emoji", self.emoji)
        if not self.emoji or _BLANK.search(self.emoji) or self.held > _MAX_EMOJI_BYTES:
            raise ConfigurationError("emoji", f"{self.emoji[:20]!r} is no emoji; give exactly one")
        check_author("target.author", self.author)
        check_time("target.timestamp", self.timestamp)
        check_type("remove", self.remove, bool)

    @property
    def held(self) -> int:
        """How many bytes it keeps in memory while it waits."""
        return len(self.emoji.encode())


@dataclass(frozen=True, slots=True)
class RemoteDelete:
    """The request to delete an earlier message of ours for everybody.

    Attributes:
        timestamp: that message's own, in milliseconds since the epoch.
    """

    timestamp: int

    def __post_init__(self) -> None:
        check_time("target.timestamp", self.timestamp)

    @property
    def held(self) -> int:
        """How many bytes it keeps in memory while it waits."""
        return 0


Content = Text | Reaction | RemoteDelete


def with_files(text: Text, files: tuple[OutgoingAttachment, ...]) -> Text:
    """Return a text with other files."""
    return msgspec.structs.replace(text, attachments=files)


def check_text(argument: str, text: object) -> str:
    """Return the text if Signal can carry it.

    Raises:
        ConfigurationError: it is no ``str``, no valid Unicode or too long; the message names ``argument``.
    """
    if not isinstance(text, str):
        raise ConfigurationError(argument, f"{type(text).__name__} is not a str")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigurationError(argument, f"it is not valid Unicode: {error.reason}") from None
    if size > MAX_TEXT_BYTES:
        raise ConfigurationError(
            argument, f"{size} bytes are over {MAX_TEXT_BYTES}; send it as an attachment"
        )
    return text


def check_all(argument: str, given: Iterable[_T], kind: type[_T]) -> tuple[_T, ...]:
    """Return what was given as a tuple if each is of one kind.

    Raises:
        ConfigurationError: it is no list of such; the message names ``argument``.
    """
    items: object = given
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise ConfigurationError(argument, f"give a list of {kind.__name__}, even for one")
    checked = tuple(given)
    for item in checked:
        check_type(argument, item, kind, optional=False)
    return checked


def check_time(argument: str, timestamp: object) -> None:
    """Accept a time in milliseconds since the epoch.

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    if not _is_whole(timestamp) or not 0 <= timestamp < 2**63:
        raise ConfigurationError(argument, f"{timestamp!r} is no time in milliseconds since the epoch")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
