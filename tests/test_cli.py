import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio
import trustme

import trio_signal
from trio_signal._cli.connection import Connection, read_connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.options import UsageError
from trio_signal._cli.parser import COMMANDS, parse
from trio_signal._cli.text import clock, iso, printable
from trio_signal.cli import main
from trio_signal.testing import open_fake_gateway

from .programs import environment, run_program, started

PEER = "+15550002"
SECRET = "s3cret-t0ken"
HEADER = "s3cret-header"

#: What must be given, with values that are well formed.
GIVEN = ("--gateway", "http://127.0.0.1:1", "--account", "+15550001")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIO_SIGNAL_")]:
        monkeypatch.delenv(name)


# --- text ---


@pytest.mark.threat("T3")
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
    environ["TRIO_SIGNAL_MAX_IN_FLIGHT"] = "4"
    command, values = parse(["daemon", *GIVEN, "--buffer-size", "5"], environ)
    assert command == "daemon"
    assert (values["buffer_size"], values["overflow"], values["delivery"]) == (5, "error", "at_most_once")
    assert (values["close_timeout"], values["log_level"], values["json"]) == (10.0, "info", False)
    assert values["max_in_flight"] == 4


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


def test_what_the_gateway_is_and_how_it_was_started() -> None:
    environ = {"TRIO_SIGNAL_GATEWAY": "http://127.0.0.1:1", "TRIO_SIGNAL_RECEIVE_MODE": "manual"}
    _, values = parse(["listen", "--gateway-kind", "signal-cli"], environ)
    where = read_connection(values, environ)
    assert (where.account, where.kind, where.receive_mode) == (None, "signal-cli", "manual")
    for command in (["link"], ["call", "version"]):
        _, values = parse(command, environ)
        where = read_connection(values, environ)
        assert (where.account, where.kind, where.receive_mode) == (None, "auto", "on-start")


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
        (("listen", "--gateway", "x"), {}, "TRIO_SIGNAL_GATEWAY): it must begin with"),
        (("status", "--gateway", "x"), {}, "TRIO_SIGNAL_GATEWAY): it must begin with"),
        (("call", "--gateway", "x", "version"), {}, "TRIO_SIGNAL_GATEWAY): it must begin with"),
        (("link", "--gateway", "x"), {}, "TRIO_SIGNAL_GATEWAY): it must begin with"),
        (("link", "--gateway", "http://127.0.0.1:1", "--name", " "), {}, "TRIO_SIGNAL_NAME): it is empty"),
        (
            ("listen", *GIVEN, "--gateway-kind", "x"),
            {},
            "TRIO_SIGNAL_GATEWAY_KIND): 'x' is none of auto, rest",
        ),
        (("listen", *GIVEN, "--receive-mode", "x"), {}, "TRIO_SIGNAL_RECEIVE_MODE): 'x' is none of on-start"),
        (("call", *GIVEN), {}, "WHAT"),
        (("call", *GIVEN, "version", "{"), {}, "JSON: it is none: "),
        (("call", *GIVEN, "", "{}"), {}, "WHAT: "),
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


@pytest.mark.parametrize(
    ("missing", "command", "package", "extra"),
    [
        ("structlog", ("daemon", *GIVEN), "structlog", "cli"),
        ("rich", ("demo",), "rich", "cli"),
        ("segno", ("link", "--gateway", "http://127.0.0.1:1"), "segno", "cli"),
        ("jwt", ("token", "--jwt-key-file", "key", "--sub", "x"), "PyJWT", "hub"),
        ("cryptography", ("token", "--jwt-key-file", "key", "--sub", "x"), "cryptography", "hub"),
        ("jwt", ("daemon", *GIVEN, "--hub", "127.0.0.1:0"), "PyJWT", "hub"),
        ("prometheus_client", ("daemon", *GIVEN, "--hub", "127.0.0.1:0"), "prometheus-client", "hub"),
    ],
)
def test_a_missing_extra_is_one_sentence(
    missing: str, command: tuple[str, ...], package: str, extra: str
) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from trio_signal.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"trio-signal: this command needs {package}; install it with: pip install 'trio-signal[{extra}]'\n"
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
    (tmp_path / "headers").write_text(f"# for the proxy\n\nX-Key: {HEADER}\nX-Other:  d: e \n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = [
        *(*GIVEN, "--token-file", str(tmp_path / "token"), "--header-file", str(tmp_path / "headers")),
        *("--ca-file", str(tmp_path / "ca.pem")),
    ]
    _, values = parse(["status", *given], {})
    where = read_connection(values, {})
    assert where.token == SECRET
    assert where.headers == (("X-Key", HEADER), ("X-Other", "d: e"))
    assert isinstance(where.ssl_context, ssl.SSLContext)
    assert len(where.ssl_context.get_ca_certs()) == 1
    assert SECRET not in repr(where)
    assert HEADER not in repr(where)


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
        # A message can come, and the signal with it, before the first ping was answered.
        assert ended.err in {"", f"trio-signal: connected to {gateway.url} as {gateway.account}\n"}


async def test_the_same_on_signal_cli_as_processes() -> None:
    async with open_fake_gateway(kind="signal-cli") as gateway:
        env = {"TRIO_SIGNAL_GATEWAY": gateway.url}
        sent = await run_program("send", "--account", gateway.account, PEER, "hi", env=env)
        assert (sent.code, sent.out, sent.err) == (0, f"{gateway.received[0].timestamp}\n", "")
        shown = await run_program("status", env=env)
        assert (shown.code, shown.err) == (0, "")
        async with started("listen", "--json", "--receive-mode", "on-connection", env=env) as listen:
            await gateway.wait_connected()
            gateway.deliver(text="hi")
            event = await listen.event("message")
            assert (event["text"], event["account"]) == ("hi", gateway.account)
            listen.signal(signal.SIGTERM)
            assert (await listen.end()).code == 0


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
