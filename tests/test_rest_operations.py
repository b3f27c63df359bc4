"""Operations and calls on signal-cli-rest-api, on the wire."""

import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from tests.scene import CONNECTED, connected, open_client, open_gateway, settled
from trio_signal import (
    AnswerError,
    Certainty,
    ConfigurationError,
    LinkLost,
    OutgoingMessage,
    RequestFailed,
    Sent,
    Unsupported,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal._operations import (
    AnyOperation,
    ChangeMembers,
    Contact,
    CreateGroup,
    DeleteAttachment,
    FinishLink,
    Group,
    GroupPermissions,
    JoinGroup,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    QuitGroup,
    SendReceipt,
    SendTyping,
    StartLink,
    SubmitRateLimitChallenge,
    UpdateContact,
    UpdateGroup,
    UpdateProfile,
)
from trio_signal.gateways import AttachmentRef, SendResult
from trio_signal.gateways._operation_answers import is_success
from trio_signal.gateways._requests import Requests
from trio_signal.gateways._rest_operations import needs_account
from trio_signal.gateways._rest_results import read_operation
from trio_signal.gateways.rest import RestGateway
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    daemon_down,
    endless,
    error,
    garbage,
    hang,
    lost,
    open_fake_gateway,
    reply,
    slow,
)

ACCOUNT: Final = "+15550001"
PEER: Final = "+15550002"
UUID: Final = "2c9e0000-0000-4000-8000-000000000002"
USERNAME: Final = "ada.01"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
IN_PATH: Final = GROUP.replace("=", "%3D")
LINK: Final = "https://signal.group/#CjQKIAbc"
URL: Final = "http://gateway.example:8080"
PICTURE: Final = b"\x89PNG\r\n\x1a\n"
AS_BASE64: Final = base64.b64encode(PICTURE).decode()


def route_to(gateway: FakeGateway, url: str = URL, account: str | None = ACCOUNT) -> RestGateway:
    """Make the client's half of the gateway alone."""
    address = parse_url(url)
    requests = Requests(
        address,
        Credentials((), None, address.authorization),
        connect=gateway.connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60.0,
    )
    return RestGateway(requests, account, ping_interval=10.0, pong_timeout=5.0, max_message_size=1 << 20)


@asynccontextmanager
async def opened(**options: Any) -> AsyncGenerator[tuple[FakeGateway, RestGateway]]:
    """Open a fake gateway and a way to it."""
    async with open_gateway(**options) as gateway:
        route = route_to(gateway)
        yield gateway, route
        await route.aclose()


async def failure(asked: Awaitable[object]) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await asked
    return caught.value


# --- Each operation: what is asked, what the answer means. ---

CASES: Final[list[tuple[AnyOperation, str, str, Any, SendAnswer, Any]]] = [
    (
        SendReceipt(PEER, 17),
        "POST",
        f"/v1/receipts/{ACCOUNT}",
        {"recipient": PEER, "receipt_type": "read", "timestamp": 17},
        reply(204, ""),
        None,
    ),
    (
        SendReceipt(USERNAME, 17),
        "POST",
        f"/v1/receipts/{ACCOUNT}",
        {"recipient": "u:ada.01", "receipt_type": "read", "timestamp": 17},
        reply(204, ""),
        None,
    ),
    (SendTyping(PEER), "PUT", f"/v1/typing-indicator/{ACCOUNT}", {"recipient": PEER}, reply(204, ""), None),
    (
        SendTyping(GROUP, stop=True),
        "DELETE",
        f"/v1/typing-indicator/{ACCOUNT}",
        {"recipient": GROUP},
        reply(204, ""),
        None,
    ),
    (
        SendTyping(USERNAME),
        "PUT",
        f"/v1/typing-indicator/{ACCOUNT}",
        {"recipient": "u:ada.01"},
        reply(204, ""),
        None,
    ),
    (
        CreateGroup("Team", (PEER, USERNAME)),
        "POST",
        f"/v1/groups/{ACCOUNT}",
        {"name": "Team", "members": [PEER, USERNAME]},
        reply(201, json.dumps({"id": GROUP})),
        GROUP,
    ),
    (
        CreateGroup(
            "Team",
            (),
            description="us",
            expiration=0,
            link="enabled-with-approval",
            permissions=GroupPermissions(add_members="only-admins"),
        ),
        "POST",
        f"/v1/groups/{ACCOUNT}",
        {
            "name": "Team",
            "members": [],
            "description": "us",
            "expiration_time": 0,
            "group_link": "enabled-with-approval",
            "permissions": {"add_members": "only-admins"},
        },
        reply(201, json.dumps({"id": GROUP})),
        GROUP,
    ),
    (
        UpdateGroup(
            GROUP,
            name="New",
            description="",
            avatar=PICTURE,
            expiration=60,
            link="disabled",
            permissions=GroupPermissions(edit_details="every-member", send_messages="only-admins"),
        ),
        "PUT",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}",
        {
            "name": "New",
            "description": "",
            "base64_avatar": AS_BASE64,
            "expiration_time": 60,
            "group_link": "disabled",
            "permissions": {"edit_group": "every-member", "send_messages": "only-admins"},
        },
        reply(204, ""),
        None,
    ),
    (
        UpdateGroup(GROUP, name="New"),
        "PUT",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}",
        {"name": "New"},
        reply(204, ""),
        None,
    ),
    (
        ChangeMembers(GROUP, "add", (PEER, USERNAME)),
        "POST",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}/members",
        {"members": [PEER, USERNAME]},
        reply(204, ""),
        None,
    ),
    (
        ChangeMembers(GROUP, "remove", (UUID,)),
        "DELETE",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}/members",
        {"members": [UUID]},
        reply(204, ""),
        None,
    ),
    (
        ChangeMembers(GROUP, "add_admins", (PEER, USERNAME)),
        "POST",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}/admins",
        {"admins": [PEER, "u:ada.01"]},
        reply(204, ""),
        None,
    ),
    (
        ChangeMembers(GROUP, "remove_admins", (PEER,)),
        "DELETE",
        f"/v1/groups/{ACCOUNT}/{IN_PATH}/admins",
        {"admins": [PEER]},
        reply(204, ""),
        None,
    ),
    (JoinGroup(GROUP), "POST", f"/v1/groups/{ACCOUNT}/{IN_PATH}/join", None, reply(204, ""), GROUP),
    (QuitGroup(GROUP), "POST", f"/v1/groups/{ACCOUNT}/{IN_PATH}/quit", None, reply(204, ""), None),
    (ListContacts(), "GET", f"/v1/contacts/{ACCOUNT}", None, reply(200, "[]"), ()),
    (
        ListContacts(all_recipients=True),
        "GET",
        f"/v1/contacts/{ACCOUNT}?all_recipients=true",
        None,
        reply(200, "null"),
        (),
    ),
    (
        UpdateContact(PEER, name="Ada", expiration=3600),
        "PUT",
        f"/v1/contacts/{ACCOUNT}",
        {"recipient": PEER, "name": "Ada", "expiration_in_seconds": 3600},
        reply(204, ""),
        None,
    ),
    (
        UpdateProfile(name="Bot", about="", avatar=PICTURE),
        "PUT",
        f"/v1/profiles/{ACCOUNT}",
        {"name": "Bot", "about": "", "base64_avatar": AS_BASE64},
        reply(204, ""),
        None,
    ),
    (UpdateProfile(name="Bot"), "PUT", f"/v1/profiles/{ACCOUNT}", {"name": "Bot"}, reply(204, ""), None),
    (ListAccounts(), "GET", "/v1/accounts", None, reply(200, json.dumps([ACCOUNT, PEER])), (ACCOUNT, PEER)),
    (
        SubmitRateLimitChallenge("token-1", "signalcaptcha://solved"),
        "POST",
        f"/v1/accounts/{ACCOUNT}/rate-limit-challenge",
        {"challenge_token": "token-1", "captcha": "signalcaptcha://solved"},
        reply(204, ""),
        None,
    ),
    (
        StartLink("a bot & co"),
        "GET",
        "/v1/qrcodelink/raw?device_name=a%20bot%20%26%20co",
        None,
        reply(200, json.dumps({"device_link_uri": "sgnl://linkdevice?uuid=x"})),
        "sgnl://linkdevice?uuid=x",
    ),
    (ListAttachments(), "GET", "/v1/attachments", None, reply(200, '["a.jpg"]'), ("a.jpg",)),
    (DeleteAttachment("a+b=.jpg"), "DELETE", "/v1/attachments/a+b%3D.jpg", None, reply(204, ""), None),
]


@pytest.mark.contract("A1")
@pytest.mark.parametrize(("operation", "method", "target", "body", "answer", "result"), CASES)
async def test_an_operation_is_the_gateways_own_request(
    autojump_clock: MockClock,
    operation: AnyOperation,
    method: str,
    target: str,
    body: Any,
    answer: SendAnswer,
    result: Any,
) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"{method} {target.partition('?')[0]}", answer)
        assert await route.operate(operation, account=None, limit=10) == result
        (request,) = gateway.requests
        assert (request.method, request.target) == (method, target)
        if body is None:
            assert request.body == b""
            assert "content-type" not in request.headers
        else:
            assert json.loads(request.body) == body
            assert request.headers["content-type"] == "application/json"


async def test_a_base_path_stands_before_an_operations_own(autojump_clock: MockClock) -> None:
    async with open_gateway(base_path="/signal") as gateway:
        route = route_to(gateway, f"{URL}/signal")
        gateway.script("GET /signal/v1/attachments", reply(200, "[]"))
        assert await route.operate(ListAttachments(), account=None, limit=10) == ()


async def test_the_account_of_an_operation_may_be_another(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"GET /v1/groups/{PEER}", reply(200, "[]"))
        assert await route.operate(ListGroups(), account=PEER, limit=10) == ()


async def test_finishing_a_link_asks_nothing(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):
        assert await route.operate(FinishLink("sgnl://linkdevice?x", "bot"), account=None, limit=10) is None
        assert not gateway.requests


# --- What comes back. ---


@pytest.mark.contract("A3")
@pytest.mark.parametrize("expanded", [False, True])
async def test_a_group_is_read_whichever_way_its_people_are_written(
    autojump_clock: MockClock, expanded: bool
) -> None:
    def person(number: str, uuid: str) -> Any:
        return {"number": number, "uuid": uuid} if expanded else number or uuid

    full = {
        "name": "Team",
        "description": "us",
        "id": GROUP,
        "internal_id": "ignored",
        "members": [person(ACCOUNT, "u-1"), person("", UUID), person("", "")],
        "blocked": True,
        "member": False,
        "pending_invites": [person(PEER, "")],
        "pending_requests": [person("", "u-4")],
        "invite_link": LINK,
        "admins": [person(ACCOUNT, "u-1")],
        "permissions": {"add_members": "only-admins"},
    }
    async with opened() as (gateway, route):
        gateway.script(f"GET /v1/groups/{ACCOUNT}", reply(200, json.dumps([full])))
        (group,) = await route.operate(ListGroups(), account=None, limit=10)
    assert group == Group(
        id=GROUP,
        name="Team",
        description="us",
        members=(ACCOUNT, UUID),
        admins=(ACCOUNT,),
        pending_members=(PEER,),
        requesting_members=("u-4",),
        invite_link=LINK,
        is_blocked=True,
        is_member=False,
        expiration=None,
    )


@pytest.mark.contract("A3")
async def test_an_old_gateways_group_lacks_what_it_does_not_tell(autojump_clock: MockClock) -> None:
    old: dict[str, object] = {
        "name": "",
        "id": GROUP,
        "members": None,
        "blocked": False,
        "invite_link": "",
        "pending_invites": [],
    }
    async with opened() as (gateway, route):
        gateway.script(f"GET /v1/groups/{ACCOUNT}", reply(200, json.dumps([old])))
        (group,) = await route.operate(ListGroups(), account=None, limit=10)
    assert group == Group(id=GROUP, name="", is_blocked=False)


@pytest.mark.parametrize(
    ("expiration", "seconds"), [("", None), ("3600", 3600), ("soon", None), (60, 60), (None, None)]
)
async def test_a_contact_is_read(autojump_clock: MockClock, expiration: object, seconds: int | None) -> None:
    full = {
        "number": PEER,
        "uuid": UUID,
        "username": USERNAME,
        "name": "Ada",
        "profile_name": "A. L.",
        "given_name": "A.",
        "profile": {"about": "busy", "has_avatar": True},
        "nickname": {"name": "Addie"},
        "note": "friend",
        "color": "blue",
        "blocked": True,
        "message_expiration": expiration,
    }
    unknown = {
        "number": "",
        "uuid": UUID,
        "username": "",
        "name": "",
        "profile": {"about": ""},
        "blocked": False,
    }
    async with opened() as (gateway, route):
        gateway.script(f"GET /v1/contacts/{ACCOUNT}", reply(200, json.dumps([full, unknown, {}])))
        ada, stranger, nobody = await route.operate(ListContacts(), account=None, limit=10)
    assert ada == Contact(
        number=PEER,
        uuid=UUID,
        username=USERNAME,
        name="Ada",
        profile_name="A. L.",
        about="busy",
        note="friend",
        is_blocked=True,
        expiration=seconds,
    )
    assert stranger == Contact(uuid=UUID, is_blocked=False)
    assert nobody == Contact()


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("operation", "request_line", "answer"),
    [
        (CreateGroup("Team", ()), f"POST /v1/groups/{ACCOUNT}", reply(201, '{"id":"group."}')),
        (CreateGroup("Team", ()), f"POST /v1/groups/{ACCOUNT}", reply(201, "{}")),
        (CreateGroup("Team", ()), f"POST /v1/groups/{ACCOUNT}", reply(201, "")),
        (StartLink("bot"), "GET /v1/qrcodelink/raw", reply(200, '"uri"', content_type="text/html")),
    ],
)
async def test_what_was_done_with_an_unreadable_result_is_not_certain(
    autojump_clock: MockClock, operation: AnyOperation, request_line: str, answer: SendAnswer
) -> None:
    async with opened() as (gateway, route):
        gateway.script(request_line, answer)
        failed = await failure(route.operate(operation, account=None, limit=10))
    assert failed.certainty is Certainty.UNKNOWN
    assert isinstance(failed.error, LinkLost)
    assert "its answer cannot be read" in str(failed)


@pytest.mark.parametrize(
    "text", ["", "[{}]", '[{"id":5}]', "{}", "<h1>hello</h1>", "[" * 2000, r'[{"id":"\ud83d"}]']
)
async def test_a_list_that_cannot_be_read_is_a_certain_failure(autojump_clock: MockClock, text: str) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"GET /v1/groups/{ACCOUNT}", reply(200, text))
        failed = await failure(route.operate(ListGroups(), account=None, limit=10))
    assert failed.certainty is Certainty.NOT_SENT
    assert "nothing was done" in str(failed)


# --- What this gateway cannot do. ---


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (SendReceipt(PEER, 17, "viewed"), "receipt for 'viewed'"),
        (JoinGroup(LINK), "join a group by its link"),
        (UpdateGroup(GROUP, expiration=0), "switch disappearing messages off"),
        (UpdateContact(PEER, expiration=0), "switch disappearing messages off"),
        (UpdateContact(PEER, name=""), "take a contact's name away"),
        (UpdateProfile(about="busy"), "without setting the name"),
    ],
)
async def test_what_would_not_happen_is_refused_and_names_who_can(
    autojump_clock: MockClock, operation: AnyOperation, words: str
) -> None:
    async with opened() as (gateway, route):
        with pytest.raises(Unsupported, match=words) as caught:
            await route.operate(operation, account=None, limit=10)
        assert 'gateway="signal-cli"' in str(caught.value)
        assert not gateway.requests


async def test_without_an_account_only_what_is_nobodys_can_be_asked(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        route = route_to(gateway, account=None)
        with pytest.raises(Unsupported, match="one account at a time.*give a number"):
            await route.operate(ListGroups(), account=None, limit=10)
        result = await route.send(OutgoingMessage(PEER, "hello"))
        assert isinstance(result, SendResult)
        assert "give a number" in str(result.outcome)
        with pytest.raises(Unsupported, match="give a number"):
            async with route.open_link(None):
                pytest.fail("there is no such link")
        assert not gateway.requests
        gateway.script("GET /v1/accounts", reply(200, "[]"))
        assert await route.operate(ListAccounts(), account=None, limit=10) == ()


async def test_signal_clis_own_daemon_is_no_rest_gateway(autojump_clock: MockClock) -> None:
    page = reply(404, "<h1>404 Not Found</h1>No context found for request", content_type="text/html")
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", page)
        with pytest.raises(WrongGatewayMode, match=r'signal-cli\'s own daemon; use gateway="signal-cli"'):
            async with open_signal_client(
                gateway.url, gateway.account, gateway="rest", connect=gateway.connect
            ):
                await trio.sleep_forever()


# --- Failures. ---

NOT_SENT: Final = Certainty.NOT_SENT
UNKNOWN: Final = Certainty.UNKNOWN

FAILURES: Final[list[tuple[SendAnswer, Certainty, str]]] = [
    (error(400, "Specified account does not exist"), NOT_SENT, "Specified account does not exist"),
    (error(400, "Couldn't process request - invalid request"), NOT_SENT, "invalid request"),
    (error(400, "Invalid group id"), NOT_SENT, "Invalid group id"),
    (error(400, "Failed to send typing message"), UNKNOWN, "Failed to send typing message"),
    (error(401, "no"), NOT_SENT, "HTTP 401"),
    (error(403, "no"), NOT_SENT, "HTTP 403"),
    (error(404, "No group with that group id found"), NOT_SENT, "No group with that group id found"),
    (reply(405, ""), NOT_SENT, "HTTP 405"),
    (reply(413, "<html>"), NOT_SENT, "HTTP 413"),
    (reply(415, ""), NOT_SENT, "HTTP 415"),
    (reply(301, ""), NOT_SENT, "HTTP 301"),
    (reply(408, ""), UNKNOWN, "HTTP 408"),
    (reply(429, ""), UNKNOWN, "HTTP 429"),
    (daemon_down(), NOT_SENT, "lost its connection to signal-cli"),
    (error(500, "panic"), UNKNOWN, "panic"),
    (reply(502, ""), UNKNOWN, "HTTP 502"),
    (reply(503, ""), NOT_SENT, "HTTP 503"),
    (reply(504, ""), UNKNOWN, "HTTP 504"),
]


@pytest.mark.contract("A1")
@pytest.mark.parametrize(("answer", "certainty", "words"), FAILURES)
async def test_a_failure_says_whether_it_may_have_been_done(
    autojump_clock: MockClock, answer: SendAnswer, certainty: Certainty, words: str
) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", answer)
        failed = await failure(route.operate(SendTyping(PEER), account=None, limit=10))
        assert failed.certainty is certainty
        assert isinstance(failed.error, AnswerError)
        assert words in str(failed)
        assert len(gateway.requests) == 1, "it was tried again"


@pytest.mark.contract("A1")
@pytest.mark.parametrize("operation", [ListGroups(), ListContacts(), ListAccounts(), ListAttachments()])
@pytest.mark.parametrize("answer", [error(400, "Broken pipe"), error(500, "x"), hang(), lost(), garbage()])
async def test_what_only_reads_has_done_nothing_however_it_ends(
    autojump_clock: MockClock, operation: AnyOperation, answer: SendAnswer
) -> None:
    paths: dict[type[AnyOperation], str] = {
        ListGroups: f"/v1/groups/{ACCOUNT}",
        ListContacts: f"/v1/contacts/{ACCOUNT}",
        ListAccounts: "/v1/accounts",
        ListAttachments: "/v1/attachments",
    }
    async with opened() as (gateway, route):
        gateway.script(f"GET {paths[type(operation)]}", answer)
        failed = await failure(route.operate(operation, account=None, limit=10))
    assert failed.certainty is NOT_SENT


@pytest.mark.contract("A1")
@pytest.mark.parametrize("answer", [hang(), slow(11.0, reply(204, "")), endless()])
async def test_an_operation_ends_in_time(autojump_clock: MockClock, answer: SendAnswer) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", answer)
        start = trio.current_time()
        failed = await failure(route.operate(SendTyping(PEER), account=None, limit=10))
        assert trio.current_time() - start == pytest.approx(10)
        assert failed.certainty is UNKNOWN


async def test_a_gateway_that_is_not_there_has_done_nothing(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):
        gateway.stop()
        failed = await failure(route.operate(SendTyping(PEER), account=None, limit=10))
        assert failed.certainty is NOT_SENT


# --- Turns: requests at the same time crash the gateway. ---


async def in_background(nursery: trio.Nursery, ask: Callable[[], Awaitable[object]]) -> trio.Event:
    """Ask, and tell when it was answered; first everything happens that needs no time."""
    done = trio.Event()

    async def run() -> None:
        await ask()
        done.set()

    nursery.start_soon(run)
    await settled()
    return done


@pytest.mark.contract("O7")
async def test_operations_and_sends_take_turns(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        route = signal._route
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", slow(5.0, reply(204, "")))
        gateway.script(f"GET /v1/groups/{ACCOUNT}", reply(200, "[]"))
        before = len(gateway.requests)
        await in_background(nursery, lambda: route.operate(SendTyping(PEER), account=ACCOUNT, limit=10))
        message = await signal.send_message(PEER, "hello")
        await settled()
        listed = await in_background(nursery, lambda: route.operate(ListGroups(), account=ACCOUNT, limit=10))
        assert len(gateway.requests) == before + 1
        assert message.outcome is None
        await message.wait()
        await listed.wait()
        assert trio.current_time() == pytest.approx(gateway.requests[before].time + 5)
        assert [request.method for request in gateway.requests[before:]] == ["PUT", "POST", "GET"]


@pytest.mark.contract("O7", "A1")
async def test_an_operation_waits_for_its_turn_no_longer_than_its_limit(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", slow(20.0, reply(204, "")))
        first = await in_background(nursery, lambda: route.operate(SendTyping(PEER), account=None, limit=60))
        start = trio.current_time()
        failed = await failure(route.call("POST /v1/any", {}, account=None, limit=7))
        assert trio.current_time() - start == pytest.approx(7)
        assert failed.certainty is NOT_SENT
        assert "busy with another request" in str(failed)
        assert len(gateway.requests) == 1
        await first.wait()
        gateway.script("POST /v1/any", reply(200, "1"))
        assert await route.call("POST /v1/any", {}, account=None, limit=7) == 1


@pytest.mark.contract("A1")
async def test_waiting_for_the_turn_counts_as_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", slow(20.0, reply(204, "")), hang())
        await in_background(nursery, lambda: route.operate(SendTyping(PEER), account=None, limit=60))
        start = trio.current_time()
        failed = await failure(route.operate(SendTyping(PEER), account=None, limit=30))
        assert trio.current_time() - start == pytest.approx(30)
        assert failed.certainty is UNKNOWN


@pytest.mark.parametrize(
    "what", ["GET /v1/about", "GET /v1/health", "GET /v1/attachments/a.jpg", "DELETE /v1/attachments/a.jpg"]
)
async def test_what_the_gateway_answers_by_itself_waits_for_nobody(
    autojump_clock: MockClock, nursery: trio.Nursery, what: str
) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", slow(20.0, reply(204, "")))
        gateway.script(what, reply(200, "{}"))
        typed = await in_background(nursery, lambda: route.operate(SendTyping(PEER), account=None, limit=60))
        assert await route.call(what, None, account=None, limit=5) == {}
        assert not typed.is_set()
        await typed.wait()


@pytest.mark.contract("O7")
async def test_a_cancelled_operation_gives_its_turn_back(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", hang(), reply(204, ""))
        with trio.move_on_after(3) as scope:
            await route.operate(SendTyping(PEER), account=None, limit=60)
        assert scope.cancelled_caught
        await route.operate(SendTyping(PEER), account=None, limit=1)


# --- Calls. ---


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (reply(200, '{"a":[1,2.5,null]}'), {"a": [1, 2.5, None]}),
        (reply(200, '"text"', content_type="text/plain"), "text"),
        (reply(201, "null"), None),
        (reply(204, ""), None),
        (reply(200, "GIF89a…", content_type="image/gif"), "GIF89a…".encode()),
    ],
)
async def test_a_call_gives_what_comes(autojump_clock: MockClock, answer: SendAnswer, result: object) -> None:
    async with opened() as (gateway, route):
        gateway.script("PATCH /v1/x", answer)
        assert await route.call("PATCH /v1/x?a=b%20c", {"ä": None}, account=None, limit=10) == result
        (request,) = gateway.requests
        assert request.target == "/v1/x?a=b%20c"
        assert json.loads(request.body) == {"ä": None}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_call_may_have_no_body(autojump_clock: MockClock, method: str) -> None:
    async with opened() as (gateway, route):
        gateway.script(f"{method} /v1/x", reply(200, "[]"))
        assert await route.call(f"{method} /v1/x", None, account=None, limit=10) == []
        (request,) = gateway.requests
        assert (request.body, request.headers.get("content-type")) == (b"", None)


@pytest.mark.contract("A1")
@pytest.mark.parametrize(("answer", "certainty", "words"), FAILURES)
async def test_a_call_fails_as_an_operation_does(
    autojump_clock: MockClock, answer: SendAnswer, certainty: Certainty, words: str
) -> None:
    async with opened() as (gateway, route):
        gateway.script("POST /v1/x", answer)
        failed = await failure(route.call("POST /v1/x", [], account=None, limit=10))
        assert failed.certainty is certainty
        assert words in str(failed)


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    "what",
    [
        "",
        "GET",
        "GET ",
        "GET v1/about",
        "get /v1/about",
        "HEAD /v1/about",
        "GET  /v1/about",
        "GET /v1/about ",
        "GET /v1/about\r\nX: y",
        "GET /v1/about\n",
        "GET /v1/\x00",
        "GET /v1/a\u00a0b",
        "GET /v1/about#part",
        "GET http://elsewhere.example/",
        "list groups",
    ],
)
async def test_what_is_no_call_is_refused_before_anything_is_asked(
    autojump_clock: MockClock, what: str
) -> None:
    async with opened() as (gateway, route):
        with pytest.raises(ConfigurationError, match="what: "):
            await route.call(what, None, account=None, limit=10)
        assert not gateway.requests


@pytest.mark.contract("A1")
async def test_a_json_rpc_method_is_for_signal_cli(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):
        with pytest.raises(Unsupported, match='gateway="signal-cli"'):
            await route.call("listGroups", {}, account=None, limit=10)
        assert not gateway.requests


@pytest.mark.contract("A1")
@pytest.mark.parametrize("body", [object(), "\ud83d", {(): 1}])
async def test_a_body_that_is_no_json_is_refused(autojump_clock: MockClock, body: object) -> None:
    async with opened() as (gateway, route):
        with pytest.raises(ConfigurationError, match="body: "):
            await route.call("POST /v1/x", body, account=None, limit=10)
        assert not gateway.requests


async def test_a_call_over_tcp_gives_bytes_as_they_are() -> None:
    """On a real port, by the real clock."""
    async with open_fake_gateway() as gateway:
        gateway.attachments["a.bin"] = bytes(range(256))
        async with open_client(gateway) as signal:
            with trio.fail_after(30):
                await signal.wait_state(CONNECTED)
                message = await signal.send_message(PEER, "hello")
                assert isinstance(await message.wait(), Sent)
                route = signal._route
                got = await route.call("GET /v1/attachments/a.bin", None, account=ACCOUNT, limit=10)
        assert got == bytes(range(256))


# --- The whole life of things, on the fake gateway unscripted. ---


@pytest.mark.contract("A1", "A3")
async def test_a_groups_life(autojump_clock: MockClock) -> None:
    async with opened() as (_, route):

        async def ask(operation: Operation[Any]) -> Any:
            return await route.operate(operation, account=None, limit=10)

        made = await ask(CreateGroup("Team", (PEER,), description="us", link="enabled"))
        (group,) = await ask(ListGroups())
        assert (group.id, group.name, group.description) == (made, "Team", "us")
        assert group.members == (ACCOUNT, PEER)
        assert group.admins == (ACCOUNT,)
        assert group.invite_link
        assert group.invite_link.startswith("https://signal.group/#")
        await ask(UpdateGroup(made, name="Crew", link="disabled"))
        await ask(ChangeMembers(made, "add", (UUID,)))
        await ask(ChangeMembers(made, "add_admins", (PEER,)))
        await ask(ChangeMembers(made, "remove_admins", (ACCOUNT,)))
        await ask(ChangeMembers(made, "remove", (ACCOUNT,)))
        (group,) = await ask(ListGroups())
        assert (group.name, group.description, group.invite_link) == ("Crew", "us", None)
        assert (group.members, group.admins) == ((PEER, UUID), (PEER,))
        assert await ask(JoinGroup(made)) == made
        await ask(QuitGroup(made))
        failed = await failure(ask(ChangeMembers(GROUP, "add", (PEER,))))
        assert (failed.certainty, getattr(failed.error, "status", None)) == (NOT_SENT, 404)


@pytest.mark.contract("A1")
async def test_contacts_profile_files_and_challenge(autojump_clock: MockClock) -> None:
    async with opened() as (gateway, route):

        async def ask(operation: Operation[Any]) -> Any:
            return await route.operate(operation, account=None, limit=10)

        await ask(UpdateContact(PEER, name="Ada", expiration=3600))
        (contact,) = await ask(ListContacts())
        assert (contact.number, contact.name, contact.recipient) == (PEER, "Ada", PEER)
        await ask(UpdateProfile(name="Bot", about="at work"))
        assert gateway.profiles[ACCOUNT]["about"] == "at work"
        gateway.attachments["a.jpg"] = b"file"
        assert await ask(ListAttachments()) == ("a.jpg",)
        async with route.download(AttachmentRef("a.jpg", PEER), account=ACCOUNT, limit=10) as download:
            assert (download.size, [piece async for piece in download]) == (4, [b"file"])
        await ask(DeleteAttachment("a.jpg"))
        assert await ask(ListAttachments()) == ()
        assert (await failure(ask(DeleteAttachment("a.jpg")))).certainty is NOT_SENT
        assert await ask(ListAccounts()) == (ACCOUNT,)
        await ask(SendReceipt(PEER, 17))
        await ask(SendTyping(PEER))
        await ask(SendTyping(PEER, stop=True))
        await ask(SubmitRateLimitChallenge("token-1", "signalcaptcha://solved"))
        uri = await ask(StartLink("bot"))
        assert uri.startswith("sgnl://linkdevice?")
        assert await ask(FinishLink(uri, "bot")) is None


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    "operation", [SendTyping(PEER), ListGroups(), QuitGroup(GROUP), UpdateProfile(name="Bot")]
)
async def test_an_account_that_the_gateway_does_not_have(
    autojump_clock: MockClock, operation: AnyOperation
) -> None:
    async with opened() as (_, route):
        failed = await failure(route.operate(operation, account="+15559999", limit=10))
        assert failed.certainty is NOT_SENT
        assert "Specified account does not exist" in str(failed)


# --- The last of each range, and who needs what. ---


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        (DeleteAttachment("id"), False),
        (FinishLink("sgnl://linkdevice", "name"), False),
        (ListAccounts(), False),
        (ListAttachments(), False),
        (StartLink("name"), False),
        (ListGroups(), True),
        (ListContacts(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_one_accounts_and_what_is_not(operation: Operation[Any], needed: bool) -> None:
    assert needs_account(operation) == needed


@pytest.mark.parametrize(
    ("status", "success"), [(199, False), (200, True), (201, True), (299, True), (300, False), (301, False)]
)
def test_which_statuses_mean_that_it_was_done(status: int, success: bool) -> None:
    assert is_success(status) == success


@pytest.mark.parametrize(
    ("written", "seconds"), [("9" * 9, 999_999_999), ("1" + "0" * 9, None), ("0", 0), ("", None), (7, 7)]
)
def test_the_longest_time_that_a_contact_may_have(written: str | int, seconds: int | None) -> None:
    body = json.dumps([{"number": PEER, "message_expiration": written}]).encode()
    (contact,) = read_operation(ListContacts(), 200, body)
    assert contact.expiration == seconds
