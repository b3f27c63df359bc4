"""What a gateway says of itself, before anything is asked of it."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import trio

from .._connections import Answer
from .._dial import Address
from .._errors import LinkLost
from ._about import CLI_MODE, NO_CONTEXT, About

_logger: Final = logging.getLogger("trio_signal.gateway")

#: A look-up that takes longer than this, in seconds, is skipped with a warning: /v1/accounts hangs while
#: signal-cli does.
LOOKUP_LIMIT: Final = 5.0

_T = TypeVar("_T")


class LookUps:
    """Asks a gateway what it is, and knows what it has said.

    Args:
        address: where it is.
        fetch: asks for a path; None where there was no answer in time. Raises :class:`LinkLost` where the
            gateway could not be asked for now.

    Attributes:
        status: how it answered when it was asked what it is; None if there was no answer.
    """

    def __init__(self, address: Address, fetch: Callable[[str], Awaitable[Answer | None]]) -> None:
        self._address: Final = address
        self._fetch: Final = fetch
        self._about: About | None = None
        self._asked_about = False
        self.status: int | None = None

    async def about(self) -> About | None:
        """Return what the gateway says of itself, asked once; None where something hides it. A checkpoint.

        signal-cli's own daemon says nothing of itself, and is known by how it says so.

        Raises:
            LinkLost: it could not be asked for now.
        """
        await trio.lowlevel.checkpoint()
        if not self._asked_about:
            answer = await self._fetch("/v1/about")
            about = _decode(answer, About)
            if about is None and await self._is_signal_cli(answer):
                about = About(mode=CLI_MODE)
            if about is None:
                self._warn("/v1/about", answer)
            self.status = None if answer is None else answer.status
            self._about, self._asked_about = about, True
        return self._about

    def ask_anew(self) -> None:
        """Let the next :meth:`about` ask again if nothing is known yet."""
        self._asked_about = self._about is not None

    def forget(self) -> None:
        """Let the next :meth:`about` ask again, since what it told seems to be true no more."""
        self._about, self._asked_about = None, False

    async def ask_for(self, path: str, form: type[_T]) -> _T | None:
        """Return what is at a path, or None with a warning where something hides it. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
        """
        answer = await self._fetch(path)
        found = _decode(answer, form)
        if found is None:
            self._warn(path, answer)
        return found

    async def _is_signal_cli(self, answer: Answer | None) -> bool:
        """Say whether it was signal-cli's daemon that does not know /v1/about. A checkpoint."""
        await trio.lowlevel.checkpoint()
        if answer is None:
            return False
        if NO_CONTEXT in answer.body:
            return True
        # A proxy may have an answer of its own for what is not there.
        check: Answer | None = None
        try:
            check = await self._fetch("/api/v1/check")
        except LinkLost as error:
            if error.status is None:
                raise
        return check is not None and check.status == 200 and not check.body

    def _warn(self, path: str, answer: Answer | None) -> None:
        told = f"within {LOOKUP_LIMIT:g} s" if answer is None else f"readably (HTTP {answer.status})"
        _logger.warning("%s does not answer %s %s; going on unchecked", self._address, path, told)


def _decode(answer: Answer | None, form: type[_T]) -> _T | None:
    if answer is None or answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The caller says so.
        return None
