"""What pysignalclirestapi does, in the way its documentation shows. All its calls block."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found"
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from pysignalclirestapi import SignalCliRestApi

from ..contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ..traffic import ACCOUNT, by_conversation, outgoing


def send(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``send_message()``, which asks the gateway for its version first, twice."""
    items: list[Item] = []
    api = SignalCliRestApi(gateway.url, ACCOUNT)
    watch = Stopwatch()
    for number, (recipient, text) in enumerate(outgoing(params["warm"] + params["count"])):
        if number == params["warm"]:
            watch.start()
        (sent,) = api.send_message(text, [recipient])
        items.append((int(sent["timestamp"]), recipient, None, text))
    watch.stop()
    return Measurement(watch.figures(params["count"]), Work.of(by_conversation(items)))
