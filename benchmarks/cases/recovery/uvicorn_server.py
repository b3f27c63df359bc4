"""Recovery with Starlette on uvicorn, with httptools and without a log of requests."""

# They are installed in an environment of their own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio
import socket
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn import Config, Server

from ...contender import Gateway, Measurement, Params
from . import SIZES, pages
from .asking import Asking


def run(gateway: Gateway, params: Params) -> Measurement:
    """Have each answer as bytes beforehand."""
    return asyncio.run(_run(gateway, params))


async def _run(gateway: Gateway, params: Params) -> Measurement:
    asking = Asking(gateway, params)
    application = Starlette(routes=[Route("/websocket/messages", _Answers())])
    server = Server(Config(application, http="httptools", loop="asyncio", lifespan="off", log_level="error"))
    # Named as TCP: asyncio sends at once only on sockets that say what they are.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((gateway.host, 0))
        listener.listen()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        measurement = await asyncio.to_thread(asking.run, listener.getsockname()[1])
        server.should_exit = True
        await serving
    return measurement


class _Answers:
    """What a route does with a function that takes a request and returns a response."""

    def __init__(self) -> None:
        self._answers: Final = pages.ready(SIZES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        since = int(Request(scope, receive).query_params["since"])
        await Response(self._answers[since], media_type="application/json")(scope, receive, send)
