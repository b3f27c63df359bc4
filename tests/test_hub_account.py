"""What the hub does for the account beside texts: reactions, deletions and operations."""

import json
import tracemalloc
from typing import Any, Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.hub_upstream import ACCOUNT, answer, chunks_of, hang, head_of, lose, open_hub_on_upstream
from tests.hubs import Reply, Scene, Visitor, limits, open_hub, serving
from tests.scene import PEER, connected, open_gateway, settled
from trio_signal import ConfigurationError, LinkLost, open_signal_client
from trio_signal._errors import AnswerError, Certainty, RequestFailed, Unsupported
from trio_signal._operations import AnyOperation
from trio_signal.hub import serve_hub
from trio_signal.hub._http import HttpError
from trio_signal.hub._operations import answer_for_failure, parse_operation
from trio_signal.testing import MemoryListener

UUID: Final = "01234567-89ab-cdef-0123-456789abcdef"
STAMP: Final = 1_700_000_000_000
REACTION: Final = {"recipient": PEER, "reaction": "x", "target_author": UUID, "timestamp": STAMP}
DELETION: Final = {"recipient": PEER, "timestamp": STAMP}
TYPING: Final = {"operation": "SendTyping", "recipient": PEER}
TYPING_PATH: Final = f"/v1/typing-indicator/{ACCOUNT}"
REACTIONS: Final = f"/v1/reactions/{ACCOUNT}"
DELETIONS: Final = f"/v1/remote-delete/{ACCOUNT}"
CAPTCHA: Final = "signalcaptcha://signal-hcaptcha.an.invented.one"


async def post(scene: Scene, body: Any, *, target: str = "/v1/operations", method: str = "POST") -> Reply:
    return await scene.ask(target, method, body=json.dumps(body).encode())


async def begin(visitor: Visitor, body: Any, target: str = "/v1/operations") -> None:
    """Send a request and stay for the answer."""
    data = json.dumps(body).encode()
    head = visitor.head(target, "POST", content_type="application/json", content_length=len(data))
    await visitor.write(head, data)
    await settled()


def typing_to(n: int) -> dict[str, Any]:
    return {"operation": "SendTyping", "recipient": f"+1555020{n:02}"}


# --- reactions and deletions ---


@pytest.mark.parametrize("number", [ACCOUNT, "%2B15550001", "%2b1555000%31"])
async def test_a_reaction_goes_to_the_gateway_and_off_again(number: str, autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        for method in ("POST", "DELETE"):
            reply = await post(scene, REACTION, target=f"/v1/reactions/{number}", method=method)
            assert (reply.status, reply.body) == (204, b"")
        put, taken_off = upstream.asked_at("/v1/reactions")
        assert (put.method, put.path, put.json) == ("POST", REACTIONS, REACTION)
        assert (taken_off.method, taken_off.path, taken_off.json) == ("DELETE", REACTIONS, REACTION)
        assert scene.hub.counters.sends == {204: 2}


async def test_a_deletion_goes_to_the_gateway_and_its_timestamp_comes_back(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(DELETIONS, answer(201, {"timestamp": "99"}))
        reply = await post(scene, DELETION, target=DELETIONS, method="DELETE")
        assert (reply.status, reply.json) == (201, {"timestamp": "99"})
        (asked,) = upstream.asked_at("/v1/remote-delete")
        assert (asked.method, asked.json) == ("DELETE", DELETION)


@pytest.mark.contract("O4", "O7")
async def test_they_wait_their_turn_among_the_texts(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script("/v2/send", answer(201, {"timestamp": "17"}, after=5))
        first, second, third = [await scene.visit() for _ in range(3)]
        await begin(first, {"recipients": [PEER], "message": "hi"}, "/v2/send")
        await begin(second, REACTION, REACTIONS)
        await begin(third, {"recipients": [PEER], "message": "again"}, "/v2/send")
        assert [(await visitor.reply()).status for visitor in (first, second, third)] == [201, 204, 201]
        assert [asked.path for asked in upstream.asked[-3:]] == ["/v2/send", REACTIONS, "/v2/send"]
        assert upstream.most_at_once == 1


@pytest.mark.contract("O6", "O8")
async def test_their_outcomes_are_told_as_those_of_texts(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(REACTIONS, answer(400, {"error": "Specified account does not exist"}), lose)
        refused = await post(scene, REACTION, target=REACTIONS)
        words = {"error": "Specified account does not exist", "certainty": "not_sent"}
        assert (refused.status, refused.json) == (400, words)
        lost = await post(scene, REACTION, target=REACTIONS)
        assert (lost.status, lost.json["certainty"]) == (504, "unknown")
        upstream.refuses = True
        away = await post(scene, DELETION, target=DELETIONS, method="DELETE")
        assert (away.status, away.json["certainty"]) == (503, "not_sent")
        assert away.headers["retry-after"] == "5"


@pytest.mark.contract("O12")
async def test_who_hangs_up_takes_a_reaction_back(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script("/v2/send", answer(201, {"timestamp": "17"}, after=5))
        first, second = await scene.visit(), await scene.visit()
        await begin(first, {"recipients": [PEER], "message": "hi"}, "/v2/send")
        await begin(second, REACTION, REACTIONS)
        second.vanish()
        assert (await first.reply()).status == 201
        await trio.sleep(5)
        assert upstream.asked_at("/v1/reactions") == []


WRONG_PATHS: Final = [
    ("/v1/reactions/+15550009", 422, "number"),
    ("/v1/reactions/15550001", 422, "number"),
    ("/v1/reactions/%2B15550001%00", 422, "number"),
    ("/v1/reactions/%2B15550001%2F", 422, "number"),
    ("/v1/reactions/%2B15550001?number=%2B15550001/..", 204, ""),
    ("/v1/reactions/%", 400, "path"),
    ("/v1/reactions/%zz", 400, "path"),
    ("/v1/reactions/%ff", 400, "path"),
    ("/v1/reactions/%252B15550001", 422, "number"),
    ("/v1/reactions/", 404, "nothing"),
    ("/v1/reactions", 404, "nothing"),
    ("/v1/reactions/*", 422, "number"),
    ("/v1/reactions/+15550001/", 404, "nothing"),
    ("/v1/reactions/x/+15550001", 404, "nothing"),
    ("/v1//reactions/+15550001", 404, "nothing"),
    ("/v1/./reactions/+15550001", 404, "nothing"),
    ("/v1/reactions/../reactions/+15550001", 404, "nothing"),
]


@pytest.mark.parametrize(("target", "status", "words"), WRONG_PATHS)
async def test_a_path_is_read_strictly(
    target: str, status: int, words: str, autojump_clock: MockClock
) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        reply = await post(scene, REACTION, target=target)
        assert reply.status == status
        assert status == 204 or words in reply.error
        assert len(upstream.asked_at("/v1/reactions")) == (status == 204)


async def test_their_bodies_are_small_and_json_by_name(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        large = json.dumps(REACTION | {"reaction": "x" * 65_536}).encode()
        for target, method in ((REACTIONS, "POST"), (REACTIONS, "DELETE"), (DELETIONS, "DELETE")):
            assert (await scene.ask(target, method, body=large)).status == 413
            assert (await scene.ask(target, method, body=b"{}", content_type="text/plain")).status == 415
            assert (await scene.ask(target, method, body=b"{")).status == 400
            assert (await scene.ask(target, method, body=b"{}")).status == 422
            assert (await scene.ask(target, method, content_type="application/json")).status == 400
        assert scene.gateway.received == []
        assert scene.signal.statistics().buffer.outgoing.accepted == 0


# --- on whatever gateway ---


@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_the_same_is_asked_and_told_whatever_the_gateway_is(
    kind: str, autojump_clock: MockClock
) -> None:
    data = bytes(range(256)) * 1000
    async with (
        open_gateway(kind=kind) as gateway,
        connected(gateway, receive_mode="on-connection") as signal,
        serving(gateway, signal) as scene,
    ):
        gateway.attachments["a.jpg"] = data
        mention = {"start": 0, "length": 2, "author": UUID}
        text = {"recipients": [PEER], "message": "hi there", "mentions": [mention], "edit_timestamp": STAMP}
        for target, method, body, status in (
            ("/v2/send", "POST", text, 201),
            (REACTIONS, "POST", REACTION, 204),
            (REACTIONS, "DELETE", REACTION, 204),
            (DELETIONS, "DELETE", DELETION, 201),
            ("/v1/operations", "POST", TYPING, 200),
        ):
            assert (await post(scene, body, target=target, method=method)).status == status
        created = await post(scene, {"operation": "CreateGroup", "name": "a group", "members": [PEER]})
        assert created.json.startswith("group.")
        (group,) = (await post(scene, {"operation": "ListGroups"})).json
        assert (group["id"], group["name"]) == (created.json, "a group")
        assert set(group["members"]) == {ACCOUNT, PEER}
        visitor = await scene.visit()
        await visitor.write(visitor.head("/v1/attachments/a.jpg?place=%2B15550002"))
        _, headers = await head_of(visitor)
        # signal-cli's daemon tells no length.
        assert ("transfer-encoding" in headers) == (kind == "signal-cli")
        if kind == "signal-cli":
            assert await chunks_of(visitor) == (data, True)
        assert (await scene.ask("/v1/attachments/b.jpg")).status == 404


# --- operations: what is taken ---


async def test_an_operation_is_done_and_its_result_comes_back(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(
            f"/v1/contacts/{ACCOUNT}", answer(200, [{"number": PEER, "name": "Ada", "uuid": UUID}])
        )
        done = await post(scene, TYPING)
        assert (done.status, done.json) == (200, None)
        listed = await post(scene, {"operation": "ListContacts"})
        assert listed.status == 200
        (contact,) = listed.json
        assert (contact["number"], contact["uuid"], contact["name"]) == (PEER, UUID, "Ada")
        typing, _ = upstream.asked[-2:]
        assert (typing.method, typing.path, typing.json) == ("PUT", TYPING_PATH, {"recipient": PEER})
        assert scene.hub.counters.operations == {200: 2}


OPERATIONS: Final[dict[str, tuple[Any, str]]] = {
    "nothing": ({}, "operation"),
    "an array": ([], "object"),
    "a text": ("SendTyping", "object"),
    "null": (None, "object"),
    "no operation there is": ({"operation": "DeleteAccount"}, "operation"),
    "an operation that is a number": ({"operation": 5}, "operation"),
    "an unknown field": (TYPING | {"stopp": True}, "stopp"),
    "a field too few": ({"operation": "SendTyping"}, "recipient"),
    "a recipient that is none": (TYPING | {"recipient": "Ada"}, "recipient"),
    "a recipient that is a list": (TYPING | {"recipient": [PEER]}, "recipient"),
    "a bool that is none": (TYPING | {"stop": 1}, "stop"),
    "a time in letters": (
        {"operation": "SendReceipt", "recipient": PEER, "timestamp": "5"},
        "timestamp",
    ),
    "a time before 1970": ({"operation": "SendReceipt", "recipient": PEER, "timestamp": -1}, "timestamp: "),
    "a time beyond all": ({"operation": "SendReceipt", "recipient": PEER, "timestamp": 10**400}, "timestamp"),
    "no group": ({"operation": "QuitGroup", "group": PEER}, "group"),
    "no file": ({"operation": "DeleteAttachment", "id": "../x"}, "id: "),
    "a file of a long name": ({"operation": "DeleteAttachment", "id": "x" * 100_000}, "id: "),
    "a solution that is none": (
        {"operation": "SubmitRateLimitChallenge", "challenge_token": "x", "captcha": "http://x"},
        "captcha: ",
    ),
    "an empty name": ({"operation": "UpdateProfile", "name": " "}, "name: "),
    "a long text": ({"operation": "UpdateProfile", "name": "x", "about": "x" * 5000}, "about: "),
    "a picture that is no base64": ({"operation": "UpdateProfile", "avatar": "?"}, "avatar"),
    "an unknown permission": (
        {"operation": "CreateGroup", "name": "x", "members": [PEER], "permissions": {"ban": "only-admins"}},
        "ban",
    ),
    "too many members": (
        {"operation": "CreateGroup", "name": "x", "members": [PEER] * 1001},
        "members: ",
    ),
}


@pytest.mark.parametrize("fault", OPERATIONS)
async def test_an_operation_that_is_wrong_is_refused_and_the_field_named(
    fault: str, autojump_clock: MockClock
) -> None:
    body, field = OPERATIONS[fault]
    async with open_hub_on_upstream() as (scene, upstream):
        before = len(upstream.asked)
        reply = await post(scene, body)
        assert reply.status == 422
        assert field in reply.error
        assert len(reply.error) <= 500
        assert len(upstream.asked) == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"operation":"SendTyping","recipient":"\\ud800"}'])
async def test_an_operation_that_is_no_json_is_a_bad_request(body: bytes, autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        reply = await scene.ask("/v1/operations", "POST", body=body)
        assert (reply.status, reply.error) == (400, "the body is not JSON")


@pytest.mark.contract("H7")
@pytest.mark.parametrize(
    "body",
    [
        b'{"operation":"CreateGroup","name":"x","members":[%b"ab"]}' % (b'"ab",' * 1_000_000),
        b'{"operation":"SendTyping",%b"recipient":"+15550002"}' % (b'"stop":true,' * 500_000),
        b'{"operation":"ListGroups","x":%b' % (b"[" * 1_000_000),
    ],
    ids=["members", "fields", "lists"],
)
def test_an_operation_of_a_million_things_is_refused_without_making_them(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(HttpError) as refused:
            parse_operation(body)
        assert refused.value.answer.status in (400, 422)
        assert tracemalloc.get_traced_memory()[1] < len(body) // 4
    finally:
        tracemalloc.stop()


VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([PEER, "read", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
KINDS: Final = st.sampled_from([kind.__name__ for kind in AnyOperation.__args__])
NAMES: Final = st.sampled_from(
    ["recipient", "group", "name", "members", "timestamp", "id", "kind", "captcha"]
)


def write(kind: str, more: dict[str, Any]) -> bytes:
    return json.dumps({"operation": kind} | more).encode()


@given(st.binary(max_size=20) | st.builds(write, KINDS, st.dictionaries(NAMES, VALUES, max_size=4)))
def test_whatever_comes_is_an_operation_or_refused(body: bytes) -> None:
    came: object
    try:
        came = parse_operation(body)
    except HttpError as refused:
        came = refused.answer.status
    assert came in (400, 422) or isinstance(came, AnyOperation)


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "ListAccounts"},
        {"operation": "StartLink", "device_name": "x"},
        {"operation": "FinishLink", "uri": "x", "device_name": "x"},
    ],
)
async def test_a_client_of_the_hub_has_this_one_account(
    body: dict[str, str], autojump_clock: MockClock
) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        before = len(upstream.asked)
        reply = await post(scene, body)
        assert (reply.status, reply.json["certainty"]) == (403, "not_sent")
        assert "one account" in reply.error
        assert len(upstream.asked) == before


async def test_a_hub_serves_one_account(autojump_clock: MockClock) -> None:
    async def refuse(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError

    with pytest.raises(ConfigurationError, match="one account"):
        async with open_signal_client(
            "http://127.0.0.1:1", None, gateway="signal-cli", connect=refuse
        ) as signal:
            await serve_hub(signal, listeners=[MemoryListener()])


async def test_a_challenge_that_was_solved_ends_the_pause(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script("/v2/send", answer(429, {"error": "slow down", "challenge_tokens": ["a-token"]}))
        text = {"recipients": [PEER], "message": "hi"}
        assert (await post(scene, text, target="/v2/send")).status == 504
        assert scene.signal.statistics().paused_until is not None
        upstream.script(
            f"/v1/accounts/{ACCOUNT}/rate-limit-challenge", answer(400, {"error": "no"}), answer(204)
        )
        solved = {"operation": "SubmitRateLimitChallenge", "challenge_token": "a-token", "captcha": CAPTCHA}
        assert (await post(scene, solved)).status in (400, 504)
        assert scene.signal.statistics().paused_until is not None
        assert (await post(scene, solved)).status == 200
        assert scene.signal.statistics().paused_until is None
        assert (await post(scene, text, target="/v2/send")).status == 201


# --- operations: what they come to ---


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            RequestFailed(AnswerError("HTTP 400: no", status=400, text="no"), Certainty.NOT_SENT),
            400,
            {"error": "no", "certainty": "not_sent"},
        ),
        (
            RequestFailed(AnswerError("code -1: no", code=-1, text="no"), Certainty.NOT_SENT),
            400,
            {"error": "no", "certainty": "not_sent"},
        ),
        (
            RequestFailed(AnswerError("HTTP 503", status=503), Certainty.NOT_SENT),
            503,
            {"error": "HTTP 503", "certainty": "not_sent"},
        ),
        (
            RequestFailed(LinkLost("nobody there"), Certainty.NOT_SENT),
            503,
            {"error": "nobody there", "certainty": "not_sent"},
        ),
        (
            RequestFailed(LinkLost("x" * 9000), Certainty.UNKNOWN),
            504,
            {"error": "x" * 500, "certainty": "unknown"},
        ),
        (
            RequestFailed(AnswerError("429", status=429, challenge_tokens=("a",)), Certainty.UNKNOWN),
            504,
            {"error": "429", "certainty": "unknown", "challenge_tokens": ["a"]},
        ),
        (
            Unsupported("only signal-cli can"),
            501,
            {"error": "only signal-cli can", "certainty": "not_sent", "unsupported": True},
        ),
    ],
)
def test_each_failure_has_its_answer(
    error: RequestFailed | Unsupported, status: int, body: dict[str, Any]
) -> None:
    told = answer_for_failure(error)
    assert isinstance(told.body, bytes)
    assert (told.status, json.loads(told.body)) == (status, body)
    assert dict(told.headers).get("Retry-After") == ("5" if status == 503 else None)


async def test_failures_come_from_the_gateway_to_the_peer(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream(client={"send_timeout": 10}) as (scene, upstream):
        upstream.script(TYPING_PATH, lose, hang)
        assert (await post(scene, TYPING)).json["certainty"] == "unknown"
        began = trio.current_time()
        assert (await post(scene, TYPING)).status == 504
        assert trio.current_time() - began == 10
        receipt = {"operation": "SendReceipt", "recipient": PEER, "timestamp": 5, "kind": "viewed"}
        unsupported = await post(scene, receipt)
        assert (unsupported.status, unsupported.json["unsupported"]) == (501, True)
        upstream.refuses = True
        away = await post(scene, TYPING)
        assert (away.status, away.json["certainty"]) == (503, "not_sent")
        assert away.headers["retry-after"] == "5"
        assert scene.hub.counters.operations == {504: 2, 501: 1, 503: 1}


# --- operations: one client leaves room for the others ---


@pytest.mark.contract("H7", "H12")
async def test_one_subject_asks_for_one_thing_at_a_time_and_in_order(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(TYPING_PATH, *[answer(204, after=2)] * 20)
        greedy = [await scene.visit(token=scene.token("greedy")) for _ in range(10)]
        for n, visitor in enumerate(greedy):
            await begin(visitor, typing_to(n))
        modest = await scene.visit(token=scene.token("modest"))
        await begin(modest, typing_to(99))
        text = await scene.visit(token=scene.token("modest"))
        await begin(text, {"recipients": [PEER], "message": "hi"}, "/v2/send")
        assert (await modest.reply()).status == 200
        assert trio.current_time() == 4, "behind the one under way, and no other"
        assert (await text.reply()).status == 201
        assert trio.current_time() <= 6
        assert [(await visitor.reply()).status for visitor in greedy] == [200] * 10
        recipients = [asked.json["recipient"] for asked in upstream.asked_at("/v1/typing")]
        assert [r for r in recipients if r != "+155502099"] == [f"+1555020{n:02}" for n in range(10)]
        assert upstream.most_at_once == 1


async def test_what_does_not_get_its_turn_in_time_is_not_done(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream(limits=limits(send_wait=3)) as (scene, upstream):
        upstream.script(TYPING_PATH, answer(204, after=10))
        first = await scene.visit()
        await begin(first, typing_to(1))
        late = await post(scene, typing_to(2))
        assert (late.status, late.json["certainty"], late.headers["retry-after"]) == (503, "not_sent", "5")
        assert trio.current_time() == 3
        assert (await first.reply()).status == 200
        await trio.sleep(10)
        assert len(upstream.asked_at("/v1/typing")) == 1
        assert (await post(scene, typing_to(3))).status == 200


@pytest.mark.parametrize("reset", [False, True])
async def test_who_hangs_up_before_its_turn_has_nothing_done(reset: bool, autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(TYPING_PATH, answer(204, after=10))
        first, second = await scene.visit(), await scene.visit()
        await begin(first, typing_to(1))
        await begin(second, typing_to(2))
        second.vanish(reset=reset)
        assert (await first.reply()).status == 200
        await trio.sleep(10)
        assert [asked.json["recipient"] for asked in upstream.asked_at("/v1/typing")] == ["+155502001"]
        assert (await post(scene, typing_to(3))).status == 200


@pytest.mark.contract("O7")
async def test_who_hangs_up_meanwhile_cannot_have_two_things_done_at_once(autojump_clock: MockClock) -> None:
    """The gateway goes on with the first one whoever is still there, and parallel requests crash it."""
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(TYPING_PATH, *[answer(204, after=5)] * 3)
        first, second, third = [await scene.visit() for _ in range(3)]
        await begin(first, typing_to(1))
        first.vanish(reset=True)
        await begin(second, typing_to(2))
        await begin(third, typing_to(3))
        assert (await third.reply()).status == 200
        assert trio.current_time() == 15
        assert upstream.most_at_once == 1


async def test_without_a_key_nobody_waits_for_another(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream(secured=False) as (scene, upstream):
        upstream.script(TYPING_PATH, hang)
        first = await scene.visit()
        await begin(first, TYPING)
        receipt = {"operation": "SendReceipt", "recipient": PEER, "timestamp": 5, "kind": "viewed"}
        assert (await post(scene, receipt)).status == 501
        assert trio.current_time() == 0


@pytest.mark.contract("H7")
async def test_the_bodies_of_one_subject_leave_memory_for_others(autojump_clock: MockClock) -> None:
    """Only the first one is read before it has its turn."""
    profile = {"operation": "UpdateProfile", "name": "x", "avatar": "A" * 300_000}
    async with open_hub_on_upstream(limits=limits(max_send_bytes=400_000, max_send_total=600_000)) as (
        scene,
        upstream,
    ):
        upstream.script(f"/v1/profiles/{ACCOUNT}", *[answer(204, after=3)] * 4)
        greedy = [await scene.visit(token=scene.token("greedy"), window=1 << 20) for _ in range(4)]
        for visitor in greedy:
            await begin(visitor, profile)
        text = {"recipients": [PEER], "message": "x" * 300_000}
        assert (await post(scene, text, target="/v2/send")).status == 201
        assert [(await visitor.reply()).status for visitor in greedy] == [200] * 4
        assert (await post(scene, profile | {"avatar": "A" * 400_000})).status == 413


@pytest.mark.contract("H10")
async def test_a_hub_that_goes_down_tells_who_asked_the_truth(autojump_clock: MockClock) -> None:
    async with open_hub_on_upstream() as (scene, upstream):
        upstream.script(TYPING_PATH, answer(204, after=100))
        first, second = await scene.visit(), await scene.visit()
        await begin(first, typing_to(1))
        await begin(second, typing_to(2))
        scene.hub.shutdown()
        under_way, waiting = await first.reply(), await second.reply()
        assert (under_way.status, under_way.json["certainty"]) == (504, "unknown")
        assert (waiting.status, waiting.json["certainty"]) == (503, "not_sent")
        assert trio.current_time() == 4
        assert len(upstream.asked_at("/v1/typing")) == 1
