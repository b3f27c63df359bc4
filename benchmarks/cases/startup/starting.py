"""Starting programs and watching them come up. Standard library only."""

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...contender import Gateway, Measurement, Params, Work
from ...generators import Generator
from ...traffic import ACCOUNT

_ROOT: Final = Path(__file__).parents[3]
_PROGRAMS: Final = Path(__file__).with_name("programs")

#: Seconds until a program is connected.
_LIMIT: Final = 20.0

_TIMED: Final = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


class Threshold(Generator):
    """A gateway that tells when somebody has come: ``meet`` waits for the next WebSocket."""

    def __init__(self) -> None:
        super().__init__()
        self._met = 0

    @property
    def work(self) -> Work:
        """How many have come."""
        return Work(self._met, "")

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | {"meet": self._meet}

    def _meet(self) -> None:
        if not self._connected.wait(_LIMIT):
            raise RuntimeError("nobody has come")
        self._connected.clear()
        self._met += 1


def ours(gateway: Gateway, params: Params) -> Measurement:
    """Start a program that uses trio_signal."""
    names = "from trio_signal import ConnectionState, open_signal_client"
    return _measure(gateway, params, "trio_signal_program.py", "import trio_signal", names)


def foundations(gateway: Gateway, params: Params) -> Measurement:
    """Start one that uses what trio_signal is made of."""
    names = "import trio, trio_websocket, msgspec"
    return _measure(gateway, params, "trio_websocket_program.py", names, names)


def signalbot(gateway: Gateway, params: Params) -> Measurement:
    """Start one that uses signalbot."""
    names = "from signalbot import Config, DataMessageHandler, SignalBot"
    return _measure(gateway, params, "signalbot_program.py", "import signalbot", names)


def signal_client(gateway: Gateway, params: Params) -> Measurement:
    """Start one that uses signal-client."""
    names = "from signal_client import SignalClient, command"
    return _measure(gateway, params, "signal_client_program.py", "import signal_client", names)


def rest_api_client(gateway: Gateway, params: Params) -> Measurement:
    """Start one that uses signal-cli-rest-api-client."""
    names = "from signal_cli_rest_api_client.client import SignalClient"
    return _measure(gateway, params, "rest_api_client_program.py", "import signal_cli_rest_api_client", names)


def _measure(gateway: Gateway, params: Params, program: str, bare: str, names: str) -> Measurement:
    figures: defaultdict[str, list[float]] = defaultdict(list)
    # The first time its modules are compiled, and read from the disk.
    for number in range(params["starts"] + 1):
        once = _start(gateway, program, params["settle"] / 1000)
        once["import"], once["names"] = _import(bare), _import(names)
        if number > 0:
            for name, figure in once.items():
                figures[name].append(figure)
    medians = {name: statistics.median(some) for name, some in figures.items()}
    return Measurement(medians, Work(params["starts"] + 1, ""))


def _start(gateway: Gateway, program: str, settle: float) -> dict[str, float]:
    """Run a program until it is connected, and a moment longer."""
    command = (sys.executable, str(_PROGRAMS / program), gateway.host, str(gateway.port), ACCOUNT)
    cpu, started = _cpu_of_children(), time.perf_counter()
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.DEVNULL) as process:
        try:
            gateway.order("meet")
            figures = {"start": (time.perf_counter() - started) * 1e3}
            time.sleep(settle)
            figures |= _resident(process.pid)
        finally:
            process.kill()
    return figures | {"cpu": (_cpu_of_children() - cpu) * 1e3}


def _import(statement: str) -> float:
    command = (sys.executable, "-c", _TIMED.format(statement))
    done = subprocess.run(command, env=_environment(), capture_output=True, encoding="utf-8", check=True)
    return float(done.stdout) * 1e3


def _environment() -> dict[str, str]:
    """Return one in which modules are kept compiled, as they are where a library is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled = str(_ROOT / ".cache" / "bench" / "bytecode")
    return environment | {"PYTHONPATH": str(_ROOT), "PYTHONPYCACHEPREFIX": compiled}


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _resident(pid: int) -> dict[str, float]:
    """Return how much memory a process takes, where the system tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return {"rss": int(lines["VmRSS"].split()[0]) / 1024}
