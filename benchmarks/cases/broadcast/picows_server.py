"""Broadcasting with picows, which is compiled: each text handed to one transport after the other."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from ...contender import Gateway, Measurement, Params
from .phases import Phases
from .quiet import Quiet


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast with ``WSTransport.send()``."""
    return asyncio.run(_run(gateway.host, Phases(gateway, params)))


def idle(gateway: Gateway, params: Params) -> Measurement:
    """Have picows ping each client that says nothing."""
    return asyncio.run(_run(gateway.host, Quiet(gateway, params)))


async def _run(host: str, phases: Phases | Quiet) -> Measurement:
    transports: list[WSTransport] = []
    complete = asyncio.Event()

    class Client(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transports.append(transport)
            if len(transports) == phases.clients:
                complete.set()

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            del transport, frame

    def greet(_: WSUpgradeRequest) -> WSListener:
        return Client()

    # It refuses every connection if a reply may take longer than the pause before a ping.
    times = dict.fromkeys(("auto_ping_idle_timeout", "auto_ping_reply_timeout"), phases.beat or 20.0)
    server = await ws_create_server(greet, host, 0, backlog=1024, enable_auto_ping=phases.beat > 0, **times)
    port: int = server.sockets[0].getsockname()[1]
    await asyncio.to_thread(phases.attend, port)
    await complete.wait()
    for part, pause in phases:
        await _broadcast(transports, phases.messages[part], pause)
        await asyncio.to_thread(phases.wait)
    return phases.measurement()


async def _broadcast(transports: list[WSTransport], messages: list[bytes], pause: float) -> None:  # noqa: ASYNC910  (there is a message)
    for message in messages:
        for transport in transports:
            transport.send(WSMsgType.TEXT, message)
        await asyncio.sleep(pause)
