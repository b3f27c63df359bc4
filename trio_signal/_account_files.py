"""Files that came with messages and that the gateway keeps."""

from os import PathLike
from pathlib import Path
from typing import Final

from ._account_base import AccountBase
from ._checks import check_count, check_type
from ._envelopes import ReceivedMessage
from ._errors import ConfigurationError
from ._operations import DeleteAttachment, ListAttachments, check_attachment_id
from ._saving import OnProgress, find_place, save
from ._wire import Attachment
from .gateways import AttachmentRef

#: The largest file that is saved where the caller does not say, in bytes; Signal's own limit is about that.
_MAX_SAVED: Final = 100 * 1024 * 1024


class FileOperations(AccountBase):
    """The files that the gateway keeps for an account."""

    async def list_attachments(
        self, *, account: str | None = None, timeout: float | None = None
    ) -> tuple[str, ...]:
        """Return the ids of the files that the gateway keeps.

        A checkpoint; cancelling is safe. Raises what :meth:`call` raises.

        Args:
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        return await self._operate(ListAttachments(), account=account, timeout=timeout)

    async def delete_attachment(
        self, attachment: Attachment | str, *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Delete a file that the gateway keeps; it keeps all that comes until somebody does.

        A checkpoint; cancelled, it may have been deleted or not. Raises what :meth:`call` raises.

        Args:
            attachment: an attachment of a message that came, or its id.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        name = attachment if isinstance(attachment, str) else _id_of(attachment)
        await self._operate(DeleteAttachment(name), account=account, timeout=timeout)

    async def save_attachment(
        self,
        message: ReceivedMessage,
        attachment: Attachment,
        path: str | PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        max_bytes: int = _MAX_SAVED,
        account: str | None = None,
        timeout: float | None = None,
    ) -> Path:
        """Fetch a file that came with a message and return where it is now.

        It is never in memory as a whole, and is there under its name only once it is whole and on the disk;
        until then it is in a file beside it that ends in ``.part``. Only its owner may read it. A checkpoint.
        Cancelled or failed, nothing is left of it; a write that the disk has begun is waited for.

        A file that has another size than its sender claims is not saved; 0 claims nothing.

        Args:
            message: the message that it came with.
            attachment: one of ``message.attachments``.
            path: what to call it, or a folder: there it has the name that the sender gave it, made safe, or
                else its id. With a separator at its end it must be a folder that is there.
            overwrite: whether it may take the place of another file.
            on_progress: called after each piece with how many bytes have come, and how many it will be (None
                where nobody knows). What it raises ends the fetching.
            max_bytes: the most that it may be.
            account: for whom, for a client that serves all accounts of a daemon; by default the one that
                the message came for.
            timeout: how long nothing at all may come, in seconds; the client's ``send_timeout`` by default.

        Raises:
            ConfigurationError: an argument is wrong; it is named. There is such a file already, no such
                folder, or the gateway has not kept this attachment.
            RequestFailed: it did not come, not as a whole, or is over ``max_bytes``.
            Unsupported: this gateway has no files; the message names one that has.
            OSError: it could not be written, as when the disk is full.
            ClientClosed: the client's block was left.
        """
        check_type("message", message, ReceivedMessage, optional=False)
        check_type("overwrite", overwrite, bool, optional=False)
        check_count("max_bytes", max_bytes)
        if on_progress is not None and not callable(on_progress):
            raise ConfigurationError("on_progress", f"{type(on_progress).__name__} cannot be called")
        who = self._account_at(message, account)
        ref = AttachmentRef(_id_of(attachment), message.reply_to or message.sender or "")
        file = self._download(ref, account=who, timeout=timeout)
        place = await find_place(path, names=(attachment.filename, attachment.id), overwrite=overwrite)
        async with file as download:
            return await save(
                download, place, size=attachment.size or None, max_bytes=max_bytes, on_progress=on_progress
            )


def _id_of(attachment: Attachment) -> str:
    check_type("attachment", attachment, Attachment, optional=False)
    if attachment.id is None:
        raise ConfigurationError("attachment", "the gateway has not kept it, as it is asked to on its side")
    return check_attachment_id(attachment.id)
