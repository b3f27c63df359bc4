"""Asks the package index whether what requirements/ci.txt pins has known vulnerabilities, or was withdrawn.

``python -m tests.audit`` prints what it finds and ends with 1 if there is anything, 0 if there is nothing,
and 0 with a note where it cannot ask: an index of one's own often has no such answers, and a machine may have
no network. So it is no part of ``make test``. What PyPI's JSON API answers comes from the Python advisory
database.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from pip._internal.models.index import PyPI

LOCK: Final = Path(__file__).parent.parent / "requirements" / "ci.txt"

#: How long one answer may take, in seconds.
_PATIENCE: Final = 20.0

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


class CannotAsk(Exception):
    """The index gives no such answers, or cannot be reached."""


class _Vulnerability(msgspec.Struct):
    id: str
    summary: str | None = None
    details: str | None = None
    fixed_in: list[str] = []
    withdrawn: str | None = None


class _Info(msgspec.Struct):
    yanked: bool = False
    yanked_reason: str | None = None


class _Release(msgspec.Struct):
    info: _Info
    vulnerabilities: list[_Vulnerability] = []


def pins(text: str) -> list[tuple[str, str]]:
    """Return name and version of each package that a lock file pins. Pure."""
    return _PIN.findall(text)


def problems(name: str, version: str, answer: bytes) -> Iterator[str]:
    """Say what an index tells against a release. Pure.

    Raises:
        msgspec.MsgspecError: the answer is none.
    """
    release = msgspec.json.decode(answer, type=_Release)
    if release.info.yanked:
        yield f"{name} {version} was withdrawn: {release.info.yanked_reason or 'no reason is given'}"
    for known in release.vulnerabilities:
        if known.withdrawn is None:
            words = " ".join((known.summary or known.details or "").split())[:200]
            mended = ", ".join(known.fixed_in) or "no release"
            yield f"{name} {version}: {known.id} (mended in {mended}): {words}"


def ask(client: Any, packages: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Ask about each package in turn.

    Raises:
        CannotAsk: there was no answer to one that is there. Who does not answer the first is asked no more.
    """
    for name, version in packages:
        try:
            answer = client.get(f"/pypi/{name}/{version}/json")
            if answer.status_code != 200:
                raise CannotAsk(f"the index answered HTTP {answer.status_code} about {name} {version}")
            yield from problems(name, version, answer.content)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise CannotAsk(f"the index gave no answer about {name} {version}: {error}") from error


def index() -> str:
    """Return the index that pip is set to use; PyPI by default."""
    asked = (sys.executable, "-m", "pip", "config", "get", "global.index-url")
    told = subprocess.run(asked, check=False, capture_output=True, text=True)
    chosen = os.environ.get("PIP_INDEX_URL") or told.stdout.strip() or str(PyPI.simple_url)
    return chosen.rstrip("/").removesuffix("/simple")


def main() -> int:
    """Print what there is, and return the exit code."""
    packages = pins(LOCK.read_text(encoding="utf-8"))
    found: list[str] = []
    note = f"{len(packages)} packages: nothing known against them"
    with httpx.Client(base_url=index(), timeout=_PATIENCE) as client:
        try:
            found += ask(client, packages)
        except CannotAsk as error:
            note = f"not audited: {error}"
    sys.stdout.write("\n".join(found or [note]) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
