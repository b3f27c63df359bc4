import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock

import trio_signal
from trio_signal import testing as answers
from trio_signal._cli import output
from trio_signal._cli.connection import Connection, read_connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.library_log import library_on_stderr
from trio_signal._cli.listen import ListenSettings, run_listen
from trio_signal._cli.options import UsageError
from trio_signal._cli.output import LogWriter, open_log_writer, wait_reader_gone
from trio_signal._cli.parser import COMMANDS, parse
from trio_signal._cli.send import SendSettings, run_send
from trio_signal._cli.status import StatusSettings, run_status
from trio_signal._cli.text import clock, iso, printable
from trio_signal.cli import main
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    envelopes,
    error,
    hang,
    lost,
    open_fake_gateway,
    rate_limited,
)

from .programs import environment, run_program, started

PEER = "+15550002"
SECRET = "s3cret-t0ken"

#: What must be given, with values that are well formed.
GIVEN = ("--gateway", "http://127.0.0.1:1", "--account", "+15550001")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIO_SIGNAL_")]:
        monkeypatch.delenv(name)


def connection(gateway: FakeGateway, *, token: str | None = None) -> Connection:
    return Connection(gateway=gateway.url, account=gateway.account, connect=gateway.connect, token=token)


# --- text ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve café 漢字 🎉", "naïve café 漢字 🎉"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("csi \x9b2J", "csi \\x9b2J"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("a\u2028b", "a\\u2028b"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("half \ud800", "half \\ud800"),
        ("family 👩\u200d👧", "family 👩\u200d👧"),
    ],
)
def test_control_characters_are_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_times_are_readable_and_absurd_ones_are_numbers() -> None:
    assert iso(1_795_302_674_123) == "2026-11-21T23:11:14.123Z"
    assert clock(1_795_302_674_123).startswith("2026-11-2")
    assert iso(10**30) == clock(10**30) == str(10**30)
    assert iso(-(10**17)) == str(-(10**17))


# --- options and environment ---


def test_the_command_line_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"TRIO_SIGNAL_BUFFER_SIZE": "7", "TRIO_SIGNAL_OVERFLOW": "error", "TRIO_SIGNAL_DELIVERY": ""}
    command, values = parse(["daemon", *GIVEN, "--buffer-size", "5"], environ)
    assert command == "daemon"
    assert (values["buffer_size"], values["overflow"], values["delivery"]) == (5, "error", "at_most_once")
    assert (values["close_timeout"], values["log_level"], values["json"]) == (10.0, "info", False)


def test_all_can_come_from_the_environment() -> None:
    environ = {
        "TRIO_SIGNAL_GATEWAY": "http://127.0.0.1:1",
        "TRIO_SIGNAL_ACCOUNT": "+15550001",
        "TRIO_SIGNAL_JSON": "yes",
        "TRIO_SIGNAL_NO_JITTER": "0",
        "TRIO_SIGNAL_CLOSE_TIMEOUT": "2.5",
        "TRIO_SIGNAL_LOG_LEVEL": "debug",
    }
    _, values = parse(["daemon"], environ)
    assert values["gateway"] == "http://127.0.0.1:1"
    assert (values["json"], values["no_jitter"], values["close_timeout"]) == (True, False, 2.5)
    assert values["log_level"] == "debug"


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ((), {}, "COMMAND"),
        (("dance",), {}, "invalid choice: 'dance'"),
        (("daemon",), {}, "--gateway URL, or the environment variable TRIO_SIGNAL_GATEWAY"),
        (("daemon", "--gateway", "http://h"), {}, "environment variable TRIO_SIGNAL_ACCOUNT"),
        (("daemon", *GIVEN, "--buffer-size", "many"), {}, "'many' is not a whole number"),
        (("daemon", *GIVEN, "--buffer-size", "0"), {}, "--buffer-size (environment variable TRIO_SIGNAL_BUF"),
        (("daemon", *GIVEN, "--overflow", "explode"), {}, "TRIO_SIGNAL_OVERFLOW): 'explode' is none of"),
        (("daemon", *GIVEN, "--delivery", "maybe"), {}, "TRIO_SIGNAL_DELIVERY): 'maybe' is none of"),
        (("daemon", *GIVEN, "--close-timeout", "-1"), {}, "TRIO_SIGNAL_CLOSE_TIMEOUT): "),
        (("daemon", *GIVEN, "--close-timeout", "soon"), {}, "'soon' is not a number of seconds"),
        (("daemon", *GIVEN, "--log-level", "loud"), {}, "'loud' is none of debug, info"),
        (("daemon", *GIVEN), {"TRIO_SIGNAL_JSON": "maybe"}, "TRIO_SIGNAL_JSON): 'maybe' is neither 1 nor 0"),
        (("daemon", *GIVEN), {"TRIO_SIGNAL_OVERFLOW": "x"}, "--overflow (environment variable TRIO_SIGNAL_O"),
        (
            ("daemon", "--gateway", "ftp://h", "--account", "+1"),
            {},
            "TRIO_SIGNAL_GATEWAY): it must begin with",
        ),
        (
            ("daemon", "--gateway", "http://h", "--account", "1"),
            {},
            "TRIO_SIGNAL_ACCOUNT): '1' is not a phone",
        ),
        (
            ("status", "--gateway", "http://h", "--account", "1"),
            {},
            "TRIO_SIGNAL_ACCOUNT): '1' is not a phone",
        ),
        (("listen", "--gateway", "x", "--account", "+1"), {}, "TRIO_SIGNAL_GATEWAY): it must begin with"),
        (("send", *GIVEN), {}, "RECIPIENT"),
        (("send", *GIVEN, "nobody", "hi"), {}, "RECIPIENT: 'nobody' is no Signal address"),
        (("send", *GIVEN, PEER, ""), {}, "TEXT: it is empty"),
        (("send", *GIVEN, PEER, "a", "b"), {}, "put text with spaces into quotes"),
        (("send", *GIVEN, "--timeout", "0", PEER, "a"), {}, "TRIO_SIGNAL_TIMEOUT): '0' is not a number"),
        (("send", *GIVEN, "--attach", "no/such/file", PEER), {}, "--attach: "),
        (
            ("daemon", *GIVEN, "--ca-file", "no/such/file"),
            {},
            "--ca-file (environment variable TRIO_SIGNAL_CA_",
        ),
        (("daemon", *GIVEN, "--token", SECRET), {}, "put the token into TRIO_SIGNAL_TOKEN"),
        (("daemon", *GIVEN, f"--token={SECRET}"), {}, "put the token into TRIO_SIGNAL_TOKEN"),
        (("send", *GIVEN, PEER, "--header", SECRET), {}, "put headers into a --header-file"),
        (("daemon", *GIVEN, "--buffer", "1"), {}, "there is no option --buffer"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == Exit.USAGE
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("trio-signal: ")
    assert captured.err.count("\n") == 1
    assert SECRET not in captured.err


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_the_help_names_every_option_its_variable_and_the_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for option in next(each for each in COMMANDS if each.name == command).options:
        assert option.flag in text
        assert option.variable in text
    assert "3    not sent" in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_and_version_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert all(command.help in capsys.readouterr().out for command in COMMANDS[:1])
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trio-signal {trio_signal.__version__}\n"


@pytest.mark.parametrize("missing", ["structlog", "rich"])
def test_a_missing_extra_is_one_sentence(missing: str) -> None:
    command = {"structlog": ["daemon", *GIVEN], "rich": ["demo"]}[missing]
    code = f"import sys; sys.modules[{missing!r}] = None; from trio_signal.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"trio-signal: this command needs {missing}; install it with: pip install 'trio-signal[cli]'\n"
    )


def test_another_missing_module_is_a_bug_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_signal._cli.status", None)
    with pytest.raises(ModuleNotFoundError, match=r"_cli\.status"):
        main(["status", *GIVEN])


def test_a_ctrl_c_outside_the_commands_own_work_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_signal.cli.parse", interrupted)
    assert main(["status"]) == 130


# --- secrets and files ---


def test_files_give_token_headers_and_authorities(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "headers").write_text("# for the proxy\n\nX-Key: abc\nX-Other:  d: e \n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = [
        *(*GIVEN, "--token-file", str(tmp_path / "token"), "--header-file", str(tmp_path / "headers")),
        *("--ca-file", str(tmp_path / "ca.pem")),
    ]
    _, values = parse(["status", *given], {})
    where = read_connection(values, {})
    assert where.token == SECRET
    assert where.headers == (("X-Key", "abc"), ("X-Other", "d: e"))
    assert isinstance(where.ssl_context, ssl.SSLContext)
    assert len(where.ssl_context.get_ca_certs()) == 1
    assert SECRET not in repr(where)
    assert "abc" not in repr(where)


def test_a_token_from_the_environment() -> None:
    _, values = parse(["status", *GIVEN], {})
    where = read_connection(values, {"TRIO_SIGNAL_TOKEN": SECRET})
    assert where.token == where.lasting_token == SECRET


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    where = Connection(gateway="http://h", account="+1", token="first", token_file=path)
    token = where.lasting_token
    assert callable(token)
    path.write_text("second")
    answer = token()
    assert isinstance(answer, Awaitable)
    assert await answer == "second"


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("token-file", b"  \n", "it is empty"),
        ("token-file", b"\xff" + SECRET.encode(), "it is not UTF-8 text"),
        ("header-file", f"X-Ok: 1\n{SECRET}\n".encode(), "line 2 is not 'Name: value'"),
        ("ca-file", SECRET.encode(), "no certificates in PEM form"),
    ],
)
def test_a_bad_file_is_named_and_not_quoted(
    option: str, content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main(["status", *GIVEN, f"--{option}", str(path)]) == Exit.USAGE
    err = capsys.readouterr().err
    assert words in err
    assert str(path) in err
    assert f"TRIO_SIGNAL_{option.replace('-', '_').upper()}" in err
    assert SECRET not in err


def test_two_tokens_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    _, values = parse(["status", *GIVEN, "--token-file", str(tmp_path / "token")], {})
    with pytest.raises(UsageError, match="TRIO_SIGNAL_TOKEN is set too"):
        read_connection(values, {"TRIO_SIGNAL_TOKEN": "y"})


def test_a_bad_header_is_a_usage_error_without_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "headers").write_text(f"Host: {SECRET}\n")
    assert main(["status", *GIVEN, "--header-file", str(tmp_path / "headers")]) == Exit.USAGE
    err = capsys.readouterr().err
    assert "TRIO_SIGNAL_HEADER_FILE): Host is set by the protocol" in err
    assert SECRET not in err


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

    def __init__(self, gateway: FakeGateway, *, as_json: bool = False) -> None:
        self._settings = ListenSettings(where=connection(gateway), as_json=as_json)
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


# --- status ---


async def status(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str], *, limit: float = 10.0
) -> tuple[int, str]:
    code = await run_status(StatusSettings(where=connection(gateway), timeout=limit, as_json=False))
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


# --- output; real pipes and threads, so real time passes ---


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        # A test may have closed it already.
        try:
            os.close(fd)
        except OSError:
            continue


async def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    async with open_log_writer(fd=writer) as log:
        for number in range(100):
            log.write(f"{number}\n")
            if number == 50:
                await trio.lowlevel.checkpoint()
    assert os.read(reader, 10_000).decode() == "".join(f"{number}\n" for number in range(100))
    assert log.lost == 0


async def test_a_reader_that_does_not_read_holds_nothing_up(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MOST_LINES", 10)
    monkeypatch.setattr(output, "_LAST_LINES", 0.1)
    _, writer = pipe
    with trio.fail_after(5):
        async with open_log_writer(fd=writer) as log:
            for _ in range(30):
                log.write("x" * 10_000)
                await trio.lowlevel.checkpoint()
    assert log.lost > 0


async def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with trio.fail_after(5):
        async with open_log_writer(fd=writer) as log:
            log.write("to nobody\n")
            while not log.lost:
                log.write("to nobody\n")
                await trio.sleep(0.001)


async def test_a_closed_log_writer_without_lines_just_ends() -> None:
    log = LogWriter(-1)
    log.close()
    with trio.fail_after(5):
        await log.run()


async def test_waiting_for_a_reader_to_go(pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    with trio.move_on_after(0.05) as waiting:
        await wait_reader_gone(fd=writer)
    assert waiting.cancelled_caught
    os.close(reader)
    with trio.fail_after(5):
        await wait_reader_gone(fd=writer)
    with (tmp_path / "file").open("wb") as file, trio.move_on_after(0.05) as waiting:
        await wait_reader_gone(fd=file.fileno())
    assert waiting.cancelled_caught


async def test_a_pipe_that_another_program_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    received = b""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(output.write, "x" * 300_000, fd=writer))
            await trio.lowlevel.checkpoint()
            while len(received) < 300_000:
                received += await trio.to_thread.run_sync(os.read, reader, 65536)
    assert received == b"x" * 300_000


def test_what_the_library_logs_is_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    logger = logging.getLogger("trio_signal.gateway")
    with library_on_stderr("warning"):
        logger.info("nothing")
        logger.warning("a line\nwith %s", "\x1b")
    logger.warning("nobody listens any more")
    assert "trio-signal: warning: a line\\nwith \\x1b\n" in capsys.readouterr().err


# --- as a process ---


async def test_send_listen_and_status_as_processes() -> None:
    async with open_fake_gateway() as gateway:
        env = {"TRIO_SIGNAL_GATEWAY": gateway.url, "TRIO_SIGNAL_ACCOUNT": gateway.account}
        sent = await run_program("send", PEER, stdin=b"from a pipe\n", env=env)
        assert (sent.code, sent.out, sent.err) == (0, f"{gateway.received[0].timestamp}\n", "")
        assert gateway.received[0].message == "from a pipe"
        shown = await run_program("status", env=env)
        assert (shown.code, shown.err) == (0, "")
        async with started("listen", "--json", env=env) as listen:
            await gateway.wait_connected()
            gateway.deliver(text="hi")
            event = await listen.event("message")
            assert event["text"] == "hi"
            listen.signal(signal.SIGINT)
            ended = await listen.end()
        assert ended.code == 0
        assert ended.err.count("\n") == 1


async def test_a_reader_that_has_had_enough_ends_listen_and_help_quietly() -> None:
    command = f"{sys.executable} -m trio_signal"
    async with open_fake_gateway() as gateway:
        env = environment({"TRIO_SIGNAL_GATEWAY": gateway.url, "TRIO_SIGNAL_ACCOUNT": gateway.account})
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                await gateway.wait_connected()
                gateway.deliver(text="first")

            nursery.start_soon(talk)
            with trio.fail_after(20):
                done = await trio.run_process(
                    ["bash", "-c", f"set -o pipefail; {command} listen | head -n 1"],
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    env=env,
                )
        assert (done.returncode, done.stdout.decode().count("first")) == (0, 1)
        assert b"Traceback" not in done.stderr
    for rest, code in (("daemon --help", 0), ("status", 1)):
        # The exit code stays that of the command, with nobody there to read what it says.
        done = await trio.run_process(
            ["bash", "-c", f"set -o pipefail; {command} {rest} | true"],
            capture_stderr=True,
            check=False,
            env=env,
        )
        assert (done.returncode, done.stderr) == (code, b"")
