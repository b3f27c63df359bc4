import io
import re
import signal
import sys
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal._cli.connection import Connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.link import LinkSettings, qr_code, run_link
from trio_signal._cli.options import UsageError
from trio_signal.testing import FakeGateway, hang, open_fake_gateway, rpc_error, rpc_result

from .programs import run_program

URI = "sgnl://linkdevice?uuid=s3cret&pub_key=BQ"


class Linking:
    """Runs ``link`` and keeps what it prints."""

    def __init__(self, gateway: FakeGateway, *, with_uri: bool = False, **where: Any) -> None:
        connection = Connection(gateway=gateway.url, connect=gateway.connect, **where)
        self._settings = LinkSettings(where=connection, name="my bot", with_uri=with_uri)
        self.out = ""

    async def run(self) -> int:
        return await run_link(self._settings, write=self._write)

    async def _write(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.out += text


async def test_it_shows_the_code_says_what_to_do_and_prints_the_number(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC startLink", rpc_result({"deviceLinkUri": URI}))
        gateway.script("RPC finishLink", rpc_result({"number": "+15550007"}))
        linking = Linking(gateway)
        assert await linking.run() == Exit.OK
        assert gateway.handshakes == 0
        assert b"my bot" in gateway.requests[-1].body
    assert linking.out == "+15550007\n"
    err = capsys.readouterr().err
    assert qr_code(URI) in err
    assert "Linked devices > Link a new device; scan this code within 2 minutes" in err
    assert err.endswith("trio-signal: linked\n")
    assert URI not in err


async def test_what_the_code_says_is_printed_only_when_asked_for(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC startLink", rpc_result({"deviceLinkUri": URI}))
        gateway.script("RPC finishLink", rpc_result({"number": "+15550007"}))
        linking = Linking(gateway, with_uri=True)
        assert await linking.run() == Exit.OK
    assert linking.out == f"{URI}\n+15550007\n"


async def test_a_rest_gateway_shows_a_code_and_does_not_tell_what_came_of_it(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        linking = Linking(gateway)
        assert await linking.run() == Exit.OK
    assert linking.out == ""
    err = capsys.readouterr().err
    assert "█" in err
    assert err.endswith("trio-signal: the gateway does not tell whether the phone has linked it\n")


async def test_a_phone_that_does_not_come_is_waited_for_two_minutes(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC finishLink", hang())
        began = trio.current_time()
        assert await Linking(gateway).run() == Exit.FAILED
        assert trio.current_time() - began == pytest.approx(120, abs=2)
    assert "did not answer within 120 s" in capsys.readouterr().err


async def test_a_gateway_that_links_nothing(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC startLink", rpc_error(-3, "Link request error: Connection closed!"))
        assert await Linking(gateway).run() == Exit.FAILED
        assert "Link request error: Connection closed!" in capsys.readouterr().err
        assert await Linking(gateway, kind="hub").run() == Exit.FAILED
        assert "hub" in capsys.readouterr().err
        gateway.stop()
        assert await Linking(gateway).run() == Exit.FAILED
        assert "cannot connect" in capsys.readouterr().err


async def test_a_signal_ends_the_waiting(autojump_clock: MockClock) -> None:
    async def interrupt_soon() -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    async with open_fake_gateway(port=None, kind="signal-cli") as gateway, trio.open_nursery() as nursery:
        gateway.script("RPC finishLink", hang())
        nursery.start_soon(interrupt_soon)
        assert await Linking(gateway).run() == 130


async def test_a_reader_that_has_had_enough_ends_it(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write(_text: str) -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        where = Connection(gateway=gateway.url, connect=gateway.connect)
        settings = LinkSettings(where=where, name="x", with_uri=True)
        assert await run_link(settings, write=write) == Exit.FAILED
    assert capsys.readouterr().err == "trio-signal: nobody reads the output\n"


async def test_a_terminal_without_the_signs_for_a_code(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-1"))
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        with pytest.raises(UsageError, match="--uri .*: give it, since iso-8859-1 has no signs"):
            await Linking(gateway).run()
        assert gateway.requests == []
        linking = Linking(gateway, with_uri=True)
        assert await linking.run() == Exit.OK
        assert linking.out.startswith("sgnl://linkdevice?")


def test_the_code_is_square_framed_and_the_same_on_every_terminal() -> None:
    lines = qr_code(URI).split("\n")
    shown = [re.fullmatch("\x1b\\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\\[0m", line) for line in lines]
    rows = [match[1] for match in shown if match]
    assert len(rows) == len(lines)
    [width] = {len(row) for row in rows}
    assert width == 2 * len(rows) - 1, "one row of modules has none below it"
    assert rows[0] == " " * width, "two light modules around the code"
    assert all(row.startswith("  ") and row.endswith("  ") for row in rows)
    assert rows[1].startswith("  █▀▀▀▀▀█ "), "the corner that a phone looks for"


async def test_as_a_process() -> None:
    async with open_fake_gateway(kind="signal-cli") as gateway:
        gateway.script("RPC startLink", rpc_result({"deviceLinkUri": URI}))
        gateway.script("RPC finishLink", rpc_result({"number": "+15550007"}))
        done = await run_program("link", "--uri", "--name", "x", env={"TRIO_SIGNAL_GATEWAY": gateway.url})
    assert (done.code, done.out) == (0, f"{URI}\n+15550007\n")
    assert qr_code(URI) in done.err
