"""What signal-cli's daemon answers, byte for byte: asked of the real one and of the fake by the same code.

The cases are data (``data/signal_cli_cases.json``, which says what its fields mean).
"""

import re
from pathlib import Path

import msgspec
import trio

_DATA = Path(__file__).parent / "data" / "signal_cli_cases.json"
#: Seconds within which anything is answered that is not a stream.
_PATIENCE = 10.0
_DATE = rb"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer."""

    name: str
    since: str | None
    until: str | None
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str | None
    head: list[str]
    answer: str
    closes: bool
    measured: bool
    network: bool = False


class StreamCase(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is answered for ever, with nothing but keep-alives. Times are in seconds."""

    name: str
    since: str | None
    until: str | None
    method: str
    path: str
    headers: list[tuple[str, str]]
    head: list[str]
    first_within: float
    keep_alive: str
    period: float
    measured: bool


class _File(msgspec.Struct, frozen=True):
    cases: list[Case]
    streams: list[StreamCase]


def load_cases(version: str) -> list[Case]:
    """Return the cases that hold for one version."""
    return [case for case in _load().cases if _holds(case, version)]


def load_streams(version: str) -> list[StreamCase]:
    """Return the streams that hold for one version."""
    return [case for case in _load().streams if _holds(case, version)]


async def check_case(stream: trio.abc.Stream, case: Case, *, host: str, version: str) -> None:
    """Ask on a fresh connection to ``host`` ("127.0.0.1:8080"), and compare each byte of the answer.

    A connection that is kept afterwards must still work, which shows too that nothing came behind the answer.
    """
    answer = case.answer.replace("{version}", version).encode()
    head = _head(case).replace(b"{length}", str(len(answer)).encode())
    await stream.send_all(_request(case, host, (case.body or "").encode()))
    _assert_is(await _read(stream, None if case.closes else _size(head + answer)), head + answer)
    if not case.closes:
        check = f"GET /api/v1/check HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        await stream.send_all(check.encode())
        assert (await _read(stream)).startswith(b"HTTP/1.1 200 OK\r\n"), (
            "the connection does not work any more"
        )


async def check_stream(stream: trio.abc.Stream, case: StreamCase, *, host: str, slack: float) -> None:
    """Listen on a fresh connection for two keep-alives: their bytes, and when they come.

    They may be ``slack`` seconds too early or too late.
    """
    began = trio.current_time()
    await stream.send_all(_request(case, host, b""))
    _assert_is(await _read(stream, _size(_head(case)), case.first_within + slack), _head(case))
    _assert_is(await _read(stream, len(case.keep_alive), case.period + slack), case.keep_alive.encode())
    first = trio.current_time()
    assert case.period - slack < first - began < case.period + slack
    _assert_is(await _read(stream, len(case.keep_alive), case.period + slack), case.keep_alive.encode())
    assert case.period - slack < trio.current_time() - first < case.period + slack


def _head(case: Case | StreamCase) -> bytes:
    return "\r\n".join([*case.head, "", ""]).encode()


def _size(expected: bytes) -> int:
    return len(expected.replace(b"{date}", b"Sun, 22 Nov 2026 08:26:51 GMT"))


def _assert_is(data: bytes, expected: bytes) -> None:
    pattern = re.escape(expected).replace(re.escape(b"{date}"), _DATE)
    assert re.fullmatch(pattern, data), f"got {data!r} and not {expected!r}"


async def _read(stream: trio.abc.Stream, size: int | None = None, limit: float = _PATIENCE) -> bytes:
    """Read this many bytes, or to the end; what has come when the time is over."""
    data = b""
    with trio.move_on_after(limit):
        while size is None or len(data) < size:
            more = await stream.receive_some(None if size is None else size - len(data))
            if not more:
                return data
            data += more
        return data
    assert size is not None, f"no end of the connection within {limit} s, but {data!r}"
    return data


def _request(case: Case | StreamCase, host: str, body: bytes) -> bytes:
    lines = [
        f"{case.method} {case.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in case.headers),
        "",
        "",
    ]
    return "\r\n".join(lines).replace("{host}", host).encode() + body


def _load() -> _File:
    return msgspec.json.decode(_DATA.read_bytes(), type=_File)


def _holds(case: Case | StreamCase, version: str) -> bool:
    numbers = _numbers(version)
    return (case.since is None or _numbers(case.since) <= numbers) and (
        case.until is None or numbers <= _numbers(case.until)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
