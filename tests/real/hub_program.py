"""Programs that the tests with browsers start: ``python -m tests.real.hub_program ROLE``.

Each says in lines of JSON what it has to say, the first of them where it listens, and does what the JSON
objects on its standard input order, one a line. It ends with that input, so that nothing outlives a test.
"""

import argparse
import json
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from trio_signal import Backoff, Gap, ReceivedMessage, SignalClient, open_signal_client
from trio_signal.hub import Authenticator, HubLimits, MessageLog, read_key_file, serve_hub
from trio_signal.testing import FakeGateway, FaultProxy, open_fake_gateway, open_fault_proxy

#: The account of every gateway here.
_ACCOUNT = "+15550001"


class Arguments(argparse.Namespace):
    """What was said on the command line."""

    role: str
    url: str
    port: int
    key_file: Path | None
    heartbeat: float
    keep: int
    delay: float


def say(**fields: object) -> None:
    """Tell whoever started us."""
    print(json.dumps(fields), flush=True)  # noqa: T201  (this is what the program is for)


async def orders() -> AsyncGenerator[dict[str, Any]]:
    """Yield what standard input orders until it ends."""
    lines = trio.wrap_file(sys.stdin)
    while line := await lines.readline():
        yield json.loads(line)


@asynccontextmanager
async def until_told() -> AsyncGenerator[trio.Nursery]:
    """Give a nursery whose tasks are cancelled when standard input ends."""
    async with trio.open_nursery() as nursery:
        yield nursery
        async for _ in orders():
            pass
        nursery.cancel_scope.cancel()


async def gateway(_: Arguments) -> None:
    """Run a gateway that delivers and fails as it is told."""
    async with open_fake_gateway(_ACCOUNT) as fake:
        say(url=fake.url)
        async for order in orders():
            await _obey(fake, **order)
            say(done=True)


async def _obey(
    fake: FakeGateway,
    *,
    texts: list[str] | None = None,
    frames: list[Any] | None = None,
    up: bool | None = None,
) -> None:
    if up is not None:
        await fake.start() if up else fake.kill()
    if texts or frames:
        await fake.wait_consumers()
    for text in texts or ():
        fake.deliver(text=text)
    for frame in frames or ():
        fake.deliver_raw(frame if isinstance(frame, str) else json.dumps(frame))
    await fake.wait_delivered()


async def proxy(arguments: Arguments) -> None:
    """Run a proxy that lets nothing through while it is told so."""
    port = int(arguments.url.rpartition(":")[2])
    async with open_fault_proxy("127.0.0.1", port) as faults:
        say(url=faults.url)
        async for order in orders():
            _hinder(faults, **order)
            say(done=True)


def _hinder(faults: FaultProxy, *, closed: bool) -> None:
    if not closed:
        faults.heal()
        return
    faults.refuse()
    faults.drop()


async def hub(arguments: Arguments) -> None:
    """Run a hub."""
    key = None if arguments.key_file is None else Authenticator(read_key_file(arguments.key_file))
    limits = HubLimits(heartbeat_interval=arguments.heartbeat, shutdown_spread=0.2)
    async with _client(arguments, arguments.url, "rest") as signal, until_told() as nursery:
        log = MessageLog(max_messages=arguments.keep, clock=trio.current_time)
        serve = partial(serve_hub, signal, port=arguments.port, key=key, limits=limits, log=log)
        say(url=(await nursery.start(serve)).url)


async def clients(arguments: Arguments) -> None:
    """Run three clients of a hub, and say all that they get or are told."""

    async def listen(name: int) -> None:
        async with _client(arguments, arguments.url, "hub") as signal:
            nursery.start_soon(follow, name, signal)
            async for event in signal.events():
                if isinstance(event, ReceivedMessage):
                    say(client=name, got=event.text)
                elif isinstance(event, Gap):
                    say(client=name, got=f"gap: {event.reason}")

    async def follow(name: int, signal: SignalClient) -> None:
        async for change in signal.state_changes():
            say(client=name, state=change.current.name)

    async with until_told() as nursery:
        say(url=arguments.url)
        for name in range(3):
            nursery.start_soon(listen, name)


def _client(arguments: Arguments, url: str, gateway: Any) -> Any:
    # Every attempt after the same short time: what is away for a moment is back in a moment.
    backoff = Backoff(initial=arguments.delay, maximum=arguments.delay, jitter=False)
    return open_signal_client(url, _ACCOUNT, gateway=gateway, backoff=backoff)


_ROLES: dict[str, Callable[[Arguments], Awaitable[None]]] = {
    "gateway": gateway,
    "proxy": proxy,
    "hub": hub,
    "clients": clients,
}


def main() -> None:
    """Play the role that the first argument names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=_ROLES)
    parser.add_argument("--url", default="", help="what it is in front of")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--heartbeat", type=float, default=15.0)
    parser.add_argument("--keep", type=int, default=500)
    parser.add_argument("--delay", type=float, default=0.3)
    arguments = parser.parse_args(namespace=Arguments())
    logging.disable(logging.WARNING)
    trio.run(_ROLES[arguments.role], arguments)


if __name__ == "__main__":
    main()
