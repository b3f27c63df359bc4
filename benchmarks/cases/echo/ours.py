"""Answering with trio_signal."""

import trio

from trio_signal import ConnectionState, MessageStream, OutgoingMessage, SignalClient, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation


def run(gateway: Gateway, params: Params) -> Measurement:
    """Answer in the loop over ``receive_messages()``, then wait for the outcomes.

    Order inside each conversation is the client's business, so no task is needed for it.
    """
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    people, watch = params["people"], Stopwatch()
    gateway.order("introduce", people, params["warm"] + params["each"])
    async with open_signal_client(gateway.url, ACCOUNT, rate_limit=None, max_in_flight=people) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        messages = signal.receive_messages()
        for each in (params["warm"], params["each"]):
            gateway.order("converse", each)
            watch.start()
            items += await _answer(signal, messages, people * each)
            watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))


async def _answer(signal: SignalClient, messages: MessageStream, count: int) -> list[Item]:
    items: list[Item] = []
    answers: list[OutgoingMessage] = []
    async for message in messages:
        answers.append(await signal.send_message(message.reply_to, message.text or ""))
        items.append((None, message.sender, None, message.text))
        if len(items) == count:
            break
    for answer in answers:
        await answer.wait()
    return items
