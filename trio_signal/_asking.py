"""A gateway for who only asks: nothing is received, so nothing that waits for somebody is taken."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from ._checks import check_choice, check_positive, check_type
from ._credentials import Credentials, Headers, Token
from ._dial import Connect, parse_url
from ._errors import Certainty, ConfigurationError, GatewayError, LinkLost, RequestFailed
from ._recipients import check_number
from .gateways import Gateway
from .gateways._kinds import GatewayKind
from .gateways._requests import Requests
from .gateways.auto import AutoGateway, make_gateway

#: Seconds for closing what is left.
_LAST_ACTS: Final = 1.0

#: No link is opened, so what the options of one are does not matter.
_OF_NO_USE: Final = 1.0


@asynccontextmanager
async def open_gateway(
    url: str,
    *,
    account: str | None = None,
    gateway: GatewayKind = "auto",
    headers: Headers = (),
    token: Token | None = None,
    ssl_context: ssl.SSLContext | None = None,
    connect: Connect | None = None,
    timeout: float = 60.0,
) -> AsyncGenerator[Gateway]:
    """Give a gateway to ask with ``operate()``, ``call()`` and ``download()``, without a link.

    Entering and leaving are checkpoints; cancelling is safe. The options are those of
    :func:`open_signal_client`.

    Args:
        url: where it is.
        account: for whom; None where all that is asked needs no account.
        gateway: what kind it is; ``"auto"`` asks it at once.
        headers: sent with every request.
        token: a bearer token, or a callable that is asked for one.
        ssl_context: for https, to trust an authority of your own.
        connect: opens the byte stream to (host, port); TCP by default.
        timeout: how long asking what kind it is may take, in seconds.

    Raises:
        ConfigurationError: an argument is wrong; it is named, and nothing was asked.
        RequestFailed: it could not be asked what kind it is.
    """
    address = parse_url(url)
    check_choice("gateway", gateway, GatewayKind)
    check_type("ssl_context", ssl_context, ssl.SSLContext)
    check_positive("timeout", timeout)
    if account is not None:
        check_number("account", account)
    if connect is not None and not callable(connect):
        raise ConfigurationError("connect", f"{type(connect).__name__} cannot be called")
    requests = Requests(
        address,
        Credentials(headers, token, address.authorization),
        connect=connect or trio.open_tcp_stream,
        ssl_context=ssl_context,
        http_client=None,
        send_timeout=timeout,
    )
    route = make_gateway(
        gateway,
        requests,
        account,
        ping_interval=_OF_NO_USE,
        pong_timeout=_OF_NO_USE,
        max_message_size=1,
        receive_mode="on-start",
        quiet_time=_OF_NO_USE,
        now=lambda: 0,
    )
    try:
        if isinstance(route, AutoGateway):
            await _find_out(route, timeout)
        yield route
    finally:
        with trio.move_on_after(_LAST_ACTS, shield=True):
            await route.aclose()


async def _find_out(route: AutoGateway, limit: float) -> None:
    """Ask a gateway what kind it is. A checkpoint; cancelling is safe.

    Raises:
        RequestFailed: it could not be asked.
    """
    with trio.move_on_after(limit):
        try:
            await route.find_out()
        except GatewayError as error:
            raise RequestFailed(error, Certainty.NOT_SENT) from error
        return
    raise RequestFailed(LinkLost(f"the gateway did not answer within {limit:g} s"), Certainty.NOT_SENT)
