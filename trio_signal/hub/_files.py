"""``GET /v1/attachments/{id}``: a file from the gateway, handed through as it comes."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import trio

from .._client import SignalClient
from .._errors import (
    AnswerError,
    ClientClosed,
    ConfigurationError,
    RequestFailed,
    SignalError,
    Unsupported,
)
from .._operations import check_attachment_id
from .._recipients import check_recipient
from ..gateways import AttachmentRef
from ._bodies import wrong
from ._exchange import Answer, HttpError, Stream, StreamBroken
from ._operations import answer_for_failure
from ._sends import unsent

_logger: Final = logging.getLogger("trio_signal.hub")

#: How long the gateway may say nothing, in seconds.
_SILENCE: Final = 30.0

#: What a gateway answers where it has no such file, or takes its name for none.
_NOT_THERE: Final = frozenset({400, 404})

#: Nobody's browser shall take it for a page of ours and run what is in it.
_HEADERS: Final = (("Content-Disposition", "attachment"), ("Content-Security-Policy", "sandbox"))


def file_ref(name: str, place: str) -> AttachmentRef:
    """Say which file is meant. Pure.

    Raises:
        HttpError: no file can be called that (404), or nobody can be written to at that place (422).
    """
    try:
        return AttachmentRef(check_attachment_id(name), check_recipient(place, argument="place"))
    except ConfigurationError as error:
        raise (wrong(error, {}) if error.argument == "place" else _not_there()) from None


async def open_file(signal: SignalClient, ref: AttachmentRef, stack: AsyncExitStack) -> Answer:
    """Open a file and return the answer that hands it through.

    A checkpoint; cancelling is safe. Nothing of it is kept but the piece on its way.

    Args:
        signal: whose gateway has it.
        ref: which file.
        stack: closes it.

    Raises:
        HttpError: there is none (404).
    """
    try:
        download = await stack.enter_async_context(signal._download(ref, timeout=_SILENCE))  # noqa: SLF001
    except (RequestFailed, Unsupported) as error:
        if isinstance(error, RequestFailed) and _says_not_there(error.error):
            raise _not_there() from None
        return answer_for_failure(error)  # noqa: ASYNC910  (entering it is one)
    except ClientClosed as error:
        await trio.lowlevel.checkpoint()
        return unsent(str(error))
    body = Stream(download.size, _Pieces(aiter(download)))
    return Answer(200, body, "application/octet-stream", _HEADERS)


class _Pieces:
    """What comes of a file."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source: Final = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._source)
        except SignalError as error:
            _logger.warning("a file broke off on its way from the gateway: %s", error)
            raise StreamBroken from error


def _says_not_there(error: Exception) -> bool:
    return isinstance(error, AnswerError) and error.status in _NOT_THERE


def _not_there() -> HttpError:
    return HttpError(404, "the gateway has no such file")
