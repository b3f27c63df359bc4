"""Broadcasting with ws on Node.js, which is a program of its own: ``node_ws.cjs``. Standard library only."""

from ...contender import Gateway, Measurement, Params
from ..program import Program, running
from .phases import Phases
from .quiet import Quiet


def run(gateway: Gateway, params: Params, program: tuple[str, ...]) -> Measurement:
    """Have ``node_ws.cjs`` broadcast; the CPU is its own."""
    with running((*program, str(params["clients"]), "0")) as node:
        return _run(node, Phases(gateway, params, cpu=node.cpu))


def idle(gateway: Gateway, params: Params, program: tuple[str, ...]) -> Measurement:
    """Have ``node_ws.cjs`` ping each client; CPU and memory are its own."""
    clients = params["warm"] + params["clients"]
    with running((*program, str(clients), str(params["beat"]))) as node:
        return _run(node, Quiet(gateway, params, cpu=node.cpu, memory=node.memory))


def _run(node: Program, phases: Phases | Quiet) -> Measurement:
    port = int(node.hear("port"))
    node.tell(f"messages {len(phases.messages)}", *(text.decode() for text in phases.messages))
    phases.attend(port)
    node.hear("attended")
    for part, pause in phases:
        first, end, _ = part.indices(len(phases.messages))
        node.tell(f"broadcast {first} {end} {pause * 1000:g}")
        node.hear("done")
        phases.wait()
    return phases.measurement()
