import json
import os
import signal
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import trustme
from cryptography.hazmat.primitives import serialization
from trio.testing import MockClock

from trio_signal import Gap, GapReason
from trio_signal import testing as answers
from trio_signal._cli.connection import Connection
from trio_signal._cli.daemon import HubSettings
from trio_signal._cli.exits import Exit
from trio_signal._cli.hub import read_hub
from trio_signal._cli.listen import as_json
from trio_signal._cli.log import make_logger
from trio_signal._cli.options import address, several
from trio_signal._cli.parser import parse
from trio_signal._cli.reports import Reports
from trio_signal._cli.status import StatusSettings, run_status
from trio_signal._cli.token import read_key
from trio_signal.cli import main
from trio_signal.hub.auth import Authenticator, make_token
from trio_signal.hub.server import serve_hub
from trio_signal.testing import FakeGateway, MemoryListener, open_fake_gateway

from .daemons import PEER, Daemon, running
from .programs import run_program, started

KEY = "s3cret-key-of-more-than-32-bytes-s3cret"
SECRET = "s3cret"
HOST = "127.0.0.1:8765"

GIVEN = ("--gateway", "http://127.0.0.1:1", "--account", "+15550001")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIO_SIGNAL_")]:
        monkeypatch.delenv(name)


def hub_on(listener: MemoryListener, *, key: str | None = KEY) -> HubSettings:
    authenticator = None if key is None else Authenticator(key)
    serve = partial(serve_hub, host="127.0.0.1", port=8765, key=authenticator, listeners=[listener])
    return HubSettings(serve=serve, has_key=key is not None)


def bearer(**options: Any) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"Bearer {make_token(KEY, 'tester', ttl=3600, **options)}".encode())]


class Follower:
    """A client of the hub that takes down all it is told."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.greeted = trio.Event()
        self.ended = trio.Event()

    def kinds(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    async def run(self, listener: MemoryListener, path: str = "/websocket") -> None:
        stream: Any = await listener.connect()
        async with trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery, stream, HOST, path, extra_headers=bearer()
            )
            try:
                while True:
                    self.frames.append(json.loads(await socket.get_message()))
                    self.greeted.set()
            except trio_websocket.ConnectionClosed as closed:
                self.closed = None if closed.reason is None else closed.reason.code
            nursery.cancel_scope.cancel()
        self.ended.set()


@asynccontextmanager
async def followed(
    gateway: FakeGateway, **options: Any
) -> AsyncGenerator[tuple[Daemon, Follower, MemoryListener]]:
    """Run a daemon with a hub and a client of that for the length of a block."""
    listener, follower = MemoryListener(), Follower()
    async with trio.open_nursery() as nursery:
        async with running(gateway, hub=hub_on(listener), **options) as daemon:
            nursery.start_soon(follower.run, listener)
            await follower.greeted.wait()
            await gateway.wait_connected()
            yield daemon, follower, listener


async def ask(listener: MemoryListener, request: bytes) -> bytes:
    """Send one request and return all that comes until the end."""
    stream = await listener.connect()
    await stream.send_all(request)
    answer = b""
    while data := await stream.receive_some():
        answer += data
    return answer


def post(body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /v2/send HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: {bearer()[0][1].decode()}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


# --- while it runs ---


async def test_it_tells_of_its_hub_and_leaves_the_messages_to_it(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        async with followed(gateway, show_text=False) as (daemon, follower, _):
            assert daemon.told("hub_started", "address", "page", "key") == [(HOST, f"http://{HOST}/", True)]
            assert daemon.told("hub_without_key") == []
            gateway.deliver(text="hello")
            await trio.sleep(1)
            assert follower.kinds() == ["hello", "message"]
            assert follower.frames[1]["sequence_number"] == 1
            assert follower.frames[1]["data"]["envelope"]["dataMessage"]["message"] == "hello"
        assert daemon.code == Exit.OK
    assert daemon.told("message_received") == []
    assert daemon.told("hub_stopped", "numbered", "delivered", "websockets", "refused") == [(1, 1, 1, 0)]
    assert daemon.events[0]["event"] == "daemon_started"
    assert SECRET not in json.dumps(daemon.events)


async def test_clients_send_through_it_and_it_sends_its_input_too(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, followed(gateway) as (daemon, _, listener):
        answer = await ask(listener, post({"recipients": [PEER], "message": "from a client"}))
        assert answer.startswith(b"HTTP/1.1 201 ")
        daemon.input.line(recipient=PEER, text="from the input", id="a")
        await gateway.wait_received(2)
        await trio.sleep(1)
        assert daemon.told("outcome", "id", "outcome") == [("a", "sent")]
        assert [send.message for send in gateway.received] == ["from a client", "from the input"]
    assert daemon.told("hub_stopped", "sends") == [1]
    assert daemon.told("daemon_stopped", "accepted", "sent", "unsent") == [(2, 2, 0)]


@pytest.mark.contract("R8")
async def test_a_gap_is_in_the_log_though_the_hub_reads_the_events(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, followed(gateway) as (daemon, follower, _):
        gateway.drop()
        await trio.sleep(10)
        assert follower.kinds() == ["hello", "gap"]
        [line] = [line for line in daemon.told("library", "message") if "missing" in line]
        assert "gateway" in line


async def test_without_a_key_it_says_so(autojump_clock: MockClock) -> None:
    listener = MemoryListener()
    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, hub=hub_on(listener, key=None)) as daemon:
            answer = await ask(listener, f"GET /status HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200 ")
    assert daemon.told("hub_started", "key") == [False]
    assert daemon.told("hub_without_key", "level") == ["warning"]


# --- how it ends ---


@pytest.mark.contract("H10", "C5")
async def test_the_first_signal_ends_the_hub_in_order_and_then_sends_what_waits(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None, answer_delay=1.0) as gateway:
        async with followed(gateway) as (daemon, follower, listener):
            for name in "abc":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(0.5)
            signal.raise_signal(signal.SIGTERM)
            await follower.ended.wait()
            assert follower.kinds() == ["hello", "goodbye"]
            assert 0 <= follower.frames[1]["retry_after"] <= 10
            assert follower.closed == 1012
            assert not daemon.ended.is_set()
            with pytest.raises(ConnectionRefusedError):
                await listener.connect()
            await daemon.ended.wait()
    assert daemon.code == Exit.OK
    assert [send.message for send in gateway.received] == list("abc")
    told = [event["event"] for event in daemon.events]
    assert told.index("daemon_stopping") < told.index("hub_stopped") < told.index("daemon_stopped")
    after = daemon.events[told.index("hub_stopped") :]
    assert "c" in [event.get("id") for event in after], "the last is sent after the hub's end"


@pytest.mark.contract("H10")
async def test_a_client_that_waits_for_its_outcome_gets_it(autojump_clock: MockClock) -> None:
    answer = b""

    async def send(listener: MemoryListener) -> None:
        nonlocal answer
        answer = await ask(listener, post({"recipients": [PEER], "message": "slowly"}))

    async with open_fake_gateway(port=None, answer_delay=2.0) as gateway, trio.open_nursery() as nursery:
        async with followed(gateway) as (daemon, _, listener):
            nursery.start_soon(send, listener)
            await gateway.wait_received(1)
            assert await daemon.stop() == Exit.OK
    assert answer.startswith(b"HTTP/1.1 201 ")


@pytest.mark.contract("C5")
async def test_a_second_signal_ends_both_at_once(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(answers.hang())
        async with followed(gateway, close_timeout=60.0) as (daemon, follower, _):
            daemon.input.line(recipient=PEER, text="a", id="a")
            await gateway.wait_received(1)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(20)
            assert follower.ended.is_set()
            assert not daemon.ended.is_set()
            began = trio.current_time()
            assert await daemon.stop(signal.SIGINT) == Exit.NOT_SENT
            assert trio.current_time() - began < 2
    assert daemon.told("outcome", "id", "outcome") == [("a", "failed")]


@pytest.mark.contract("C5")
async def test_two_signals_in_a_moment_leave_nobody_waiting(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, followed(gateway) as (daemon, follower, _):
        began = trio.current_time()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        await daemon.ended.wait()
        await follower.ended.wait()
        assert trio.current_time() - began < 2
    assert len(daemon.told("hub_stopped", "event")) == 1
    assert daemon.events[-1]["event"] == "daemon_stopped"


async def test_a_signal_while_the_hub_starts_is_kept(autojump_clock: MockClock) -> None:
    listener = MemoryListener()
    settings = hub_on(listener)

    async def slowly(client: Any, **options: Any) -> None:
        await trio.sleep(5)
        await settings.serve(client, **options)

    async with open_fake_gateway(port=None) as gateway:
        async with running(gateway, hub=HubSettings(serve=slowly, has_key=True)) as daemon:
            await trio.sleep(1)
            assert await daemon.stop() == Exit.OK
    assert daemon.told("hub_stopped", "numbered") == [0]


@pytest.mark.contract("C6")
async def test_a_gateway_that_cannot_serve_ends_the_hub_too(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    listener, follower = MemoryListener(), Follower()
    async with open_fake_gateway(port=None, accounts=["+15550007"]) as gateway:
        gateway.refuse(2)
        async with trio.open_nursery() as nursery:
            async with running(gateway, hub=hub_on(listener)) as daemon:
                nursery.start_soon(follower.run, listener)
                await daemon.ended.wait()
    assert daemon.code == Exit.FAILED
    assert follower.ended.is_set()
    assert "does not have the account" in capsys.readouterr().err
    assert daemon.told("hub_stopped", "websockets") == [1]


async def test_a_hub_that_cannot_listen_is_one_sentence(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        port = taken.socket.getsockname()[1]
        serve = partial(serve_hub, host="127.0.0.1", port=port, key=Authenticator(KEY))
        async with open_fake_gateway(port=None) as gateway:
            async with running(gateway, hub=HubSettings(serve=serve, has_key=True)) as daemon:
                await daemon.ended.wait()
    assert daemon.code == Exit.FAILED
    assert capsys.readouterr().err == (
        "trio-signal: --hub (environment variable TRIO_SIGNAL_HUB): it cannot be listened on: "
        f"{os.strerror(98)}\n"
    )
    assert daemon.told("hub_started") == daemon.told("hub_stopped") == []


# --- options ---


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8765", "127.0.0.1", 8765),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("hub.example.org:443", "hub.example.org", 443),
    ],
)
def test_places_to_listen(text: str, host: str, port: int) -> None:
    assert address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        ":8765",
        "8765",
        "h:",
        "h:65536",
        "h:-1",
        "::1:80",
        "http://h:1",
        "h:1/",
        "h:1\n",
        "a b:1",
    ],
)
def test_what_is_no_place_to_listen(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, like 127.0.0.1:8765"):
        address(text)


def test_several_origins_have_commas_between_them() -> None:
    assert several("https://a.example, http://b.example:1,,") == ("https://a.example", "http://b.example:1")
    assert several(" , ") == ()


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return str(path)


def settings_of(*given: str) -> dict[str, Any]:
    _, values = parse(["daemon", *GIVEN, "--hub", "127.0.0.1:0", *given], {})
    found = read_hub(values)
    serve: Any = found.serve
    assert serve.func is serve_hub
    return {"has_key": found.has_key, **serve.keywords}


def test_options_become_settings(tmp_path: Path) -> None:
    assert settings_of() == {
        "has_key": False,
        "host": "127.0.0.1",
        "port": 0,
        "key": None,
        "ssl_context": None,
        "allowed_origins": (),
    }
    key = write(tmp_path / "key", f"{KEY}\n")
    made = settings_of("--jwt-key-file", key, "--allow-origin", "https://a.example,https://b.example")
    assert made["has_key"]
    assert made["allowed_origins"] == ("https://a.example", "https://b.example")
    assert made["key"].check(make_token(KEY, "x", ttl=60)).subject == "x"
    assert SECRET not in repr(made)


@pytest.mark.parametrize("files", ["two", "one"])
def test_a_certificate_and_its_key(files: str, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    if files == "two":
        cert, key = (
            write(tmp_path / "cert", chain),
            write(tmp_path / "key", certificate.private_key_pem.bytes()),
        )
        context = settings_of("--tls-cert", cert, "--tls-key", key)["ssl_context"]
    else:
        both = write(tmp_path / "both", certificate.private_key_pem.bytes() + chain)
        context = settings_of("--tls-cert", both)["ssl_context"]
    assert isinstance(context, ssl.SSLContext)


HUB = ("--hub", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--hub", "8765"), "--hub (environment variable TRIO_SIGNAL_HUB): '8765' is not HOST:PORT"),
        (
            ("--hub", "0.0.0.0:0"),
            "JWT_KEY_FILE): without one the hub listens on loopback only, not on 0.0.0.0",
        ),
        (
            (*HUB, "--jwt-key-file", "absent"),
            "TRIO_SIGNAL_JWT_KEY_FILE): 'absent': it cannot be read: No such file",
        ),
        ((*HUB, "--jwt-key-file", "short"), "'short': HS256 needs at least 32 bytes; this has 6"),
        (
            (*HUB, "--jwt-key-file", "key", "--jwt-algorithm", "RS256"),
            "'key': RS256 needs a public key of its kind",
        ),
        ((*HUB, "--jwt-key-file", "key", "--jwt-algorithm", "none"), "'none' is none of HS256, RS256, ES256"),
        (
            (*HUB, "--allow-origin", "example.org"),
            "TRIO_SIGNAL_ALLOW_ORIGIN): 'example.org' is not of the form",
        ),
        ((*HUB, "--tls-cert", "absent"), "TRIO_SIGNAL_TLS_CERT): 'absent' cannot be used: No such file"),
        ((*HUB, "--tls-cert", "key", "--tls-key", "absent"), "TRIO_SIGNAL_TLS_KEY): 'absent' cannot be used"),
        (
            (*HUB, "--tls-cert", "key", "--tls-key", "key"),
            "'key': there is no certificate with its private key",
        ),
        ((*HUB, "--tls-cert", "cert"), "'cert': there is no certificate with its private key"),
        (
            (*HUB, "--tls-cert", "cert", "--tls-key", "locked"),
            "there is no certificate with its private key, not encr",
        ),
        ((*HUB, "--tls-key", "key"), "TRIO_SIGNAL_TLS_KEY): give --tls-cert too"),
        ((*HUB, "--show-text"), "TRIO_SIGNAL_SHOW_TEXT): with --hub messages go to the hub's clients"),
        (("--jwt-key-file", "key"), "TRIO_SIGNAL_JWT_KEY_FILE): it is for a hub; give --hub too"),
        (("--jwt-algorithm", "ES256"), "it is for a hub; give --hub too"),
        (("--allow-origin", "https://example.org"), "it is for a hub; give --hub too"),
        (("--tls-cert", "cert"), "it is for a hub; give --hub too"),
        (("--tls-key", "key"), "it is for a hub; give --hub too"),
    ],
)
def test_bad_options_are_one_sentence_without_secrets_and_exit_code_2(
    given: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("key"), KEY)
    write(Path("short"), SECRET)
    certificate = trustme.CA().issue_cert("127.0.0.1")
    write(Path("cert"), certificate.cert_chain_pems[0].bytes())
    secret = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    protection = serialization.BestAvailableEncryption(SECRET.encode())
    pkcs8 = serialization.PrivateFormat.PKCS8
    write(Path("locked"), secret.private_bytes(serialization.Encoding.PEM, pkcs8, protection))
    assert main(["daemon", "--json", *GIVEN, *given]) == Exit.USAGE
    captured = capfd.readouterr()
    assert words in captured.err
    assert captured.err.startswith("trio-signal: ")
    assert captured.err.count("\n") == 1
    assert SECRET not in captured.err + captured.out


# --- the hub as a gateway ---


async def status_of(
    listener: MemoryListener, capsys: pytest.CaptureFixture[str], *, account: str, token: str | None
) -> tuple[int, dict[str, Any]]:
    where = Connection(gateway=f"http://{HOST}", account=account, connect=listener.connect, token=token)
    capsys.readouterr()
    code = await run_status(StatusSettings(where=where, timeout=10.0, as_json=True))
    return code, json.loads(capsys.readouterr().out)


async def test_status_of_a_hub_looks_behind_it(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    token = make_token(KEY, "me", ttl=3600)
    async with open_fake_gateway(port=None) as gateway, followed(gateway) as (_, _, listener):
        await trio.sleep(1)
        code, told = await status_of(listener, capsys, account=gateway.account, token=token)
        assert (code, told["connected"]) == (Exit.OK, True)
        assert told["gateway"]["mode"] == "trio-signal-hub"
        assert told["account"] == {"ok": True, "detail": f"the hub has {gateway.account}"}
        assert told["upstream"]["ok"] is told["link"]["ok"] is True

        code, told = await status_of(listener, capsys, account="+15550099", token=token)
        assert told["account"] == {"ok": False, "detail": "the hub has another account than +15550099"}

        code, told = await status_of(listener, capsys, account=gateway.account, token="wrong")
        assert (code, told["connected"]) == (Exit.FAILED, False)
        assert told["account"]["detail"] == "the hub refuses the credentials (HTTP 401)"
        assert told["link"]["ok"] is False

        gateway.refuse(None)
        gateway.drop()
        await trio.sleep(30)
        code, told = await status_of(listener, capsys, account=gateway.account, token=token)
        assert (code, told["connected"]) == (Exit.FAILED, False)
        assert told["link"]["ok"] is True
        assert told["upstream"]["ok"] is False
        assert told["upstream"]["detail"].startswith("the hub is not connected to its gateway: ")


async def test_status_of_a_hub_that_does_not_tell(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, mode="trio-signal-hub") as gateway:
        where = Connection(gateway=gateway.url, account=gateway.account, connect=gateway.connect)
        for script, words in (
            (None, "the hub does not tell (HTTP 404)"),
            (answers.hang(), "no answer to /status"),
        ):
            if script is not None:
                gateway.script("GET /status", script)
            assert await run_status(StatusSettings(where=where, timeout=20.0, as_json=False)) == Exit.FAILED
            text = capsys.readouterr().out
            assert f"?    account  {words}" in text
            assert f"?    upstream {words}" in text


def test_a_hole_in_a_hubs_numbering_is_told_by_its_numbers() -> None:
    lines: list[str] = []
    gap = Gap(GapReason.EXPIRED, 1_000, 2_000, first=3, last=5)
    Reports(make_logger(lines.append, as_json=True, level="info"), show_text=False).event(gap)
    lines.append(as_json(gap) or "")
    for line in lines:
        told = json.loads(line)
        assert (told["reason"], told["first"], told["last"]) == ("expired", 3, 5)


@pytest.mark.contract("H9")
async def test_the_commands_of_a_start(tmp_path: Path) -> None:
    key, token_file = str(tmp_path / "hub.key"), tmp_path / "token"
    made = await run_program("token", "--jwt-key-file", key, "--new-key", "--sub", "me", "--ttl", "1h")
    token_file.write_text(made.out)
    secret = read_key(Path(key)).decode()
    certificate_authority = trustme.CA()
    certificate = certificate_authority.issue_cert("127.0.0.1")
    cert = write(tmp_path / "cert", certificate.private_key_and_cert_chain_pem.bytes())
    ca = write(tmp_path / "ca", certificate_authority.cert_pem.bytes())
    said = made.err
    async with open_fake_gateway() as gateway:
        given = ["--gateway", gateway.url, "--account", gateway.account, "--hub", "127.0.0.1:0"]
        given += ["--jwt-key-file", key, "--tls-cert", cert]
        async with started("daemon", "--json", "--log-level", "debug", *given) as daemon:
            page: str = (await daemon.event("hub_started"))["page"]
            await daemon.event("connection_status_changed", current="connected")
            assert page.startswith("https://127.0.0.1:")
            at_hub = ["--gateway", page, "--account", gateway.account, "--ca-file", ca]
            with_token = [*at_hub, "--token-file", str(token_file)]
            async with started("listen", "--json", *with_token) as listener:
                status = await run_program("status", *with_token)
                assert (status.code, status.err) == (0, "")
                sent = await run_program("send", *with_token, PEER, "through the hub")
                assert (sent.code, sent.err) == (0, "")
                gateway.deliver(text="hello")
                line = await listener.line()
                assert line is not None
                assert json.loads(line)["text"] == "hello"
                listener.signal(signal.SIGINT)
                said += (await listener.end()).err
            refused = await run_program("status", *at_hub)
            assert refused.code == 1
            daemon.signal(signal.SIGTERM)
            ended = await daemon.end()
    assert [send.message for send in gateway.received] == ["through the hub"]
    assert (ended.code, ended.err) == (0, "")
    for hidden in (secret, made.out.strip()):
        assert hidden not in ended.out + said + status.out + sent.out + refused.out + refused.err
