"""Receives with trio_signal."""

import sys

import trio

from trio_signal import open_signal_client


async def main(host: str, port: str, account: str) -> None:
    """Receive until killed."""
    async with open_signal_client(f"http://{host}:{port}", account) as signal:
        async for message in signal.receive_messages():
            print(message.text)


HOST, PORT, ACCOUNT = sys.argv[1:]
trio.run(main, HOST, PORT, ACCOUNT)
