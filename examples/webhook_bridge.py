"""POSTs each message to a URL, and loses none that the webhook has not taken.

::

    export TRIO_SIGNAL_GATEWAY=http://127.0.0.1:8080 TRIO_SIGNAL_ACCOUNT=+15550100
    export WEBHOOK_URL=https://example.org/hook      # not an argument: such URLs are often secrets
    python examples/webhook_bridge.py cursor.json

A message counts as done once the webhook has answered with 2xx; until then it is sent again and
again, and the others wait behind it. How far it got is kept in a file, so that the next start
goes on there (on a hub), or reports what may be missing (elsewhere). Ended in the wrong moment it
sends a message twice, under the same Idempotency-Key.
"""

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from signal import SIGINT, SIGTERM

import httpx
import trio

from trio_signal import Backoff, Cursor, ReceivedMessage, SignalClient, open_signal_client

PAUSES = Backoff(initial=1.0, maximum=60.0)


async def bridge(signal: SignalClient, http: httpx.AsyncClient, url: str, file: Path) -> None:
    """Pass on one message after the other until the client is closed."""
    async for message in signal.receive_messages():
        await post(http, url, message)
        signal.acknowledge(message)
        await trio.to_thread.run_sync(save, signal.cursor, file)


async def post(http: httpx.AsyncClient, url: str, message: ReceivedMessage) -> None:
    """Hand a message over, however long it takes."""
    content = {
        "sender": message.sender,
        "group": message.group.id if message.group else None,
        "timestamp": message.timestamp,
        "from_self": message.from_self,
        "text": message.text,
    }
    headers = {"Idempotency-Key": f"{message.sender}-{message.timestamp}"}
    attempt = 0
    while True:
        try:
            response = await http.post(url, json=content, headers=headers)
        except httpx.TransportError as error:
            problem = type(error).__name__
        else:
            if response.is_success:
                return
            problem = f"HTTP {response.status_code}"
        logging.warning("the webhook did not take a message: %s", problem)
        attempt += 1
        await trio.sleep(PAUSES.delay(attempt))


def save(cursor: Cursor | None, file: Path) -> None:
    """Keep the cursor, so that there is either the old one or the new one, whatever happens."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w") as opened:
        json.dump(asdict(cursor) if cursor else None, opened)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)


def load(file: Path) -> Cursor | None:
    """Return the cursor that was kept, None at the very start."""
    kept = json.loads(file.read_text()) if file.exists() else None
    return Cursor(**kept) if kept else None


async def main(file: Path) -> None:
    """Bridge until Ctrl-C or SIGTERM."""
    gateway, account = os.environ["TRIO_SIGNAL_GATEWAY"], os.environ["TRIO_SIGNAL_ACCOUNT"]
    async with (
        httpx.AsyncClient(timeout=30) as http,
        open_signal_client(gateway, account, cursor=load(file), acknowledge=True) as signal,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await bridge(signal, http, os.environ["WEBHOOK_URL"], file)


async def stop_at_signal(work: trio.CancelScope) -> None:
    """End the work at Ctrl-C or SIGTERM."""
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        await anext(aiter(signals))
    logging.warning("ending in order; a second signal ends it at once")
    work.cancel()


if __name__ == "__main__":
    logging.basicConfig()
    trio.run(main, Path(sys.argv[1]))
