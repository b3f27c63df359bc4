"""Receives with signal-client."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported, untyped-decorator"
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import asyncio
import re
import sys
from typing import Any

from signal_client import SignalClient, command


@command(re.compile(""))
async def show(context: Any) -> None:
    """Print any message."""
    await asyncio.sleep(0)
    print(context.message.message)


async def main(host: str, port: str, account: str) -> None:
    """Receive until killed."""
    url = f"http://{host}:{port}"
    async with SignalClient({"phone_number": account, "signal_service": url, "base_url": url}) as client:
        client.register(show)
        await client.start()


asyncio.run(main(*sys.argv[1:]))
