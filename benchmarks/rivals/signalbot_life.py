"""What signalbot does when the gateway goes away."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio
from contextlib import AsyncExitStack

from signalbot import SendMessage

from ..cases.outage.ledger import Ledger, Verdict, offer_with_asyncio
from ..cases.reconnect.sites import in_order, order_outages, sites
from ..contender import Gateway, Measurement, Params, Work
from .asyncio_work import Intake
from .signalbot_peer import Taking, open_bot


def come_back(gateway: Gateway, params: Params) -> Measurement:
    """Keep a bot at each gateway until all of them are back."""
    return asyncio.run(_come_back(gateway, params))


def outage(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``bot.messages.send()``, a task for each message."""
    return asyncio.run(_outage(gateway, params))


async def _come_back(gateway: Gateway, params: Params) -> Measurement:
    intake = Intake()
    at_each = sites(gateway, params)
    intake.expect(len(at_each))
    async with AsyncExitStack() as stack:
        for site in at_each:
            await stack.enter_async_context(open_bot(site, Taking(intake.take)))
        await asyncio.to_thread(order_outages, gateway, params)
        await intake.complete()
    return Measurement({}, Work.of(in_order(intake.items)))


async def _outage(gateway: Gateway, params: Params) -> Measurement:
    ledger = Ledger(gateway, params)
    async with open_bot(gateway) as bot:

        async def send(recipient: str, text: str) -> Verdict:
            try:
                await bot.messages.send(SendMessage(text=text), recipient)
            except Exception:  # noqa: BLE001  (each of its errors says that it was not sent)
                return Verdict.FAILED  # noqa: ASYNC910  (asyncio)
            return Verdict.SENT

        await offer_with_asyncio(ledger, send)
    return ledger.measurement()
