"""What the tests of the benchmarks share: small sizes, and contenders, which run in processes of their own.

Standard library only, so that such a process starts quickly and can be one of a peer's environment.
"""

import http.client
import importlib
import json
import os
import sys
from typing import Final

from benchmarks.contender import Gateway, Item, Measurement, Params, Work
from benchmarks.traffic import ACCOUNT, outgoing, timestamp

#: The cases in which the generator is a gateway, each at the smallest size that shows something.
TINY: Final[dict[str, Params]] = {
    "receive": {"warm": 3, "count": 70},
    "paced": {"warm": 2, "count": 5, "interval": 100},
    "send": {"warm": 2, "count": 5},
    "sends_many": {"people": 3, "warm": 1, "each": 2},
    "echo": {"people": 1, "warm": 1, "each": 3},
    "echo_many": {"people": 3, "warm": 1, "each": 2},
}


def honest(_gateway: Gateway, params: Params) -> Measurement:
    """Do nothing and say so."""
    return Measurement({"rate": float(params["rate"])}, Work.of([]))


def lying(_gateway: Gateway, _params: Params) -> Measurement:
    """Say more than was done."""
    return Measurement({"rate": 1e9}, Work.of([(1, "+15550199", None, "never came")]))


def lazy(_gateway: Gateway, _params: Params) -> Measurement:
    """Give no figures."""
    return Measurement({}, Work.of([]))


def broken(_gateway: Gateway, _params: Params) -> Measurement:
    """Raise an error."""
    raise RuntimeError("out of order")


def grouped(_gateway: Gateway, _params: Params) -> Measurement:
    """Raise a group of errors."""
    raise ExceptionGroup("both", [RuntimeError("the first"), OSError("the second")])


def silent(_gateway: Gateway, _params: Params) -> Measurement:
    """End without an answer."""
    os._exit(3)


def talkative(_gateway: Gateway, params: Params) -> Measurement:
    """Print something, as a library may do."""
    sys.stdout.write("look at me\n")
    os.write(1, b"and me\n")
    return Measurement({"rate": float(params["rate"])}, Work.of([]))


def leaving(_gateway: Gateway, _params: Params) -> Measurement:
    """End as if all were well, without an answer."""
    sys.stderr.write("had enough\n")
    sys.exit(0)


def endless(_gateway: Gateway, _params: Params) -> Measurement:
    """Never end."""
    while True:
        pass


def needy(_gateway: Gateway, params: Params) -> Measurement:
    """Import what the peers' environments have not."""
    importlib.import_module("msgspec")
    return Measurement({"rate": float(params["rate"])}, Work.of([]))


def with_program(_gateway: Gateway, _params: Params, program: tuple[str, ...]) -> Measurement:
    """Count the words of the program's command."""
    return Measurement({"rate": float(len(program))}, Work.of([]))


def sends(gateway: Gateway, params: Params) -> Measurement:
    """Send as many messages as asked."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port)
    items: list[Item] = []
    for number, (recipient, text) in enumerate(outgoing(params["count"])):
        body = json.dumps({"number": ACCOUNT, "recipients": [recipient], "message": text})
        connection.request("POST", "/v2/send", body)
        (sent,) = json.loads(connection.getresponse().read())
        if int(sent["timestamp"]) != timestamp(number):
            raise ValueError("another timestamp")
        items.append((timestamp(number), recipient, None, text))
    connection.close()
    return Measurement({"rate": 1.0}, Work.of(sorted(items, key=lambda item: item[1] or "")))


def sends_half(gateway: Gateway, params: Params) -> Measurement:
    """Send half as many."""
    return sends(gateway, {"count": params["count"] // 2})
