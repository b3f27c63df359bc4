"""Receives with signalbot."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import asyncio
import sys
from typing import Any

from signalbot import Config, DataMessageHandler, SignalBot


class _Printing(DataMessageHandler):
    async def handle_data_message(self, context: Any) -> None:  # noqa: ASYNC910  (asyncio)
        print(context.message.text)


async def main(host: str, port: str, account: str) -> None:
    """Receive until killed."""
    config = Config(
        phone_number=account,
        signal_service=f"{host}:{port}",
        connection_mode="http_only",
        storage={"type": "in-memory"},
        download_attachments=False,
    )
    bot = SignalBot(config)
    bot.register(_Printing())
    bot.start(run_forever=False)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
