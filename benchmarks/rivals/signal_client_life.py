"""What signal-client does when the gateway goes away, its limit of 50 requests a second lifted."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported, untyped-decorator"
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

from signal_client import command

from ..cases.outage.ledger import Ledger, Verdict, offer_with_asyncio
from ..cases.reconnect.sites import in_order, order_outages, sites
from ..contender import Gateway, Measurement, Params, Work
from ..traffic import ACCOUNT
from .asyncio_work import Intake
from .signal_client_peer import open_client


def come_back(gateway: Gateway, params: Params) -> Measurement:
    """Keep a client at each gateway until all of them are back."""
    return asyncio.run(_come_back(gateway, params))


def outage(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``api_clients.messages.send()``, a task for each message."""
    return asyncio.run(_outage(gateway, params))


async def _come_back(gateway: Gateway, params: Params) -> Measurement:
    intake = Intake()
    at_each = sites(gateway, params)
    intake.expect(len(at_each))

    @command(re.compile(""))
    async def take(context: Any) -> None:
        await asyncio.sleep(0)
        message = context.message
        group = message.group
        intake.take((message.timestamp, message.source, group["groupId"] if group else None, message.message))

    async with AsyncExitStack() as stack:
        for site in at_each:
            await stack.enter_async_context(open_client(site, take))
        await asyncio.to_thread(order_outages, gateway, params)
        await intake.complete()
    return Measurement({}, Work.of(in_order(intake.items)))


async def _outage(gateway: Gateway, params: Params) -> Measurement:
    ledger = Ledger(gateway, params)
    async with open_client(gateway) as client:
        messages = client.api_clients.messages

        async def send(recipient: str, text: str) -> Verdict:
            body = {"number": ACCOUNT, "recipients": [recipient], "message": text}
            try:
                await messages.send(body)
            except Exception:  # noqa: BLE001  (each of its errors says that it was not sent)
                return Verdict.FAILED  # noqa: ASYNC910  (asyncio)
            return Verdict.SENT

        await offer_with_asyncio(ledger, send)
    return ledger.measurement()
