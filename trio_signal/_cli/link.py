"""``trio-signal link``: the gateway as another device of a phone's account, by a QR code in the terminal."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import segno
import trio

from .._errors import SignalError
from .._linking import link_device
from . import output
from .connection import Connection
from .exits import Exit, complain, failed
from .interrupt import exit_code, run_until_signal
from .options import URI, UsageError

#: Seconds in which the phone must have scanned the code.
_PATIENCE: Final = 120.0

#: Light modules around the code. Four would be better style, but 24 lines are all that many terminals have.
_MARGIN: Final = 2

#: Two modules above each other as one character, by which of them are dark. On any terminal's own colours an
#: inverted code would be a matter of luck, so these are black on white.
_HALVES: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_BLACK_ON_WHITE: Final = "\x1b[38;5;16;48;5;231m"
_PLAIN: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What ``trio-signal link`` was told.

    Attributes:
        where: how to reach the gateway.
        name: what the phone shows for the new device.
        with_uri: whether to print what the code says, too.
    """

    where: Connection
    name: str
    with_uri: bool


async def run_link(settings: LinkSettings, *, write: Callable[[str], Awaitable[None]] = output.write) -> int:
    """Show the code, wait for the phone, and return the exit code.

    A checkpoint; a signal ends it at once. If the phone scans the code in that very moment,
    the gateway may be linked all the same.

    Raises:
        UsageError: the terminal cannot show the code, and what it says is not asked for.
    """
    if not (settings.with_uri or _can_show()):
        await trio.lowlevel.checkpoint()
        raise UsageError(f"{URI.label}: give it, since {sys.stderr.encoding} has no signs for a QR code")
    linking = _Linking(settings, write)
    caught = await run_until_signal(linking.run)
    if linking.failure is not None:
        return failed(linking.failure)
    return Exit.OK if caught is None else exit_code(caught)


class _Linking:
    def __init__(self, settings: LinkSettings, write: Callable[[str], Awaitable[None]]) -> None:
        self._settings: Final = settings
        self._write: Final = write
        self.failure: Exception | None = None

    async def run(self) -> None:
        """Link. A checkpoint."""
        settings, where = self._settings, self._settings.where
        await trio.lowlevel.checkpoint()
        try:
            number = await link_device(
                where.gateway,
                settings.name,
                on_uri=self._show,
                gateway=where.kind,
                headers=where.headers,
                token=where.token,
                ssl_context=where.ssl_context,
                connect=where.connect,
                timeout=_PATIENCE,
            )
            complain("linked" if number else "the gateway does not tell whether the phone has linked it")
            if number:
                await self._write(f"{number}\n")
        except BrokenPipeError:
            self.failure = SignalError("nobody reads the output")
        except SignalError as error:
            self.failure = error

    async def _show(self, uri: str) -> None:
        if self._settings.with_uri:
            await self._write(f"{uri}\n")
        await trio.lowlevel.checkpoint()
        if _can_show():
            sys.stderr.write(f"{qr_code(uri)}\n")
        complain(
            "on the phone: Signal > Settings > Linked devices > Link a new device; scan this code within "
            f"{_PATIENCE / 60:g} minutes"
        )


def _can_show() -> bool:
    try:
        "".join(_HALVES.values()).encode(sys.stderr.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def qr_code(text: str) -> str:
    """Return a text as a QR code for a terminal. Pure."""
    rows = [[bool(module) for module in row] for row in segno.make_qr(text).matrix_iter(border=_MARGIN)]
    # Of an odd number, as every code has.
    rows.append([False] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    lines = ("".join(map(_HALVES.__getitem__, zip(upper, lower, strict=True))) for upper, lower in pairs)
    return "\n".join(f"{_BLACK_ON_WHITE}{line}{_PLAIN}" for line in lines)
