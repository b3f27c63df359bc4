"""Closing streams that are of no use any more."""

import logging
from typing import Final

import trio

_logger: Final = logging.getLogger("trio_signal.gateway")


async def close_at_once(stream: trio.abc.AsyncResource) -> None:  # noqa: ASYNC910  (unless the stream fails first)
    """Close a stream without waiting for anything. A turn of others; cancelling changes nothing.

    It raises nothing either, since that would take the place of what is known already: an answer, or why
    there is none. A stream of the caller's, from ``connect=``, may have errors of its own; only one that
    shields itself from being cancelled is waited for.
    """
    with trio.move_on_after(0, shield=True):  # noqa: ASYNC912  (as said)
        try:
            await stream.aclose()
        except Exception as error:  # noqa: BLE001  (as said)
            _logger.debug("closing a stream failed with %s", type(error).__name__)
