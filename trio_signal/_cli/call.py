"""``trio-signal call``: one question in the gateway's own words, and its answer."""

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import trio

from .._errors import Certainty, RequestFailed, SignalError
from . import output
from .connection import Connection
from .exits import Exit, complain, failed
from .interrupt import exit_code, run_until_signal
from .lines import read_stdin
from .options import UsageError
from .text import printable

#: The most that is read from standard input, in bytes; signal-cli itself takes no more.
_MAX_BODY: Final = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What ``trio-signal call`` was told.

    Attributes:
        where: how to reach the gateway.
        what: a JSON-RPC method, or ``METHOD /path``.
        body: its JSON; None for none, ``-`` to read it from standard input.
        timeout: how long it may take, in seconds.
    """

    where: Connection
    what: str
    body: str | None = field(repr=False)
    timeout: float


async def run_call(
    settings: CallSettings,
    *,
    read: Callable[[], Awaitable[bytes]] = read_stdin,
    write: Callable[[bytes], Awaitable[None]] = output.write_bytes,
) -> int:
    """Ask, print the answer, and return the exit code. A checkpoint; a signal ends it at once.

    Raises:
        UsageError: there is no question, or what should be JSON is none.
    """
    calling = _Calling(settings, read, write)
    caught = await run_until_signal(calling.run)
    if calling.problem is not None:
        raise calling.problem
    return calling.code if caught is None else exit_code(caught)


class _Calling:
    def __init__(
        self,
        settings: CallSettings,
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._settings: Final = settings
        self._read: Final = read
        self._write: Final = write
        self.code: int = Exit.OK
        self.problem: UsageError | None = None

    async def run(self) -> None:
        """Ask and print. A checkpoint; cancelled, nobody knows whether it was done."""
        await trio.lowlevel.checkpoint()
        try:
            await self._show(await self._ask(await self._body()))
        except UsageError as error:
            self.problem = error
        except RequestFailed as error:
            complain(error)
            self.code = Exit.UNKNOWN if error.certainty is Certainty.UNKNOWN else Exit.NOT_SENT
        except SignalError as error:
            self.code = failed(error)
        except BrokenPipeError:
            # Whoever read the output has had enough.
            self.code = Exit.OK

    async def _ask(self, body: object) -> Any:
        settings = self._settings
        deadline = trio.current_time() + settings.timeout
        async with settings.where.open_gateway(timeout=settings.timeout) as gateway:
            left = deadline - trio.current_time()
            return await gateway.call(settings.what, body, account=settings.where.account, limit=left)

    async def _body(self) -> object:
        text = self._settings.body
        await trio.lowlevel.checkpoint()
        if not self._settings.what.strip():
            raise UsageError("WHAT: it is empty; give 'METHOD /path', or the name of a JSON-RPC method")
        if text is None:
            return None
        data = text.encode(errors="surrogateescape") if text != "-" else await self._input()
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"JSON: it is none: {error}") from None

    async def _input(self) -> bytes:
        data = b""
        await trio.lowlevel.checkpoint()
        while piece := await self._read():
            data += piece
            if len(data) > _MAX_BODY:
                raise UsageError(f"JSON: standard input has over {_MAX_BODY} bytes")
        return data

    async def _show(self, answer: Any) -> None:
        """Print what came: JSON in ASCII, anything else as it is, but to a terminal safely."""
        await trio.lowlevel.checkpoint()
        if isinstance(answer, bytes):
            shown = answer
            if sys.stdout.isatty():
                shown = printable(answer.decode(errors="backslashreplace")).encode() + b"\n"
            await self._write(shown)
        elif answer is not None:
            await self._write(json.dumps(answer).encode() + b"\n")
