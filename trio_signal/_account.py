"""What a bot does for its account: it writes, types, says what it has read, manages groups, fetches files.

What it writes goes through the buffer, in order and with an outcome each. All else is asked at once and
answered at once, or it fails: nothing of it waits for a connection or is tried again.
"""

from contextlib import AbstractAsyncContextManager

from ._account_files import FileOperations
from ._account_groups import GroupOperations
from ._account_messages import MessageOperations
from ._account_people import PeopleOperations
from ._checks import check_choice, check_type
from ._contents import Target
from ._envelopes import ReceivedMessage
from ._indicator import AGAIN, show_typing
from ._operations import ReceiptKind, SendReceipt, SendTyping
from ._targets import find_foreign_target


class AccountOperations(MessageOperations, GroupOperations, PeopleOperations, FileOperations):
    """What can be done for an account. :class:`SignalClient` is one."""

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
