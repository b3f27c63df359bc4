"""Broadcasting with trio-websocket alone: ``send_message()`` to one client after the other."""

from contextlib import suppress
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from ...contender import Gateway, Measurement, Params
from .phases import Phases
from .quiet import Quiet


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast in a loop, which is what one writes first."""
    return trio.run(_run, gateway.host, Phases(gateway, params))


def idle(gateway: Gateway, params: Params) -> Measurement:
    """Have the task of each client ping it."""
    return trio.run(_run, gateway.host, Quiet(gateway, params))


async def _run(host: str, phases: Phases | Quiet) -> Measurement:
    sockets: list[WebSocketConnection] = []
    complete = trio.Event()

    async def attend(request: WebSocketRequest) -> None:
        socket = await request.accept()
        sockets.append(socket)
        if len(sockets) == phases.clients:
            complete.set()
        with suppress(ConnectionClosed):
            if not phases.beat:
                await socket.get_message()
            while True:
                await trio.sleep(phases.beat)
                await socket.ping()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, attend, host, 0, None))
        await trio.to_thread.run_sync(phases.attend, server.port)
        await complete.wait()
        for part, pause in phases:
            await _broadcast(sockets, [message.decode() for message in phases.messages[part]], pause)
            await trio.to_thread.run_sync(phases.wait)
        nursery.cancel_scope.cancel()
    return phases.measurement()


async def _broadcast(sockets: list[WebSocketConnection], messages: list[str], pause: float) -> None:  # noqa: ASYNC910  (there is a message)
    for message in messages:
        for socket in sockets:
            await socket.send_message(message)
        await trio.sleep(pause)
