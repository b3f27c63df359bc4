"""What a peer is: something that can be brought here and then measured. Standard library only."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

#: Where all peers are kept; what is below it can be deleted at any time.
HOME: Final = Path(__file__).parents[2] / ".cache" / "peers"


class PeerMissing(Exception):
    """A peer cannot be brought here; it says why in a line."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A peer that is here.

    Attributes:
        versions: what it consists of, as ``name==version``.
        python: the interpreter in which its contenders run.
        program: the command of a program that its contenders start themselves; empty if there is none.
    """

    versions: tuple[str, ...]
    python: str = sys.executable
    program: tuple[str, ...] = ()


class Peer(Protocol):
    """Something that is brought here when it is first needed."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    def prepare(self) -> Prepared:
        """Bring it, which may take minutes, or find at once that it is here.

        Raises:
            PeerMissing: it cannot be brought.
        """
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """A peer that is no Python package.

    Attributes:
        name: what it is called on the command line.
        versions: what it consists of, as ``name==version``.
        bring: makes or finds it, and returns the command that starts it or raises :exc:`PeerMissing`.
    """

    name: str
    versions: tuple[str, ...]
    bring: Callable[[], tuple[str, ...]]

    def prepare(self) -> Prepared:
        """Bring it; see :class:`Peer`."""
        return Prepared(self.versions, program=self.bring())


def bring(peer: Peer) -> Prepared:
    """Bring a peer, while no other process brings the same.

    Raises:
        PeerMissing: it cannot be brought.
    """
    with _lock(HOME / f"{peer.name}.lock"):
        return peer.prepare()


@contextmanager
def _lock(file: Path) -> Generator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415  (Unix only)

            # Given back when the file is closed.
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
