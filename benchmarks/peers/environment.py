"""Peers that are Python packages: a virtual environment for each. Standard library only."""

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from .peer import HOME, PeerMissing, Prepared

#: Seconds to make an environment or to install into it.
_LIMIT: Final = 300.0

_PINNED: Final = re.compile(r"^([a-z0-9._-]+==[^\s;\\]+)", re.MULTILINE)
_ASKED: Final = re.compile(r"([a-z0-9._-]+==\S+)")


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer in a virtual environment of its own.

    Attributes:
        name: what it is called on the command line.
        requirements: the file of all its packages, pinned, with their checksums. Its first line names those
            that were asked for.
        home: where the environment is made.
    """

    name: str
    requirements: Path
    home: Path

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the one whose requirements are beside this file."""
        return cls(name, Path(__file__).with_name(f"{name}.txt"), HOME / name)

    @property
    def versions(self) -> tuple[str, ...]:
        """What was asked for, as ``name==version``."""
        return tuple(_ASKED.findall(self.requirements.read_text(encoding="utf-8").partition("\n")[0]))

    @property
    def packages(self) -> tuple[str, ...]:
        """All that is installed, as ``name==version``."""
        return tuple(_PINNED.findall(self.requirements.read_text(encoding="utf-8")))

    def prepare(self) -> Prepared:
        """Make the environment, unless there is one of these versions for this Python.

        Raises:
            PeerMissing: it cannot be made; what there was of it is deleted.
        """
        python = self.home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        stamp, wanted = self.home / ".prepared", self._fingerprint()
        if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists()):
            try:
                self._make(python)
            except PeerMissing:
                shutil.rmtree(self.home, ignore_errors=True)
                raise
            # Last, so that whoever is interrupted begins anew.
            stamp.write_text(wanted, encoding="utf-8")
        return Prepared(self.versions, str(python))

    def _make(self, python: Path) -> None:
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.home))
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python))
        _run(
            *pip,
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--requirement",
            str(self.requirements),
        )

    def _fingerprint(self) -> str:
        """Return what the environment depends on, in short."""
        return hashlib.sha256(sys.version.encode() + self.requirements.read_bytes()).hexdigest()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"could not be installed: {type(error).__name__}") from error
    if done.returncode != 0:
        raise PeerMissing(f"could not be installed: {_complaint(done.stderr or done.stdout)}")


def _complaint(output: str) -> str:
    """Pick pip's error from what it printed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["without a word"])[-1]
