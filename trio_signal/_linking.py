"""``link_device()``: makes a gateway another device of somebody's phone."""

import inspect
import ssl
from collections.abc import Callable

from ._asking import open_gateway
from ._checks import check_positive
from ._credentials import Headers, Token
from ._dial import Connect
from ._errors import ConfigurationError
from ._operations import FinishLink, StartLink
from .gateways._kinds import GatewayKind


async def link_device(
    url: str,
    device_name: str,
    *,
    on_uri: Callable[[str], object],
    gateway: GatewayKind = "auto",
    headers: Headers = (),
    token: Token | None = None,
    ssl_context: ssl.SSLContext | None = None,
    connect: Connect | None = None,
    timeout: float = 120.0,
) -> str | None:
    """Link a gateway to a Signal account, as a device beside somebody's phone.

    ``on_uri`` gets a link to be shown as a QR code; the phone scans it in its settings, under "Linked
    devices". Then this waits until that has happened. Whoever scans it gets the gateway as a device of that
    account, so show it to nobody else. A checkpoint. Cancelled, the gateway goes on waiting for the phone
    for a while, so it may still become linked.

    Args:
        url: the gateway, as for :func:`open_signal_client`. No client is opened and no account needed.
        device_name: what the phone calls the new device.
        on_uri: called with the link (``sgnl://linkdevice?…``) once; may be async. What it raises ends this.
        gateway: what kind it is; ``"auto"`` asks it. A hub links no devices: give its gateway's URL.
        headers: sent with every request.
        token: a bearer token, or a callable (async or not) that is asked for one.
        ssl_context: for https, to trust an authority of your own.
        connect: opens the byte stream to (host, port), for proxies and tests; TCP by default.
        timeout: how long the phone may take to scan it, in seconds; and no longer may the link take to come.

    Returns:
        The number of the account; None where the gateway does not tell, as signal-cli-rest-api does not: it
        does not say either when the phone has scanned the code.

    Raises:
        ConfigurationError: an argument is wrong; it is named, and nothing was asked.
        RequestFailed: it failed; ``certainty`` says whether it may be linked all the same.
        Unsupported: this gateway links no devices.
    """
    if not callable(on_uri):
        raise ConfigurationError("on_uri", f"{type(on_uri).__name__} cannot be called")
    if not isinstance(device_name, str):
        raise ConfigurationError("device_name", f"{type(device_name).__name__} is not a str")
    limit = check_positive("timeout", timeout)
    start = StartLink(device_name)
    async with open_gateway(
        url,
        gateway=gateway,
        headers=headers,
        token=token,
        ssl_context=ssl_context,
        connect=connect,
        timeout=limit,
    ) as route:
        uri = await route.operate(start, account=None, limit=limit)
        told = on_uri(uri)
        if inspect.isawaitable(told):
            await told
        return await route.operate(FinishLink(uri, device_name), account=None, limit=limit)
