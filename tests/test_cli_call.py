import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal._cli.call import CallSettings, run_call
from trio_signal._cli.connection import Connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.options import UsageError
from trio_signal.testing import FakeGateway, hang, lost, open_fake_gateway, reply, rpc_error, rpc_result

from .programs import run_program

PEER = "+15550002"
SECRET = "s3cret-pin"


class Call:
    """Runs ``call`` and keeps what it prints."""

    def __init__(self, gateway: FakeGateway, **where: Any) -> None:
        settings: dict[str, Any] = {"account": gateway.account, "connect": gateway.connect}
        self._where = Connection(gateway=gateway.url, **(settings | where))
        self.out = b""

    async def __call__(
        self,
        what: str,
        body: str | None = None,
        *,
        timeout: float = 30.0,
        read: Callable[[], Awaitable[bytes]] | None = None,
    ) -> int:
        self.out = b""
        settings = CallSettings(where=self._where, what=what, body=body, timeout=timeout)
        return await run_call(settings, write=self._write, read=read or no_input)

    async def _write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.out += data

    @property
    def answer(self) -> Any:
        return json.loads(self.out)


async def no_input() -> bytes:
    await trio.lowlevel.checkpoint()
    raise AssertionError("standard input must not be read")


def reading(*pieces: bytes) -> Callable[[], Awaitable[bytes]]:
    left = iter([*pieces, b""])

    async def read() -> bytes:
        await trio.lowlevel.checkpoint()
        return next(left)

    return read


async def test_a_method_of_signal_cli_and_its_answer(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli", receive_mode="on-connection") as gateway:
        gateway.deliver(text="for whoever listens")
        call = Call(gateway)
        gateway.script("RPC version", rpc_result({"version": "0.14.9", "naïve": "\x1b"}))
        assert await call("version") == Exit.OK
        assert call.out.endswith(b"}\n")
        assert call.out.isascii()
        assert call.answer == {"version": "0.14.9", "naïve": "\x1b"}
        assert await call("updateContact", json.dumps({"recipient": PEER, "name": "Ada"})) == Exit.OK
        assert gateway.contacts[PEER]["name"] == "Ada"
        assert json.loads(gateway.requests[-1].body)["params"]["account"] == gateway.account
        assert gateway.statistics().kept == 1, "nothing that waits for somebody else was taken"
        assert gateway.handshakes == 0


async def test_a_request_to_the_rest_gateway_and_answers_that_are_no_json(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        call = Call(gateway)
        assert await call("GET /v1/accounts") == Exit.OK
        assert call.answer == [gateway.account]
        gateway.script("PUT /v1/configuration", reply(204))
        assert await call("PUT /v1/configuration", '{"logging": {"Level": "info"}}') == Exit.OK
        assert (call.out, json.loads(gateway.requests[-1].body)) == (b"", {"logging": {"Level": "info"}})
        raw = "\x1b[2Jé\n"
        gateway.script("GET /v1/attachments/1", *[reply(200, raw, content_type="image/png")] * 2)
        assert await call("GET /v1/attachments/1") == Exit.OK
        assert call.out == raw.encode()
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        assert await call("GET /v1/attachments/1") == Exit.OK
        assert call.out == "\\x1b[2Jé\\n\n".encode()
        assert gateway.handshakes == 0
    assert capsys.readouterr().err == ""


async def test_a_body_with_a_secret_comes_from_standard_input(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC setPin", rpc_result({}))
        read = reading(b'{"pin": ', b'"s3cret-pin"}\n')
        assert await Call(gateway)("setPin", "-", read=read) == Exit.OK
        assert json.loads(gateway.requests[-1].body)["params"]["pin"] == SECRET
        with pytest.raises(UsageError, match="^JSON: it is none: ") as caught:
            await Call(gateway)("setPin", "-", read=reading(b"{s3cret-pin"))
        assert SECRET not in str(caught.value)
        with pytest.raises(UsageError, match="has over 20000000 bytes"):
            await Call(gateway)("setPin", "-", read=reading(b" " * 20_000_000, b" "))
    assert SECRET not in repr(CallSettings(where=Connection(gateway="x"), what="x", body=SECRET, timeout=1))


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (rpc_error(-32602, "no such thing"), Exit.NOT_SENT, "no such thing (nothing was done)"),
        (rpc_error(-32603, "oops"), Exit.UNKNOWN, "oops (whether it was done is unknown)"),
        (lost(), Exit.UNKNOWN, "(whether it was done is unknown)"),
        (hang(), Exit.UNKNOWN, "did not answer within 5 s (whether it was done is unknown)"),
    ],
)
async def test_the_exit_code_tells_whether_it_may_have_been_done(
    answer: Any,
    code: Exit,
    words: str,
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        gateway.script("RPC updateAccount", answer)
        call = Call(gateway, kind="signal-cli")
        assert await call("updateAccount", timeout=5) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("trio-signal: ")
    assert words in captured.err
    assert call.out == b""


async def test_a_gateway_that_cannot_be_asked(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        assert await Call(gateway)("listGroups") == Exit.FAILED
        assert "signal-cli" in capsys.readouterr().err
        gateway.silence(on="http", times=None)
        began = trio.current_time()
        assert await Call(gateway)("GET /v1/accounts", timeout=3) == Exit.NOT_SENT
        assert trio.current_time() - began < 4
        assert "(nothing was done)" in capsys.readouterr().err
        gateway.heal()
        gateway.stop()
        assert await Call(gateway)("GET /v1/accounts") == Exit.NOT_SENT
        assert "cannot connect to http://127.0.0.1:8080" in capsys.readouterr().err


async def test_a_signal_ends_it(autojump_clock: MockClock) -> None:
    async def interrupt_soon() -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGTERM)

    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        gateway.script("GET /v1/accounts", hang())
        nursery.start_soon(interrupt_soon)
        assert await Call(gateway)("GET /v1/accounts") == 128 + signal.SIGTERM


async def test_a_reader_that_has_had_enough_is_no_error(autojump_clock: MockClock) -> None:
    async def write(_data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    async with open_fake_gateway(port=None) as gateway:
        where = Connection(gateway=gateway.url, account=gateway.account, connect=gateway.connect)
        settings = CallSettings(where=where, what="GET /v1/accounts", body=None, timeout=5)
        assert await run_call(settings, write=write) == Exit.OK


async def test_as_a_process() -> None:
    async with open_fake_gateway(kind="signal-cli") as gateway:
        env = {"TRIO_SIGNAL_GATEWAY": gateway.url}
        done = await run_program("call", "updateProfile", "-", stdin=b'{"givenName": "Ada"}', env=env)
        assert (done.code, done.err) == (0, "")
        done = await run_program("call", "listAccounts", env=env)
        assert (done.code, json.loads(done.out)) == (0, [{"number": gateway.account}])
        done = await run_program("call", "dance", env=env)
        assert (done.code, done.out, done.err.count("\n")) == (Exit.NOT_SENT, "", 1)
