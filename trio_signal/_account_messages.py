"""What an account writes: messages, reactions, edits and deletions. All of it goes through the buffer."""

import abc
import math
from collections.abc import Iterable
from typing import Final

from ._account_base import AccountBase
from ._attachments import AttachmentLike, OutgoingAttachment, check_attachments
from ._checks import check_type
from ._contents import Content, LinkPreview, Mention, Quote, Reaction, RemoteDelete, Text, check_all
from ._envelopes import ReceivedMessage
from ._errors import ConfigurationError
from ._outgoing import OutgoingMessage
from ._targets import TargetLike, find_own_target, find_target
from .gateways import Gateway


class MessageOperations(AccountBase):
    """Writes for an account, each message in its order and with an outcome of its own.

    Args:
        route: whom to ask.
        account: for whom; None for a client of all accounts of its gateway.
        timeout: how long an answer may take where the caller does not say, in seconds.
        max_attachment_bytes: the most that the attachments of one message may be together.
    """

    def __init__(
        self, route: Gateway, account: str | None, timeout: float, *, max_attachment_bytes: int
    ) -> None:
        super().__init__(route, account, timeout)
        self._max_attachment_bytes: Final = max_attachment_bytes

    async def send_message(
        self,
        recipient: str,
        text: str = "",
        *,
        attachments: Iterable[AttachmentLike] = (),
        quote: ReceivedMessage | Quote | None = None,
        styled: bool = False,
        mentions: Iterable[Mention] = (),
        view_once: bool = False,
        preview: LinkPreview | None = None,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept a message into the buffer and return it; sending is the client's business.

        Does not wait for a connection or for the outcome: for that,
        ``await message.wait()``. With ``overflow="wait"`` it waits for room. Cancelled, the message was not
        accepted, and a cancellation is always noticed. Other tasks get a turn, but for a message that the
        client begins to send at once: in a loop, ``max_in_flight`` calls at most go by without one.

        With a store it returns once the message is committed, some tenths of a millisecond later. From
        then on a kill of the process loses it no more: the next process sends it, or tells in
        :meth:`events` what became of it. With ``durability="full"`` neither does a loss of power; it
        then waits for the disk, some milliseconds. A process killed *during* this call, or right after it was
        cancelled, may or may not have accepted the message: give an ``id`` to recognise it by.

        Args:
            recipient: a number (``+15550100``), a group (``group.…=``), a UUID or a username;
                ``message.reply_to`` of a received message is always one of them.
            text: what to say; may be empty only with an attachment.
            attachments: paths, bytes, or :class:`OutgoingAttachment`. Paths are looked at now and
                read when it is sent.
            quote: the received message that this one answers.
            styled: read ``*italic*``, ``**bold**``, ``~strike~``, ``||spoiler||`` and backticks as styles.
            mentions: people named in the text; a place in it counts UTF-16 code units, of the text without
                marks where it is ``styled``.
            view_once: let the attachment be looked at only once.
            preview: what to show of a link in the text.
            account: which account sends it, for a client that serves all of a daemon's.
            deadline: drop the message if it still waits then; a moment on Trio's clock, as in
                ``trio.current_time() + 60``.
            id: a name of your own for the message; with a store, none that a message without outcome has.

        Raises:
            ConfigurationError: an argument is wrong; it is named.
            BufferFull: ``overflow="error"`` and no room.
            StoreError: the store could not be written (:class:`StoreFull`: make room); not accepted.
            ClientClosed: the client's block was left.
        """
        content = Text(
            text,
            () if attachments == () else await self._check_files(attachments),
            None if quote is None else _as_quote(quote),
            styled,
            () if mentions == () else check_all("mentions", mentions, Mention),
            view_once,
            preview,
        )
        return await self._accept(recipient, content, account=account, deadline=deadline, id=id)

    async def send_reaction(
        self,
        target: TargetLike,
        emoji: str,
        *,
        remove: bool = False,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept an emoji for a message into the buffer; see :meth:`send_message` for what follows.

        Cancelled, it was not accepted. Each person has one reaction to a message: a second
        takes the place of the first.

        Args:
            target: the message: one that came, one of ours that was sent, or a :class:`Target`.
            emoji: one emoji. To take it off again it must be the same one.
            remove: take it off.
            account: who reacts, for a client that serves all accounts of a daemon; by default the one that
                the message came for, or that sent it.
            deadline: drop it if it still waits then; a moment on Trio's clock.
            id: a name of your own for it.

        Raises:
            ConfigurationError: an argument is wrong; it is named. A message of ours cannot be reacted to
                before it was sent: ``await message.wait()`` first.
            BufferFull: ``overflow="error"`` and no room.
            StoreError: the store could not be written; not accepted.
            ClientClosed: the client's block was left.
        """
        who = self._account_at(target, account)
        found = find_target(target, who)
        content = Reaction(emoji, found.author, found.timestamp, remove)
        return await self._accept(found.recipient, content, account=who, deadline=deadline, id=id)

    async def edit_message(
        self,
        target: TargetLike,
        text: str,
        *,
        attachments: Iterable[AttachmentLike] = (),
        quote: ReceivedMessage | Quote | None = None,
        styled: bool = False,
        mentions: Iterable[Mention] = (),
        preview: LinkPreview | None = None,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept another text for a message of ours into the buffer; see :meth:`send_message`.

        Cancelled, it was not accepted. The new text takes the place of the old one with all
        that went with it, so give quote, mentions and preview again. People's apps pass over an edit that
        comes too late (Signal's own rule is a day) or is one too many (ten).

        To edit it once more, give what this returns, once that was sent, or the first one again.

        Args:
            target: the message: one that we sent here, or from another device, or a :class:`Target`.
            text: what it is to say.
            attachments: as for :meth:`send_message`.
            quote: the message that it answers.
            styled: as for :meth:`send_message`.
            mentions: people named in the text, as for :meth:`send_message`: with ``styled`` their places
                count in the text without marks.
            preview: as for :meth:`send_message`.
            account: who wrote it, for a client that serves all accounts of a daemon; by default the one that
                the message came for, or that sent it.
            deadline: drop it if it still waits then; a moment on Trio's clock.
            id: a name of your own for it.

        Raises:
            ConfigurationError: an argument is wrong; it is named. Another wrote it, or it was not sent yet.
            BufferFull: ``overflow="error"`` and no room.
            StoreError: the store could not be written; not accepted.
            ClientClosed: the client's block was left.
        """
        who = self._account_at(target, account)
        found = find_own_target(target, who)
        content = Text(
            text,
            () if attachments == () else await self._check_files(attachments),
            None if quote is None else _as_quote(quote),
            styled,
            () if mentions == () else check_all("mentions", mentions, Mention),
            preview=preview,
            edits=found.timestamp,
        )
        return await self._accept(found.recipient, content, account=who, deadline=deadline, id=id)

    async def remote_delete(
        self,
        target: TargetLike,
        *,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept the request to delete a message of ours for everybody; see :meth:`send_message`.

        Cancelled, it was not accepted. People's apps do so for a day or two after it was sent.
        Whoever has read it has read it.

        Args:
            target: the message: one that we sent here, or from another device, or a :class:`Target`.
            account: as for :meth:`edit_message`.
            deadline: drop it if it still waits then; a moment on Trio's clock.
            id: a name of your own for it.

        Raises:
            ConfigurationError: an argument is wrong; it is named. Another wrote it, or it was not sent yet.
            BufferFull: ``overflow="error"`` and no room.
            StoreError: the store could not be written; not accepted.
            ClientClosed: the client's block was left.
        """
        who = self._account_at(target, account)
        found = find_own_target(target, who)
        content = RemoteDelete(found.timestamp)
        return await self._accept(found.recipient, content, account=who, deadline=deadline, id=id)

    @abc.abstractmethod
    async def _accept(
        self,
        recipient: str,
        content: Content,
        *,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept anything that goes through the buffer. As :meth:`send_message`."""

    async def _check_files(self, attachments: Iterable[AttachmentLike]) -> tuple[OutgoingAttachment, ...]:
        """Return what is to be attached, having looked at it. A checkpoint."""
        return await check_attachments(attachments, limit=self._max_attachment_bytes)


def _as_quote(quote: ReceivedMessage | Quote) -> Quote:
    if not isinstance(quote, ReceivedMessage):
        check_type("quote", quote, Quote)
        return quote
    if quote.sender is None or quote.timestamp is None:
        raise ConfigurationError(
            "quote", "this message does not say who wrote it and when, so it cannot be quoted"
        )
    return Quote(quote.timestamp, quote.sender, quote.text or "")
