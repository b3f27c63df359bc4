"""Keeps words out of groups: warns whoever writes them, and removes whoever goes on.

::

    export TRIO_SIGNAL_GATEWAY=http://127.0.0.1:8080 TRIO_SIGNAL_ACCOUNT=+15550100
    python examples/group_moderator.py words.txt      # one word a line

The account must administer the group. What others wrote it cannot delete, so it marks that with
a reaction. Administrators are left in peace, and can say ``/warnings`` and ``/pardon NUMBER``.
"""

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from signal import SIGINT, SIGTERM

import trio

from trio_signal import GatewayError, ReceivedMessage, SignalClient, open_signal_client

WARNINGS = 2  # and then they are removed
COMMANDS = {"/warnings", "/pardon"}


class Moderator:
    """Watches all groups of an account. Warnings are forgotten when it ends."""

    def __init__(self, signal: SignalClient, words: Iterable[str]) -> None:
        self._signal = signal
        self._bad = re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)
        self._warned: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Watch until the client is closed."""
        async for message in self._signal.receive_messages():
            command, _, whom = (message.text or "").partition(" ")
            if message.group is None or message.from_self:
                continue
            try:
                if command in COMMANDS and await self._is_admin(message):
                    await self._obey(message, command, whom.strip())
                elif self._bad.search(message.text or "") and not await self._is_admin(message):
                    await self._warn(message, message.reply_to, message.sender or "")
            except GatewayError as error:
                # Not tried again: by then everybody has read on. The next offence counts all the same.
                logging.warning("could not moderate %s: %s", message, error)

    async def _is_admin(self, message: ReceivedMessage) -> bool:
        group = await self._signal.get_group(message.reply_to)
        return group is not None and bool({message.sender_number, message.sender_uuid} & {*group.admins})

    async def _warn(self, message: ReceivedMessage, group: str, sender: str) -> None:
        self._warned[group, sender] += 1
        count = self._warned[group, sender]
        await self._signal.send_reaction(message, "🚫")
        if count <= WARNINGS:
            warning = f"Please mind your words (warning {count} of {WARNINGS})."
            await self._signal.send_message(group, warning, quote=message)
        else:
            await self._signal.remove_members(group, [sender])
            del self._warned[group, sender]

    async def _obey(self, message: ReceivedMessage, command: str, whom: str) -> None:
        here = message.reply_to
        if command == "/pardon":
            known = self._warned.pop((here, whom), 0) > 0
            answer = f"{whom} starts afresh." if known else "Nobody of that number was warned."
        else:
            lines = (f"{who}: {count}" for (group, who), count in self._warned.items() if group == here)
            answer = "\n".join(lines) or "Nobody was warned."
        await self._signal.send_message(here, answer, quote=message)


async def main(words: Iterable[str]) -> None:
    """Moderate until Ctrl-C or SIGTERM."""
    gateway, account = os.environ["TRIO_SIGNAL_GATEWAY"], os.environ["TRIO_SIGNAL_ACCOUNT"]
    async with open_signal_client(gateway, account) as signal, trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await Moderator(signal, words).run()


async def stop_at_signal(work: trio.CancelScope) -> None:
    """End the work at a signal. The client's own block goes on to its end."""
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        await anext(aiter(signals))
    logging.warning("ending in order; a second signal ends it at once")
    work.cancel()


if __name__ == "__main__":
    logging.basicConfig()
    trio.run(main, Path(sys.argv[1]).read_text(encoding="utf-8").split())
