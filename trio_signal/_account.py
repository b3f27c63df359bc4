"""What a bot does beside writing messages: it reacts, edits, deletes, types, manages groups, fetches files.

Reactions, edits and deletions go through the buffer as messages do, in their order and with an
outcome each. All else is asked at once and answered at once, or it fails: nothing of it waits
for a connection or is tried again.
"""

import math
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from ._account_files import FileOperations
from ._account_groups import GroupOperations
from ._account_people import PeopleOperations
from ._attachments import AttachmentLike
from ._checks import check_choice, check_type
from ._contents import LinkPreview, Mention, Quote, Reaction, RemoteDelete, Target
from ._envelopes import ReceivedMessage
from ._indicator import AGAIN, show_typing
from ._operations import ReceiptKind, SendReceipt, SendTyping
from ._outgoing import OutgoingMessage
from ._targets import TargetLike, find_foreign_target, find_own_target, find_target


class AccountOperations(GroupOperations, PeopleOperations, FileOperations):
    """What can be done for an account. :class:`SignalClient` is one."""

    # --- what goes through the buffer ---

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

        A checkpoint. Cancelled, it was not accepted. Each person has one reaction to a message: a second
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

        A checkpoint. Cancelled, it was not accepted. The new text takes the place of the old one with all
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
            ClientClosed: the client's block was left.
        """
        who = self._account_at(target, account)
        found = find_own_target(target, who)
        content = await self._written(
            text,
            attachments=attachments,
            quote=quote,
            styled=styled,
            mentions=mentions,
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

        A checkpoint. Cancelled, it was not accepted. People's apps do so for a day or two after it was sent.
        Whoever has read it has read it.

        Args:
            target: the message: one that we sent here, or from another device, or a :class:`Target`.
            account: as for :meth:`edit_message`.
            deadline: drop it if it still waits then; a moment on Trio's clock.
            id: a name of your own for it.

        Raises:
            ConfigurationError: an argument is wrong; it is named. Another wrote it, or it was not sent yet.
            BufferFull: ``overflow="error"`` and no room.
            ClientClosed: the client's block was left.
        """
        who = self._account_at(target, account)
        found = find_own_target(target, who)
        content = RemoteDelete(found.timestamp)
        return await self._accept(found.recipient, content, account=who, deadline=deadline, id=id)

    # --- receipts and typing ---

    async def send_receipt(
        self,
        target: ReceivedMessage | Target,
        kind: ReceiptKind = "read",
        *,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Tell whoever wrote a message that it was read, or that what came with it was viewed.

        A checkpoint; cancelled, it may have gone out or not. Raises what :meth:`call` raises.

        Args:
            target: the message.
            kind: ``"read"``, or ``"viewed"`` for what is viewed once and for voice messages.
            account: who read it, for a client that serves all accounts of a daemon; by default the one that
                the message came for.
            timeout: how long it may take, in seconds.
        """
        check_choice("kind", kind, ReceiptKind)
        who = self._account_at(target, account)
        found = find_foreign_target(target, who)
        await self._operate(SendReceipt(found.author, found.timestamp, kind), account=who, timeout=timeout)

    async def send_typing(
        self,
        recipient: str,
        *,
        stop: bool = False,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Show for 15 s that we type, or no longer. For as long as a block runs: :meth:`typing`.

        A checkpoint; cancelled, it may have gone out or not. Raises what :meth:`call` raises.

        Args:
            recipient: whom to show it: a person or a group.
            stop: no longer.
            account: who types, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_type("stop", stop, bool, optional=False)
        await self._operate(SendTyping(recipient, stop), account=account, timeout=timeout)

    def typing(self, recipient: str, *, account: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return what shows that we type, for use as ``async with signal.typing(message.reply_to):``.

        It is shown while the block runs, in a task beside it, and taken away when the block is left, in
        whatever way: for that, leaving may take up to 2 s, even when cancelled. Entering and leaving are
        checkpoints. What the block raises leaves it as it is. That it could not be shown is logged, no more.

        Of two such blocks for one recipient, one in the other, the inner one takes away what the outer shows:
        it is shown again up to 10 s later.

        Args:
            recipient: whom to show it: a person or a group.
            account: who types, for a client that serves all accounts of a daemon.

        Raises:
            ConfigurationError: an argument is wrong; it is named.
        """
        shown, over = SendTyping(recipient), SendTyping(recipient, stop=True)
        who = self.account_for(account)

        async def tell(stop: bool) -> None:  # noqa: FBT001
            # A longer wait would be for nothing: it is shown anew by then.
            await self._operate(over if stop else shown, account=who, timeout=AGAIN)

        return show_typing(tell)
