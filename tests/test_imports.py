"""What importing and connecting load, in fresh processes: a start is paid for by everybody."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import trio

import trio_signal
from trio_signal.testing import FakeGateway, open_fake_gateway

#: What nobody needs who has not asked for it: SQLite for a store, httpx for a client of one's own, the hub.
UNWANTED: Final = frozenset(
    {"_sqlite3", "click", "h2", "http.client", "http.cookiejar", "httpcore", "httpx", "httpx2", "jwt", "rich"}
    | {"trio_signal.gateways.hub", "trio_signal.gateways.signal_cli"}
    | {"sqlite3", "trio_signal._cli", "trio_signal.hub", "trio_signal.store._database", "trio_signal.testing"}
)

#: A program that connects, sends, receives and leaves again, and then tells what is loaded.
PROGRAM: Final = """
import sys
import trio
from trio_signal import ConnectionState, open_signal_client

async def main(url, account):
    async with open_signal_client(url, account) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        await (await signal.send_message("+15550002", "hello")).wait()
        assert (await anext(signal.receive_messages())).text == "hello yourself"

trio.run(main, *sys.argv[1:])
print(*sys.modules)
"""

#: Measuring the coverage loads modules too, SQLite among them.
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def loaded_by(code: str) -> set[str]:
    """Return the modules that are there after some code that prints their names last."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=UNMEASURED,
    )
    return set(done.stdout.split())


def test_importing_loads_nothing_but_names() -> None:
    bare = loaded_by("import sys, typing, importlib; print(*sys.modules)")
    more = loaded_by("import sys, typing, importlib, trio_signal; print(*sys.modules)") - bare
    assert more == {"trio_signal"}


def test_a_name_is_loaded_when_it_is_asked_for_and_once() -> None:
    code = """
import sys, trio_signal
trio_signal.ConnectionState
print(*sys.modules)
"""
    loaded = loaded_by(code)
    assert "trio_signal._states" in loaded
    assert {"trio", "msgspec", "trio_signal._client"}.isdisjoint(loaded)
    assert trio_signal.Backoff is vars(trio_signal)["Backoff"]


def test_every_name_leads_to_where_type_checkers_are_told_that_it_is() -> None:
    tree = ast.parse(Path(trio_signal.__file__).read_text(encoding="utf-8"))
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told.keys() == set(trio_signal.__all__)
    for name, module in told.items():
        home = importlib.import_module(f"trio_signal.{module}")
        assert getattr(trio_signal, name) is getattr(home, name)
    assert set(trio_signal.__all__) <= set(dir(trio_signal))


def test_a_name_that_is_none_is_refused_as_everywhere() -> None:
    with pytest.raises(AttributeError, match="module 'trio_signal' has no attribute 'nonsense'"):
        _ = trio_signal.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ImportError, match="nonsense"):
        from trio_signal import nonsense  # type: ignore[attr-defined]  # noqa: F401


async def test_connecting_sending_and_receiving_load_nothing_that_is_not_used() -> None:
    async with open_fake_gateway() as gateway, trio.open_nursery() as nursery:
        nursery.start_soon(answer_one, gateway)
        with trio.fail_after(30):
            done = await trio.run_process(
                [sys.executable, "-W", "error", "-c", PROGRAM, gateway.url, gateway.account],
                capture_stdout=True,
                env=UNMEASURED,
            )
    loaded = set(done.stdout.decode().split())
    assert {"trio", "msgspec", "trio_signal._client"} <= loaded
    assert loaded & UNWANTED == set()


async def answer_one(gateway: FakeGateway) -> None:
    """Deliver an answer to the first message that is sent."""
    await gateway.wait_received(1)
    gateway.deliver(text="hello yourself")
