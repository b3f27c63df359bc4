import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import ObserverLagged, StateChange, StateChanges
from trio_signal import testing as answers
from trio_signal._cli.connection import Connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.listen import ListenSettings, run_listen
from trio_signal._cli.options import UsageError
from trio_signal._cli.send import SendSettings, run_send
from trio_signal._cli.status import StatusSettings, run_status
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    envelopes,
    error,
    hang,
    lost,
    open_fake_gateway,
    rate_limited,
    rpc_error,
    rpc_result,
)

PEER = "+15550002"
SECRET = "s3cret-t0ken"


def connection(gateway: FakeGateway, *, token: str | None = None, **more: Any) -> Connection:
    settings: dict[str, Any] = {"account": gateway.account, "connect": gateway.connect, "token": token}
    return Connection(gateway=gateway.url, **(settings | more))


# --- send ---


async def no_input() -> bytes:
    await trio.lowlevel.checkpoint()
    raise AssertionError("standard input must not be read")


def reading(*pieces: bytes) -> Callable[[], Awaitable[bytes]]:
    left = iter([*pieces, b""])

    async def read() -> bytes:
        await trio.lowlevel.checkpoint()
        return next(left)

    return read


def letter(
    where: Connection, text: str | None = "hi", *, attach: tuple[Path, ...] = (), timeout: float = 30.0
) -> SendSettings:
    return SendSettings(where=where, recipient=PEER, text=text, attach=attach, timeout=timeout)


async def test_send_prints_the_timestamp(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        assert await run_send(letter(connection(gateway)), read=no_input) == Exit.OK
        [sent] = gateway.received
        assert (sent.recipients, sent.message) == ([PEER], "hi")
        assert capsys.readouterr() == (f"{sent.timestamp}\n", "")


async def test_send_takes_no_messages_that_wait_for_somebody_else(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli", receive_mode="on-connection") as gateway:
        gateway.deliver(text="for the bot")
        assert await run_send(letter(connection(gateway)), read=no_input) == Exit.OK
        assert [sent.message for sent in gateway.received] == ["hi"]
        assert (gateway.handshakes, gateway.statistics().kept) == (0, 1)


async def test_send_takes_the_text_from_standard_input(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        read = reading(b"two\nli", b"nes\n")
        assert await run_send(letter(connection(gateway), None), read=read) == Exit.OK
        assert gateway.received[0].message == "two\nlines"


# Files are looked at in threads, which a clock that jumps does not wait for; so here real time passes.
async def test_send_attaches_files_and_needs_no_text_then(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("content")
    async with open_fake_gateway(port=None) as gateway:
        assert await run_send(letter(connection(gateway), None, attach=(path,)), read=reading()) == Exit.OK
        [attachment] = gateway.received[0].body["base64_attachments"]
        assert attachment.startswith("data:text/plain;filename=note.txt;base64,")


async def test_send_does_not_wait_for_text_at_a_terminal_when_it_has_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("x")
    monkeypatch.setattr("os.isatty", {0: True}.__getitem__)
    async with open_fake_gateway(port=None) as gateway:
        settings = letter(connection(gateway), None, attach=(tmp_path / "a",))
        assert await run_send(settings, read=no_input) == Exit.OK


async def test_send_refuses_input_that_is_no_text(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        with pytest.raises(UsageError, match="not UTF-8 text"):
            await run_send(letter(connection(gateway), None), read=reading(b"\xff\xfe"))
        assert gateway.received == []


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (
            error(400, "Unregistered user"),
            Exit.NOT_SENT,
            "not sent: the gateway answered HTTP 400: Unregistered",
        ),
        (error(400, "what?\x1b[2J"), Exit.UNKNOWN, "it is not known whether it was sent: "),
        (lost(), Exit.UNKNOWN, "it is not known whether it was sent: "),
        (rate_limited(), Exit.UNKNOWN, "rate limiting"),
    ],
)
async def test_send_tells_by_its_exit_code_whether_it_left(
    answer: SendAnswer,
    code: Exit,
    words: str,
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(answer)
        assert await run_send(letter(connection(gateway))) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "\x1b" not in captured.err


async def test_send_names_the_members_of_a_group_that_did_not_get_it(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    group = "group." + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE9"
    async with open_fake_gateway(port=None, version="0.101") as gateway:
        gateway.script_send(answers.partial([{"number": "+15550009", "reason": "UNREGISTERED_FAILURE"}]))
        settings = SendSettings(
            where=connection(gateway), recipient=group, text="hi", attach=(), timeout=30.0
        )
        assert await run_send(settings) == Exit.OK
    assert "+15550009 did not get it: UNREGISTERED_FAILURE" in capsys.readouterr().err


async def test_send_gives_up_in_time_when_nobody_answers(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(hang())
        assert await run_send(letter(connection(gateway), timeout=5)) == Exit.UNKNOWN
        assert "not known whether it was sent: no answer within 5 s" in capsys.readouterr().err
        gateway.refuse(None)
        began = trio.current_time()
        assert await run_send(letter(connection(gateway), timeout=5)) == Exit.NOT_SENT
        assert trio.current_time() - began < 7
        assert "not sent: no answer within 5 s (cannot connect" in capsys.readouterr().err


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accounts": ["+15550007"]}, "does not have the account +15550001"),
        ({"mode": "normal"}, "start it with MODE=json-rpc"),
        ({"require_header": ("Authorization", "Bearer right")}, "401"),
    ],
)
async def test_send_and_listen_end_with_1_at_a_gateway_that_cannot_serve(
    options: dict[str, object],
    words: str,
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_fake_gateway(port=None, **options) as gateway:  # type: ignore[arg-type]
        where = connection(gateway, token=SECRET)
        assert await run_send(letter(where)) == Exit.FAILED
        assert words in capsys.readouterr().err
        settings = ListenSettings(where=where, as_json=False)
        assert await run_listen(settings, wait_reader_gone=trio.sleep_forever) == Exit.FAILED
    err = capsys.readouterr().err
    assert words in err
    assert SECRET not in err


async def test_a_signal_ends_send_and_the_exit_code_still_tells_the_truth(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupt_soon() -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        gateway.script_send(hang())
        nursery.start_soon(interrupt_soon)
        assert await run_send(letter(connection(gateway))) == Exit.UNKNOWN
        assert "not known whether it was sent: SIGINT came first" in capsys.readouterr().err
        gateway.refuse(None)
        nursery.start_soon(interrupt_soon)
        assert await run_send(letter(connection(gateway))) == Exit.NOT_SENT
        assert "not sent: SIGINT came first" in capsys.readouterr().err


# --- listen ---


class Listener:
    """Runs ``listen`` and keeps what it prints."""

    def __init__(self, gateway: FakeGateway, *, as_json: bool = False, **where: Any) -> None:
        self._settings = ListenSettings(where=connection(gateway, **where), as_json=as_json)
        self.lines: list[str] = []
        self.code: int | None = None
        self.reader_gone = trio.Event()

    async def run(self) -> None:
        with trio.fail_after(600):
            self.code = await run_listen(
                self._settings, write=self._write, wait_reader_gone=self.reader_gone.wait
            )

    async def _write(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(text)


async def test_listen_prints_messages_and_gaps_safely(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    group = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        listener = Listener(gateway)
        nursery.start_soon(listener.run)
        await gateway.wait_connected()
        gateway.deliver(text="hello\nworld \x1b[2J\u202e")
        gateway.deliver(text="to all", group=group)
        gateway.deliver(envelopes.with_attachments(message="look"))
        gateway.deliver(envelopes.reaction("👍", target=1))
        gateway.deliver_raw("garbage")
        await gateway.wait_delivered()
        await trio.sleep(1)
        gateway.drop()
        await trio.sleep(5)
        signal.raise_signal(signal.SIGTERM)
    assert listener.code == Exit.OK
    hello, to_all, look, gap = listener.lines
    assert hello.endswith(f"  Peer User ({PEER}): hello\\nworld \\x1b[2J\\u202e\n")
    assert to_all.endswith(" in Group: to all\n")
    assert look.endswith(": look [image/jpeg]\n")
    assert gap.startswith("-- messages may be missing from ")
    err = capsys.readouterr().err
    assert "connected to http://127.0.0.1:8080 as +15550001" in err
    assert "not connected: the connection ended without a close frame" in err
    assert "trying again in " in err


async def test_listen_in_json(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        listener = Listener(gateway, as_json=True)
        nursery.start_soon(listener.run)
        await gateway.wait_connected()
        gateway.deliver(text="hé\x1b", timestamp=1_795_302_700_000)
        gateway.deliver(envelopes.receipt(1))
        await trio.sleep(1)
        gateway.drop()
        await trio.sleep(5)
        listener.reader_gone.set()
    assert listener.code == Exit.OK
    message, gap = map(json.loads, listener.lines)
    assert message == {
        "event": "message",
        "account": "+15550001",
        "timestamp": 1_795_302_700_000,
        "time": "2026-11-21T23:11:40.000Z",
        "sender": PEER,
        "sender_name": "Peer User",
        "group": None,
        "reply_to": PEER,
        "text": "hé\x1b",
        "attachments": [],
    }
    assert (gap["event"], gap["reason"], gap["count"]) == ("gap", "gateway", None)
    assert all(line.isascii() and "\x1b" not in line for line in listener.lines)


async def test_listen_to_all_accounts_of_signal_cli_tells_whose_a_message_is(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = ["+15550001", "+15550007"]
    async with (
        open_fake_gateway(port=None, kind="signal-cli", accounts=accounts) as gateway,
        trio.open_nursery() as nursery,
    ):
        listener = Listener(gateway, account=None, receive_mode="on-connection")
        nursery.start_soon(listener.run)
        await gateway.wait_connected()
        gateway.deliver(text="one")
        gateway.deliver(text="two", account="+15550007")
        await trio.sleep(10)
        listener.reader_gone.set()
    assert listener.code == Exit.OK
    one, two = listener.lines
    assert one.endswith(f"  Peer User ({PEER}) to +15550001: one\n")
    assert two.endswith(f"  Peer User ({PEER}) to +15550007: two\n")
    assert "connected to http://127.0.0.1:8080 for all of its accounts" in capsys.readouterr().err


@pytest.mark.contract("R3")
@pytest.mark.parametrize(("receive_mode", "printed"), [("on-start", ["gap"]), ("on-connection", ["message"])])
async def test_listen_believes_what_it_is_told_of_the_receive_mode(
    receive_mode: Any, printed: list[str], autojump_clock: MockClock
) -> None:
    async with (
        open_fake_gateway(port=None, kind="signal-cli", receive_mode=receive_mode) as gateway,
        trio.open_nursery() as nursery,
    ):
        listener = Listener(gateway, as_json=True, receive_mode=receive_mode)
        nursery.start_soon(listener.run)
        await gateway.wait_connected()
        await trio.sleep(30)
        gateway.terminate()
        await trio.sleep(1)
        gateway.deliver(text="while it was away")
        await gateway.start()
        await gateway.wait_connected()
        await trio.sleep(60)
        listener.reader_gone.set()
    assert [json.loads(line)["event"] for line in listener.lines] == printed


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("auto", Exit.FAILED, "only signal-cli's own daemon"),
        ("rest", Exit.USAGE, "--account (environment variable TRIO_SIGNAL_ACCOUNT): give a number"),
    ],
)
async def test_only_signal_cli_can_be_listened_to_without_an_account(
    kind: str, code: Exit, words: str, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        listener = Listener(gateway, account=None, kind=kind)
        await listener.run()
    assert listener.code == code
    assert words in capsys.readouterr().err


async def test_listen_ends_quietly_when_its_reader_breaks_off(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write(text: str) -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        settings = ListenSettings(where=connection(gateway), as_json=False)
        codes: list[int] = []

        async def listen() -> None:
            codes.append(await run_listen(settings, write=write, wait_reader_gone=trio.sleep_forever))

        nursery.start_soon(listen)
        await gateway.wait_connected()
        gateway.deliver(text="hi")
    assert codes == [Exit.OK]
    assert "Traceback" not in capsys.readouterr().err


async def test_listen_gives_up_over_a_wrong_token_file_but_not_over_an_expired_one(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return SECRET

    monkeypatch.setattr(Connection, "lasting_token", property(lambda _: token))
    wanted = ("Authorization", f"Bearer {SECRET}")
    async with open_fake_gateway(port=None, require_header=wanted) as gateway, trio.open_nursery() as nursery:
        listener = Listener(gateway)
        gateway.reject(401, on="receive")
        await listener.run()
        assert listener.code == Exit.FAILED
        assert "401" in capsys.readouterr().err
        nursery.start_soon(listener.run)
        await trio.sleep(1)
        gateway.reject(401, on="receive")
        gateway.drop()
        await trio.sleep(10)
        assert gateway.handshakes == 2
        listener.reader_gone.set()
    assert listener.code == Exit.OK
    assert SECRET not in capsys.readouterr().err


async def test_listen_goes_on_when_it_falls_behind(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = StateChanges.__anext__
    calls = 0

    async def lagging(self: StateChanges) -> StateChange:
        nonlocal calls
        calls += 1
        if calls == 2:
            await trio.lowlevel.checkpoint()
            raise ObserverLagged(17)
        return await honest(self)

    monkeypatch.setattr(StateChanges, "__anext__", lagging)
    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        listener = Listener(gateway)
        nursery.start_soon(listener.run)
        await trio.sleep(1)
        listener.reader_gone.set()
    assert listener.code == Exit.OK
    assert "connected to " in capsys.readouterr().err


# --- status ---


async def status(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], *, limit: float = 10.0, **where: Any
) -> tuple[int, str]:
    settings = StatusSettings(where=connection(gateway, **where), timeout=limit, as_json=False)
    code = await run_status(settings)
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


async def test_status_of_a_gateway_that_works(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        code, text = await status(gateway, capsys)
        assert code == Exit.OK
        gateway_line, account_line, link_line = text.splitlines()
        assert gateway_line == "ok   gateway  http://127.0.0.1:8080 answers: version 0.100, mode json-rpc"
        assert account_line == "ok   account  it has +15550001"
        assert link_line.startswith("ok   link     the WebSocket is open and answered a ping")
        settings = StatusSettings(where=connection(gateway), timeout=10.0, as_json=True)
        assert await run_status(settings) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["connected"] is True
    assert (answer["gateway"]["version"], answer["gateway"]["mode"]) == ("0.100", "json-rpc")
    assert answer["account"]["ok"] is answer["link"]["ok"] is True


async def test_status_names_the_layer_that_fails(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, accounts=["+15550007"]) as gateway:
        code, text = await status(gateway, capsys)
        assert code == Exit.FAILED
        assert "ok   gateway" in text
        assert "FAIL account  it does not have +15550001" in text
        assert "FAIL link" in text
    async with open_fake_gateway(port=None, mode="normal") as gateway:
        code, text = await status(gateway, capsys)
        assert code == Exit.FAILED
        assert "mode normal" in text
        assert "MODE=json-rpc" in text
    async with open_fake_gateway(port=None) as gateway:
        gateway.reject(503)
        code, text = await status(gateway, capsys)
        assert code == Exit.FAILED
        assert "ok   account" in text
        assert "FAIL link     " in text
        assert "503" in text


@pytest.mark.parametrize("kind", ["auto", "signal-cli"])
@pytest.mark.parametrize("version", ["0.13.19", "0.14.9"])
async def test_status_of_signal_cli(
    kind: str, version: str, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli", version=version) as gateway:
        code, text = await status(gateway, capsys, kind=kind)
        gateway_line, account_line, link_line = text.splitlines()
        assert gateway_line == f"ok   gateway  http://127.0.0.1:8080 answers: signal-cli {version}"
        assert account_line == "ok   account  it has +15550001"
        assert link_line.startswith("?    link     not opened")
        assert code == Exit.OK
        code, text = await status(gateway, capsys, kind=kind, account=None)
        assert "ok   account  it has +15550001" in text
        assert code == Exit.OK
        code, text = await status(gateway, capsys, kind=kind, account="+15550007")
        assert "FAIL account  it does not have +15550007 (it has 1)" in text
        assert code == Exit.FAILED


async def test_status_takes_no_messages_that_wait_for_somebody_else(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli", receive_mode="on-connection") as gateway:
        gateway.deliver(text="for the bot")
        code, text = await status(gateway, capsys)
        assert "?    link     not opened" in text
        assert code == Exit.OK
        assert gateway.handshakes == 0
        assert gateway.statistics().kept == 1


async def test_status_of_signal_cli_in_json_and_in_trouble(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli", accounts=[]) as gateway:
        where = connection(gateway, account=None)
        assert await run_status(StatusSettings(where=where, timeout=10.0, as_json=True)) == Exit.FAILED
        answer = json.loads(capsys.readouterr().out)
        assert (answer["connected"], answer["gateway"]["mode"]) == (False, "signal-cli")
        assert answer["account"] == {
            "ok": False,
            "detail": "it has none; link one: trio-signal link",
            "accounts": [],
        }
        gateway.script("RPC version", rpc_error(-32603, "out of order"))
        code, text = await status(gateway, capsys, kind="signal-cli")
        assert (code, "FAIL gateway  " in text, "out of order" in text) == (Exit.FAILED, True, True)
        gateway.script("RPC version", rpc_result("0.14.9"))
        code, text = await status(gateway, capsys, kind="signal-cli")
        assert (code, "is no signal-cli: it does not tell its version" in text) == (Exit.FAILED, True)
        gateway.script("RPC version", rpc_error(-32601, "Method not implemented"))
        code, text = await status(gateway, capsys)
        assert "?    gateway  http://127.0.0.1:8080 answers, but not what it is (HTTP 404)" in text
        gateway.script("RPC listAccounts", rpc_error(-32603, "out of order"))
        code, text = await status(gateway, capsys)
        assert "?    account  " in text


async def test_status_without_an_account_where_one_is_needed(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        code, text = await status(gateway, capsys, account=None)
    assert code == Exit.FAILED
    assert "FAIL account  --account (environment variable TRIO_SIGNAL_ACCOUNT): give it; only " in text
    assert "FAIL link     not tried" in text


async def test_status_of_a_gateway_that_is_not_there(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.stop()
        code, text = await status(gateway, capsys)
    assert code == Exit.FAILED
    assert "FAIL gateway  cannot connect to http://127.0.0.1:8080" in text
    assert "?    account  not tried" in text
    assert "FAIL link     not tried" in text


async def test_status_behind_a_proxy_that_hides_things(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, hide=["/v1/about", "/v1/accounts"]) as gateway:
        code, text = await status(gateway, capsys)
    assert code == Exit.OK
    assert "?    gateway  http://127.0.0.1:8080 answers, but not what it is (HTTP 404)" in text
    assert "?    account  the gateway does not tell its accounts" in text
    async with open_fake_gateway(port=None, require_header=("x-key", "1")) as gateway:
        code, text = await status(gateway, capsys)
    assert code == Exit.FAILED
    assert "refuses the credentials (HTTP 401)" in text


async def test_status_is_over_in_time_whatever_hangs(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.silence(on="receive", times=None)
        began = trio.current_time()
        code, text = await status(gateway, capsys, limit=6)
        assert trio.current_time() - began < 8
        assert code == Exit.FAILED
        assert "ok   gateway" in text
        assert "FAIL link     " in text
        gateway.heal()
        gateway.silence(on="http", times=None)
        code, text = await status(gateway, capsys, limit=8)
        assert code == Exit.FAILED
        assert "FAIL gateway  no answer to /v1/about within 5 s" in text
        gateway.heal()
        gateway.script("GET /v1/accounts", hang())
        code, text = await status(gateway, capsys, limit=30)
        assert code == Exit.OK
        assert "?    account  no answer to /v1/accounts within 5 s" in text


async def test_status_survives_what_is_no_answer(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.garbage(on="http", times=1)
        code, text = await status(gateway, capsys)
        assert code == Exit.FAILED
        assert text.startswith("FAIL gateway  ")


async def test_status_ends_by_a_signal(autojump_clock: MockClock) -> None:
    async def interrupt_soon(number: signal.Signals) -> None:
        await trio.sleep(1)
        signal.raise_signal(number)

    async with open_fake_gateway(port=None) as gateway, trio.open_nursery() as nursery:
        gateway.silence(on="any", times=None)
        for number in (signal.SIGINT, signal.SIGTERM):
            nursery.start_soon(interrupt_soon, number)
            settings = StatusSettings(where=connection(gateway), timeout=10.0, as_json=False)
            assert await run_status(settings) == 128 + number
