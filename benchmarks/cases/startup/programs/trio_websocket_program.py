"""Receives with trio-websocket."""

import sys

import msgspec
import trio
import trio_websocket


async def main(host: str, port: str, account: str) -> None:
    """Receive until killed."""
    url = f"ws://{host}:{port}/v1/receive/{account}"
    async with trio_websocket.open_websocket_url(url) as websocket:
        while True:
            print(msgspec.json.decode(await websocket.get_message()))


HOST, PORT, ACCOUNT = sys.argv[1:]
trio.run(main, HOST, PORT, ACCOUNT)
