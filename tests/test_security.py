"""Every threat of docs/security.md has a test; here are the attacks that belong to no module's own tests."""

import ast
import json
import logging
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.audit import CannotAsk, ask
from tests.audit import pins as audit_pins
from tests.hubs import open_hub
from tests.scene import PEER, closing_within, connected, open_gateway, wall_time
from tests.test_contract import Claim
from trio_signal import (
    ConfigurationError,
    ConnectionState,
    OutgoingMessage,
    RequestFailed,
    SendFailed,
    SignalError,
    open_signal_client,
)
from trio_signal._cli.listen import as_json, as_text
from trio_signal._decoding import decode_frame
from trio_signal._envelopes import ReceivedMessage
from trio_signal.testing import error, raw

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "security.md"
LOCK: Final = ROOT / "requirements" / "ci.txt"

_THREAT: Final = re.compile(r"^\*\*(T\d+)\. ", re.MULTILINE)


# --- The document and its tests. ---


def threats() -> list[str]:
    return _THREAT.findall(DOCUMENT.read_text(encoding="utf-8"))


def marks_in(source: str, path: str) -> list[Claim]:
    """Return each id in each ``pytest.mark.threat(...)`` of a module."""
    marks: list[Claim] = []
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.threat"):
            marks += [
                Claim(ast.literal_eval(argument), f"{path}:{argument.lineno}") for argument in node.args
            ]
    return marks


def all_marks() -> dict[str, list[str]]:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.joinpath("tests").rglob("test_*.py")):
        for mark in marks_in(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()):
            places[mark.statement].append(mark.place)
    return places


def test_the_threats_are_numbered_without_holes() -> None:
    assert threats() == [f"T{number}" for number in range(1, len(threats()) + 1)]
    assert threats()


def test_every_threat_has_a_test_and_every_mark_a_threat() -> None:
    marks = all_marks()
    assert [threat for threat in threats() if threat not in marks] == []
    assert {mark: places for mark, places in marks.items() if mark not in threats()} == {}


def test_every_threat_says_what_stands_against_it_and_what_does_not() -> None:
    parts = re.split(r"^\*\*T\d+\. ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert all("*Against it*:" in part and "*Not*:" in part.replace("\n", " ") for part in parts)


def test_marks_are_found() -> None:
    source = '@pytest.mark.threat("T1", "T2")\ndef test_x() -> None: ...\npytest.mark.contract("T3")'
    assert [(mark.statement, mark.place) for mark in marks_in(source, "x.py")] == [
        ("T1", "x.py:1"),
        ("T2", "x.py:1"),
    ]


# --- Text that acts. ---

NASTY: Final = "\x1b[2J\x1b]0;owned\x07\r\nERROR forged\u2028\u202egnp.exe\x9b31m"


def envelope(**data: Any) -> ReceivedMessage:
    said = {
        "envelope": {"source": NASTY, "sourceName": NASTY, "timestamp": 5, "dataMessage": data},
        "account": NASTY,
    }
    message = decode_frame(json.dumps(said))
    assert isinstance(message, ReceivedMessage)
    return message


@pytest.mark.threat("T3")
def test_what_somebody_writes_cannot_move_the_cursor_or_forge_a_line() -> None:
    message = envelope(
        message=NASTY,
        groupInfo={"groupId": NASTY, "groupName": NASTY},
        attachments=[{"contentType": NASTY, "filename": NASTY, "id": NASTY}],
    )
    shown = as_text(message, with_account=True)
    assert shown is not None
    assert shown.isprintable()
    written = as_json(message)
    assert written is not None
    assert written.isascii()
    assert written.isprintable()


@pytest.mark.threat("T3")
@pytest.mark.parametrize("status", [400, 404, 429, 500])
async def test_a_gateways_words_stand_in_errors_and_logs_as_one_plain_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG, "trio_signal")
    async with open_gateway() as gateway, connected(gateway) as client:
        gateway.script_send(error(status, NASTY))
        with pytest.raises(SendFailed) as caught:
            await (await client.send_message(PEER, "hi")).wait()
        assert str(caught.value).isprintable()
        assert "owned" in str(caught.value)
    assert all(record.getMessage().isprintable() for record in caplog.records)


# --- Answers that lead elsewhere. ---


@pytest.mark.threat("T6")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_takes_no_token_along(
    autojump_clock: MockClock, status: int
) -> None:
    dialled: set[tuple[str, int]] = set()
    async with open_gateway() as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            dialled.add((host, port))
            return await gateway.connect(host, port)

        async with open_signal_client(
            "http://127.0.0.1:8080", gateway.account, token="invented", connect=connect, wall_clock=wall_time
        ) as client:
            await client.wait_state(ConnectionState.CONNECTED)
            elsewhere = b"Location: http://attacker.example:80/x\r\nContent-Length: 0\r\n\r\n"
            away = raw(b"HTTP/1.1 %d Elsewhere\r\n%b" % (status, elsewhere))
            gateway.script_send(away)
            gateway.script(f"GET /v1/groups/{gateway.account}", away)
            with pytest.raises(SendFailed):
                await (await client.send_message(PEER, "hi")).wait()
            with pytest.raises(RequestFailed):
                await client.list_groups()
            gateway.reject(status)
            gateway.drop()
            await client.wait_state(ConnectionState.DISCONNECTED)
            await client.wait_state(ConnectionState.CONNECTED)
    assert dialled == {("127.0.0.1", 8080)}


# --- Arguments that become requests. ---

WAYS_OUT: Final = (
    "../../v1/accounts",
    "/v1/unregister/+15550001",
    "+15550002/../x",
    "x?y=z",
    "a\r\nX-Evil: 1",
    "a\nb",
    "..",
    ".",
    "%2e%2e%2f",
    "a#b",
    "\0",
)


@pytest.mark.threat("T7")
@pytest.mark.parametrize("text", WAYS_OUT)
async def test_no_argument_reaches_another_route_of_the_gateway(autojump_clock: MockClock, text: str) -> None:
    async with open_gateway() as gateway, connected(gateway) as client:
        before = {request.path for request in gateway.requests}
        for ask in (
            lambda: client.send_typing(text),
            lambda: client.quit_group(text),
            lambda: client.update_contact(text, name="x"),
            lambda: client.delete_attachment(text),
            lambda: client.send_message(text, "hi"),
        ):
            with trio.move_on_after(30):
                try:
                    sent = await ask()
                    if isinstance(sent, OutgoingMessage):
                        await sent.wait()
                except SignalError:
                    continue
        for request in [each for each in gateway.requests if each.path not in before]:
            assert re.fullmatch(
                r"/v\d/(typing-indicator|groups|contacts|attachments|send)(/[^?#\s]*)?", request.path
            )
            assert "/../" not in request.path
            assert "x-evil" not in {name.lower() for name in request.headers}


@pytest.mark.threat("T7")
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0", " a", "ä"])
async def test_no_token_and_no_header_holds_another_one(value: str) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"token": value},
        {"headers": {"X-Key": value}},
        {"headers": {f"X{value}": "y"}},
    )
    for options in wrong:
        with pytest.raises(ConfigurationError):
            async with open_signal_client("http://127.0.0.1:9", "+15550001", **options):
                pytest.fail("it was taken")


# --- The hub. ---

OTHERS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("POST", "/v1/operations", {"operation": "ListAccounts"}),
    ("POST", "/v1/operations", {"operation": "StartLink", "device_name": "x"}),
    ("POST", "/v1/operations", {"operation": "FinishLink", "uri": "sgnl://linkdevice?uuid=a&pub_key=b"}),
    ("POST", "/v2/send", {"recipients": [PEER], "message": "x", "number": "+15559999"}),
    (
        "POST",
        "/v1/reactions/+15559999",
        {"recipient": PEER, "reaction": "x", "target_author": PEER, "timestamp": 5},
    ),
    ("DELETE", "/v1/remote-delete/+15559999", {"recipient": PEER, "timestamp": 5}),
    ("POST", "/v1/register/+15550001", {}),
    ("GET", "/v1/accounts", {}),
    ("GET", "/v1/receive/+15550001", {}),
    ("POST", "/v1/configuration", {}),
    ("GET", "/v1/attachments/..%2F..%2Fx", {}),
)


@pytest.mark.threat("T7", "T9")
@pytest.mark.parametrize(("method", "path", "body"), OTHERS)
async def test_a_hubs_client_has_this_account_and_nothing_else_of_the_gateway(
    autojump_clock: MockClock, method: str, path: str, body: dict[str, Any]
) -> None:
    async with open_hub() as scene:
        before = len(scene.gateway.requests)
        answer = await scene.ask(path, method=method, body=json.dumps(body).encode())
        assert answer.status in (403, 404, 405, 422)
        assert len(scene.gateway.requests) == before


@pytest.mark.threat("T12")
async def test_the_page_may_not_be_framed_and_no_answer_sets_a_cookie(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for path in ("/", "/status", "/v1/about", "/healthz", "/metrics", "/nothing"):
            answer = await scene.ask(path)
            assert "set-cookie" not in answer.headers
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "*" not in answer.headers.get("access-control-allow-origin", "")
        assert "frame-ancestors 'none'" in (await scene.ask("/")).headers["content-security-policy"]


@pytest.mark.threat("T14")
async def test_nothing_of_what_is_written_stands_in_any_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_hub() as scene:
        scene.gateway.deliver(text="xyzzy arrives")
        scene.gateway.script_send(error(400, "no"))
        with closing_within(60):
            body = {"recipients": [PEER], "message": "xyzzy goes"}
            await scene.ask("/v2/send", method="POST", body=json.dumps(body).encode())
            await scene.ask("/v2/send", method="POST", body=b'{"xyzzy": ["broken')
    assert caplog.records
    assert "xyzzy" not in caplog.text


# --- What is installed. ---


@pytest.mark.threat("T16")
def test_everything_is_pinned_with_its_hash() -> None:
    lines = LOCK.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pinned = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(pinned) > 20
    form = re.compile(r"[a-z0-9._-]+==[^ ;]+( ;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [line[:60] for line in pinned if not form.fullmatch(line)] == []


@pytest.mark.threat("T16")
def test_what_is_installed_is_installed_by_hash() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = re.findall(r"-m pip install (.*)", makefile)
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--editable" in install or "$(UV)" in install


def test_the_audit_reads_what_an_index_tells() -> None:
    answer = {
        "info": {"yanked": True, "yanked_reason": "broken"},
        "vulnerabilities": [
            {"id": "PYSEC-1", "summary": "bad\nthings", "fixed_in": ["2.0"], "withdrawn": None},
            {"id": "PYSEC-2", "withdrawn": "2026-01-01"},
            {"id": "PYSEC-3", "details": "x" * 500},
        ],
    }
    asked: list[str] = []

    def index(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=answer) if len(asked) == 1 else httpx.Response(404)

    with httpx.Client(base_url="https://index.example", transport=httpx.MockTransport(index)) as client:
        found = ask(client, audit_pins("h11==0.1 \\\n    --hash=sha256:0\n    # via x\nmsgspec==2 ; x\n"))
        told = [next(found) for _ in range(3)]
        with pytest.raises(CannotAsk, match="HTTP 404 about msgspec 2"):
            next(found)
    assert told[0] == "h11 0.1 was withdrawn: broken"
    assert told[1] == "h11 0.1: PYSEC-1 (mended in 2.0): bad things"
    assert told[2].startswith("h11 0.1: PYSEC-3 (mended in no release): xxx")
    assert asked == ["/pypi/h11/0.1/json", "/pypi/msgspec/2/json"]
    assert len(audit_pins(LOCK.read_text(encoding="utf-8"))) > 20
