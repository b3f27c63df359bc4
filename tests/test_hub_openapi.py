"""The hub's HTTP routes do what their own description says: fuzzed from it, and each refusal looked at.

The server runs in a thread of its own, in real time: schemathesis asks over real sockets.
"""

import json
import math
import queue
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, given, settings
from schemathesis.core import NotSet

from trio_signal import ConnectionState, Gap, GapReason, open_signal_client
from trio_signal._operations import AnyOperation, Contact, Group, GroupPermissions
from trio_signal.hub import (
    Authenticator,
    CloseCode,
    Hole,
    HubLimits,
    LogEntry,
    Page,
    _protocol,
    make_token,
    serve_hub,
)
from trio_signal.testing import FakeGateway, lost, ok, open_fake_gateway, rate_limited
from trio_signal.testing import error as refusal

KEY = b"0123456789abcdef0123456789abcdef"
ACCOUNT = "+15550001"
PROTOCOL = Path(__file__).parents[1] / "docs" / "hub-protocol.md"

# Hypothesis watches the random module of the process while it draws, and the hub runs in a thread of it.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

#: So many UTF-16 code units a text has at least if people are named in it.
ROOM: Final = 40

#: The highest number that the description allows where a mention begins, and for its length.
MOST_UNITS: Final = 2**31

LETTER = {"recipients": ["+15550101"], "message": "the cellar is wet"}

REACTIONS = "/v1/reactions/{number}"
DELETIONS = "/v1/remote-delete/{number}"
REACTION = {"recipient": "+15550101", "reaction": "x", "target_author": "+15550101", "timestamp": 5}
TYPING = {"operation": "SendTyping", "recipient": "+15550101"}
VIEWED = {"operation": "SendReceipt", "recipient": "+15550101", "timestamp": 5, "kind": "viewed"}

once_and_for_all = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

NOT_OVER_A_HUB: Final = {"ListAccounts", "StartLink", "FinishLink"}

#: Not all of it has types.
api: Final[Any] = schemathesis

_Test = TypeVar("_Test", bound=Callable[..., None])


def load() -> dict[str, Any]:
    """Read the description that the hub serves."""
    text = (resources.files("trio_signal.hub") / "openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    return description


def fuzzable() -> Any:
    """Load the description for one hub: which account it has cannot stand in the file."""
    description = load()
    number = description["components"]["schemas"]["Send"]["properties"]["number"]
    assert number["type"] == ["string", "null"]
    number["enum"] = [ACCOUNT, None]
    for path in ("/v1/reactions/{number}", "/v1/remote-delete/{number}"):
        for operation in description["paths"][path].values():
            operation["parameters"][0]["schema"] = {"enum": [ACCOUNT]}
    # That a parameter is too long may show in the length of the whole target first, and a part of a path that
    # holds a slash makes it another path.
    rejections = ["400", "401", "404", "405", "413", "414", "415", "422"]
    # What a gateway refuses in words is right all the same.
    acceptances = ["2xx", "400", "401", "403", "404", "5xx"]
    checks = {
        "negative_data_rejection": {"expected-statuses": rejections},
        "positive_data_acceptance": {"expected-statuses": acceptances},
    }
    config = api.config.SchemathesisConfig.from_dict({"checks": checks})
    return api.openapi.from_dict(description, config=config)


schema = fuzzable()


def map_body(_: Any, body: Any) -> Any:
    """Write what JSON Schema cannot say: whole numbers without a point, texts with what they must hold."""
    body = with_whole_numbers(body)
    if not isinstance(body, dict):
        return body
    fields = cast("dict[str, Any]", body)
    names = ("message", "mentions", "link_preview", "reaction")
    text, mentions, preview, reaction = (fields.get(name) for name in names)
    text = "" if text is None and fields.get("base64_attachments") else text
    # To what cannot be sent anyhow nothing is added, lest it can.
    if isinstance(text, str) and (text or fields.get("base64_attachments")):
        room = " " * ROOM if mentions else ""
        url = cast("dict[str, Any]", preview).get("url") if isinstance(preview, dict) else None
        fields = {**fields, "message": f"{text}{room}{url}" if isinstance(url, str) else text + room}
    if isinstance(reaction, str) and len(reaction) <= 64:
        fields = {**fields, "reaction": reaction[:16]}
    if isinstance(mentions, list):
        fields = {**fields, "mentions": [within_the_room(each) for each in cast("Sequence[Any]", mentions)]}
    return fields


def within_the_room(mention: Any) -> Any:
    """Move a mention to where a text has room for it; one that is wrong wherever it is stays as it is."""
    if not isinstance(mention, dict):
        return mention
    fields = cast("dict[str, Any]", mention)
    moved = {
        name: least + (fields[name] - least) % (ROOM // 2)
        for name, least in (("start", 0), ("length", 1))
        if type(fields.get(name)) is int and least <= fields[name] <= MOST_UNITS
    }
    return {**fields, **moved}


def with_whole_numbers(value: Any) -> Any:
    """Write 1.0 as 1: it is an integer to JSON Schema, but to no gateway."""
    if isinstance(value, dict):
        return {name: with_whole_numbers(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [with_whole_numbers(each) for each in cast("Sequence[Any]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


schema.hook(map_body)


def for_each_operation(how: settings) -> Callable[[_Test], _Test]:
    """Call a test with cases of every operation: what follows from the description, and drawn ones."""

    def decorate(test: _Test) -> _Test:
        decorated: _Test = schema.parametrize()(how(test))
        return decorated

    return decorate


@dataclass(frozen=True, slots=True)
class Address:
    """A running hub, from outside."""

    url: str
    headers: Mapping[str, str]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask with the token, unless other headers replace it."""
        headers = {**self.headers, **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **options)


def nothing(_: FakeGateway) -> None:
    """Leave the gateway as it is."""


def lose_the_link(gateway: FakeGateway) -> None:
    """Lose it for good."""
    gateway.refuse(None)
    gateway.drop()


async def run_hub(
    limits: HubLimits,
    prepare: Callable[[FakeGateway], None],
    started: "queue.Queue[Address | BaseException]",
    stop: trio.Event,
) -> None:
    """Run a hub on a fake gateway until told to stop."""
    async with (
        open_fake_gateway(ACCOUNT, port=None) as gateway,
        open_signal_client(
            # Nothing proves that a lost answer's message went out, and it is real time that would be waited.
            gateway.url,
            ACCOUNT,
            connect=gateway.connect,
            rate_limit=None,
            settle_timeout=0,
        ) as signal,
        trio.open_nursery() as nursery,
    ):
        await signal.wait_state(ConnectionState.CONNECTED)
        hub = await nursery.start(partial(serve_hub, signal, key=Authenticator(KEY), limits=limits))
        for number in range(30):
            hub.connections.broadcast(json.dumps({"envelope": {"timestamp": number}, "account": ACCOUNT}))
        hub.connections.broadcast("no JSON")
        gap = Gap(GapReason.GATEWAY, 1_795_302_674_000, 1_795_302_675_000, count=3)
        hub.board.note_gap(hub.connections.broadcast_gap(gap).sequence, gap)
        prepare(gateway)
        if prepare is lose_the_link:
            await signal.wait_state(ConnectionState.DISCONNECTED)
        token = make_token(KEY, "fuzzer", ttl=3600)
        started.put(Address(hub.url, {"Authorization": f"Bearer {token}"}))
        await stop.wait()
        hub.shutdown()


@contextmanager
def running(limits: HubLimits, prepare: Callable[[FakeGateway], None] = nothing) -> Generator[Address]:
    """Run a hub in a thread while the block runs."""
    started: queue.Queue[Address | BaseException] = queue.Queue()
    entered: queue.Queue[tuple[trio.lowlevel.TrioToken, trio.Event]] = queue.Queue()

    async def main() -> None:
        stop = trio.Event()
        entered.put((trio.lowlevel.current_trio_token(), stop))
        await run_hub(limits, prepare, started, stop)

    def thread() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            started.put(error)
            raise

    runner = threading.Thread(target=thread)
    runner.start()
    trio_token, stop = entered.get(timeout=30)
    try:
        address = started.get(timeout=30)
        if isinstance(address, BaseException):
            raise address
        yield address
    finally:
        trio_token.run_sync_soon(stop.set)
        runner.join(timeout=30)
    assert not runner.is_alive()


@pytest.fixture(scope="module")
def hub() -> Generator[Address]:
    """Run a hub that is well and in no hurry."""
    with running(HubLimits(recovery_rate=1e6, recovery_burst=1_000_000, max_send_bytes=64 * 1024)) as address:
        yield address


@pytest.fixture(scope="module")
def troubled() -> Generator[Address]:
    """Run a hub that has lost its gateway."""
    limits = HubLimits(recovery_rate=1e6, recovery_burst=1_000_000, send_wait=0.02)
    with running(limits, lose_the_link) as address:
        yield address


def check(response: requests.Response, method: str, path: str) -> None:
    """Hold an answer against what is written about it."""
    written = load()["paths"][path][method.lower()]["responses"]
    assert str(response.status_code) in written, response.text
    schema[path][method].validate_response(response)


# --- the description itself ---


def test_the_description_is_one() -> None:
    schema.validate()
    assert load()["openapi"].startswith("3.1")


def test_each_operation_says_what_it_answers_and_how() -> None:
    description = load()
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            for status, answer in operation["responses"].items():
                shared = answer.get("$ref", "").rpartition("/")[2]
                whole = description["components"]["responses"][shared] if shared else answer
                if status != "204":
                    (content,) = whole["content"].values()
                    assert content["schema"], (where, status)
                assert whole["description"], (where, status)


def test_what_needs_no_token_is_listed() -> None:
    public = {
        path
        for path, operations in load()["paths"].items()
        for operation in operations.values()
        if operation.get("security") in ([], [{}, {"token": []}])
    }
    assert public == {"/healthz", "/readyz", "/v1/about", "/openapi.json"}


def test_the_hub_serves_it(hub: Address) -> None:
    assert hub.ask("GET", "/openapi.json", headers={"Authorization": ""}).json() == load()


def test_the_protocol_s_examples_are_what_the_hub_says() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    epoch = "Kx3vQ8sLw2mTz0aR"
    envelope = (
        b'{"envelope":{"sourceNumber":"+15550101","dataMessage":{"message":"hi"}},"account":"+15550100"}'
    )
    absence = Gap(GapReason.GATEWAY, 1_795_302_680_000, 1_795_302_699_000)
    frames = [
        _protocol.hello(epoch, 43, 1, 20.0, "9f86d081884c7d65"),
        _protocol.message(44, 1_795_302_674_123, envelope),
        _protocol.gap(45, 1_795_302_699_000, absence),
        _protocol.hole(Hole(GapReason.EXPIRED, 12, 30)),
        _protocol.heartbeat(45),
        _protocol.token_expiring(25.0),
        _protocol.goodbye(3.217),
        _protocol.direct(1, 1_795_302_674_123, b'{"anything":true}'),
    ]
    *examples, recovery = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert [example.strip() for example in examples] == [frame.decode() for frame in frames]
    messages = (
        LogEntry(31, 0.0, _protocol.message(31, 1_795_302_674_123, b"{}")),
        LogEntry(32, 0.0, _protocol.gap(32, 1_795_302_699_000, absence)),
    )
    page = Page(messages, epoch, 45, 31, Hole(GapReason.EXPIRED, 12, 30), more=True)
    assert json.loads(recovery) == json.loads(b"".join(_protocol.recovery(page)))


def test_every_close_code_and_every_route_is_in_the_documents() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    codes = [code for name, code in vars(CloseCode).items() if name.isupper()]
    assert len(codes) >= 5
    assert [code for code in codes if f"{code}" not in text.partition("### Close codes")[2]] == []
    assert [path for path in load()["paths"] if f"{path}`" not in text and f"{path}?" not in text] == []


def test_each_operation_is_described_as_it_is() -> None:
    schemas = load()["components"]["schemas"]
    described = {each["$ref"].rpartition("/")[2] for each in schemas["Operation"]["oneOf"]}
    assert described == {kind.__name__ for kind in get_args(AnyOperation)} - NOT_OVER_A_HUB
    assert set(schemas["Operation"]["discriminator"]["mapping"]) == described
    for kind in get_args(AnyOperation):
        if kind.__name__ in described:
            written, fields = schemas[kind.__name__], msgspec.structs.fields(kind)
            assert set(written["properties"]) == {"operation", *(field.name for field in fields)}, kind
            needed = {field.name for field in fields if field.required}
            assert set(written["required"]) == {"operation", *needed}, kind
    for kind in (Group, Contact, GroupPermissions):
        assert set(schemas[kind.__name__]["properties"]) == set(kind.__struct_fields__)


# --- fuzzing ---


@for_each_operation(once_and_for_all)
def test_every_route_does_what_the_description_says(hub: Address, case: Any) -> None:
    response = case.call(base_url=hub.url, headers=dict(hub.headers))
    excluded = excluded_for(case, response)
    if response.status_code == 501:
        assert response.json()["unsupported"]
        excluded.append(api.checks.not_a_server_error)
    elif response.status_code == 504:
        # A group that may be and is not: from the gateway's words nobody knows that nothing was done.
        assert response.json()["error"].startswith("Failed to send to group: Group not found")
        excluded.append(api.checks.not_a_server_error)
    case.validate_response(response, excluded_checks=excluded)


def excluded_for(case: Any, response: Any) -> list[Any]:
    """Return the check of refusals where nothing was sent that would have to be refused."""
    harmless = is_valid_query(response.request.url, case.operation.definition.raw.get("parameters", []))
    return [api.checks.negative_data_rejection] if isinstance(case.body, NotSet) and harmless else []


def is_valid_query(url: str, parameters: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether what was sent is right after all, whatever schemathesis meant by it.

    It may take a parameter away and add an unknown one of the same name, or mean the string "0" by 0.
    Unknown ones are ignored; the header is always right, for the caller gives it.
    """
    sent = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return all(
        is_valid_parameter(sent.get(parameter["name"], []), parameter)
        for parameter in parameters
        if parameter["in"] == "query"
    )


def is_valid_parameter(values: Sequence[str], parameter: Mapping[str, Any]) -> bool:
    """Say whether one parameter is as described."""
    form = parameter["schema"]
    if "$ref" in form:
        form = load()["components"]["schemas"][form["$ref"].rpartition("/")[2]]
    if len(values) != 1:
        return not values and not parameter.get("required", False)
    (value,) = values
    if "anyOf" in form:
        return any(re.search(each["pattern"], value) for each in form["anyOf"])
    if form["type"] == "integer":
        digits = re.fullmatch("[0-9]{1,18}", value)
        return bool(digits) and form["minimum"] <= int(value) <= form["maximum"]
    return bool(form.get("minLength", 0) <= len(value) <= form.get("maxLength", math.inf))


@pytest.mark.parametrize(
    ("query", "valid"),
    [
        ("epoch=0&since=0&=null", True),
        ("since=0&limit=100000", True),
        ("epoch=0", False),
        ("since=-1", False),
        ("since=1.0", False),
        ("since=1&since=1", False),
        ("since=", False),
        ("since=1&epoch=", False),
        ("since=1&limit=100001", False),
    ],
)
def test_a_query_is_judged_by_what_was_sent(query: str, valid: bool) -> None:
    parameters = load()["paths"]["/websocket/messages"]["get"]["parameters"]
    assert is_valid_query(f"http://127.0.0.1/websocket/messages?{query}", parameters) is valid


@given(case=schema["/v2/send"]["POST"].as_strategy())
@once_and_for_all
def test_whatever_may_be_sent_is_sent(hub: Address, case: Any) -> None:
    response = case.call_and_validate(base_url=hub.url, headers=dict(hub.headers))
    assert response.status_code == 201


@for_each_operation(settings(once_and_for_all, max_examples=10))
def test_a_hub_without_its_gateway_does_so_too(troubled: Address, case: Any) -> None:
    response = case.call(base_url=troubled.url, headers=dict(troubled.headers))
    excluded = [api.checks.not_a_server_error, *excluded_for(case, response)]
    case.validate_response(response, excluded_checks=excluded)
    # That the gateway could never do it is known without asking.
    unsupported = response.status_code == 501 and response.json()["unsupported"]
    assert response.status_code < 500 or response.status_code == 503 or unsupported


# --- each refusal ---


@pytest.mark.parametrize(
    ("method", "path", "status", "options"),
    [
        ("GET", "/websocket/messages", 400, {"params": "since=0&epoch=%FF"}),
        ("GET", "/websocket/messages", 401, {"headers": {"Authorization": "Bearer x.y.z"}}),
        ("GET", "/websocket/messages", 403, {"headers": {"Origin": "https://evil.example"}}),
        ("GET", "/websocket/messages", 414, {"params": {"since": 0, "epoch": "x" * 5000}}),
        ("GET", "/websocket/messages", 422, {}),
        ("GET", "/websocket/messages", 422, {"params": {"since": -1}}),
        ("GET", "/websocket/messages", 422, {"params": {"since": "1e3"}}),
        ("GET", "/websocket/messages", 422, {"params": {"since": 0, "limit": 0}}),
        ("GET", "/websocket/messages", 422, {"params": {"since": 0, "limit": 100_001}}),
        ("GET", "/websocket/messages", 422, {"params": "since=1&since=2"}),
        ("GET", "/websocket/messages", 431, {"params": {"since": 0}, "headers": {"X-Large": "x" * 20_000}}),
        ("POST", "/websocket/ticket", 401, {"headers": {"Authorization": ""}}),
        ("POST", "/v2/send", 400, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v2/send", 401, {"json": LETTER, "headers": {"Authorization": "Basic dTpw"}}),
        ("POST", "/v2/send", 413, {"json": {**LETTER, "message": "x" * 70_000}}),
        ("POST", "/v2/send", 415, {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/v2/send", 422, {"json": {**LETTER, "sticker": "a:1"}}),
        ("POST", "/v2/send", 422, {"json": {**LETTER, "number": "+15550199"}}),
        ("POST", "/v2/send", 422, {"json": {**LETTER, "recipients": ["a", "b"]}}),
        ("POST", REACTIONS, 400, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", REACTIONS, 401, {"json": REACTION, "headers": {"Authorization": ""}}),
        ("DELETE", REACTIONS, 415, {"data": b"{}"}),
        ("DELETE", REACTIONS, 422, {"json": {**REACTION, "reaction": ""}}),
        ("DELETE", DELETIONS, 422, {"json": REACTION}),
        ("DELETE", DELETIONS, 413, {"json": {**REACTION, "recipient": "x" * 70_000}}),
        ("POST", "/v1/operations", 400, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v1/operations", 401, {"json": TYPING, "headers": {"Authorization": ""}}),
        ("POST", "/v1/operations", 403, {"json": {"operation": "ListAccounts"}}),
        ("POST", "/v1/operations", 413, {"json": {**TYPING, "recipient": "x" * 70_000}}),
        ("POST", "/v1/operations", 415, {"data": b"{}"}),
        ("POST", "/v1/operations", 422, {"json": {**TYPING, "stopp": True}}),
        ("POST", "/v1/operations", 501, {"json": VIEWED}),
        ("GET", "/v1/attachments/{id}", 401, {"headers": {"Authorization": ""}}),
        ("GET", "/v1/attachments/{id}", 404, {}),
        ("GET", "/v1/attachments/{id}", 422, {"params": {"place": "Ada"}}),
        ("GET", "/readyz", 401, {"headers": {"Authorization": "Bearer x.y.z"}}),
        ("GET", "/status", 401, {"headers": {"Authorization": ""}}),
        ("GET", "/metrics", 401, {"headers": {"Authorization": ""}}),
    ],
)
def test_what_is_refused_is_refused_as_described(
    hub: Address, method: str, path: str, status: int, options: dict[str, Any]
) -> None:
    response = hub.ask(method, path.replace("{number}", ACCOUNT).replace("{id}", "no-such.jpg"), **options)
    assert response.status_code == status
    check(response, method, path)
    assert response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/v1/about", "/openapi.json", "/status", "/metrics"]
)
def test_head_is_get_without_a_body(hub: Address, path: str) -> None:
    get, head = hub.ask("GET", path), hub.ask("HEAD", path)
    assert (head.status_code, head.headers["Content-Type"]) == (200, get.headers["Content-Type"])
    assert head.content == b""


@pytest.mark.parametrize("path", ["/nothing", "/websocket/", "//", "/page/../server.py", "/v2/send/%2e%2e"])
def test_what_is_not_there(hub: Address, path: str) -> None:
    response = hub.ask("GET", path)
    assert (response.status_code, list(response.json())) == (404, ["error"])


@pytest.mark.contract("H12")
def test_too_many_recoveries_are_told_when_to_come_back() -> None:
    with running(HubLimits(recovery_rate=0.001, recovery_burst=1)) as hub:
        first, second = (hub.ask("GET", "/websocket/messages?since=0") for _ in range(2))
        assert first.status_code == 200
        assert second.status_code == 429
        assert int(second.headers["Retry-After"]) > 0
        check(second, "GET", "/websocket/messages")
        # Everything else goes on.
        assert hub.ask("GET", "/status").status_code == 200


# --- each outcome of a send ---


def test_the_answer_to_a_send_is_its_outcome() -> None:
    def prepare(gateway: FakeGateway) -> None:
        gateway.script_send(ok(), refusal(400, "User is not registered"), lost(), rate_limited(("solve-me",)))

    with running(HubLimits(), prepare) as hub:
        answers = [hub.ask("POST", "/v2/send", json=LETTER) for _ in range(4)]
        for answer in answers:
            check(answer, "POST", "/v2/send")
    sent, refused, unknown, limited = answers
    assert sent.status_code == 201
    assert sent.json()[0]["timestamp"].isdecimal()
    assert (refused.status_code, refused.json()["certainty"]) == (400, "not_sent")
    assert (unknown.status_code, unknown.json()["certainty"]) == (504, "unknown")
    assert (limited.status_code, limited.json()["challenge_tokens"]) == (504, ["solve-me"])


def test_a_message_that_finds_no_way_out_in_time_is_dropped(troubled: Address) -> None:
    answer = troubled.ask("POST", "/v2/send", json=LETTER)
    assert (answer.status_code, answer.json()["certainty"]) == (503, "not_sent")
    check(answer, "POST", "/v2/send")


def test_a_hub_without_its_gateway_is_alive_but_not_ready(troubled: Address) -> None:
    assert troubled.ask("GET", "/healthz").status_code == 200
    ready = troubled.ask("GET", "/readyz")
    check(ready, "GET", "/readyz")
    assert ready.status_code == 503
    assert [part for part, well in ready.json()["checks"].items() if well is not True] == ["link", "gateway"]
    # Why is nobody else's business.
    assert troubled.ask("GET", "/readyz", headers={"Authorization": None}).json() == {"status": "unavailable"}
