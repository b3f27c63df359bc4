"""Receives with signal-cli-rest-api-client."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

import asyncio
import sys

from signal_cli_rest_api_client.client import SignalClient


async def main(host: str, port: str, account: str) -> None:
    """Receive until killed."""
    async for event in SignalClient(f"http://{host}:{port}", account).stream_events():
        print(event)


asyncio.run(main(*sys.argv[1:]))
