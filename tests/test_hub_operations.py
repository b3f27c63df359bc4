"""Operations, calls and messages of other kinds as a hub's client asks for them, on the wire."""

import base64
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.hub_peer import answer
from tests.hubs import Scene, open_hub
from tests.peers import Dialled, Peer
from trio_signal import (
    AnswerError,
    Certainty,
    ConfigurationError,
    LinkLost,
    OutgoingMessage,
    RequestFailed,
    Unsupported,
    WrongGatewayMode,
)
from trio_signal._contents import Reaction, RemoteDelete
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
from trio_signal._outcomes import Failed, Sent
from trio_signal.gateways import AttachmentRef
from trio_signal.gateways._requests import Requests
from trio_signal.gateways.hub import HubGateway
from trio_signal.testing import error

ACCOUNT: Final = "+15550001"
PEER: Final = "+15550002"
UUID: Final = "2c9e0000-0000-4000-8000-000000000002"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
URL: Final = "http://hub.example:8090/base"

NOT_SENT: Final = Certainty.NOT_SENT
UNKNOWN: Final = Certainty.UNKNOWN


class Hub:
    """Answers each request with the next answer, and one it has none for never.

    Attributes:
        asked: first lines and bodies of the requests.
    """

    def __init__(self, nursery: trio.Nursery, *answers: bytes | None, account: str | None = ACCOUNT) -> None:
        self._nursery = nursery
        self._answers = list(answers)
        self.asked: list[tuple[str, bytes]] = []
        address = parse_url(URL)
        requests = Requests(
            address,
            Credentials((), None, address.authorization),
            connect=self._connect,
            ssl_context=None,
            http_client=None,
            send_timeout=60.0,
        )
        self.route = HubGateway(
            requests, account, now=lambda: 0, ping_interval=10.0, pong_timeout=5.0, max_message_size=1 << 20
        )

    async def _connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return Dialled(self._nursery, self._serve).stream

    async def _serve(self, peer: Peer) -> None:
        while True:
            await peer.read_head()
            head, _, body = peer.head.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            while len(body) < int(fields.get(b"content-length", b"0")):
                body += await peer.stream.receive_some()
            self.asked.append((head.split(b" HTTP/")[0].decode(), body))
            peer.head = b""
            if not self._answers:
                await trio.sleep_forever()
            reply = self._answers.pop(0)
            if reply is None:
                await peer.stream.send_eof()
                return
            await peer.stream.send_all(reply)


@asynccontextmanager
async def hub(*answers: bytes | None, account: str | None = ACCOUNT) -> AsyncGenerator[Hub]:
    """Open a hub for an hour by Trio's clock."""
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            there = Hub(nursery, *answers, account=account)
            yield there
            await there.route.aclose()
            nursery.cancel_scope.cancel()


async def failure(asked: Awaitable[object]) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await asked
    return caught.value


CASES: Final[list[tuple[AnyOperation, dict[str, Any], Any]]] = [
    (SendReceipt(PEER, 17, "viewed"), {"recipient": PEER, "timestamp": 17, "kind": "viewed"}, None),
    (SendTyping(PEER), {"recipient": PEER, "stop": False}, None),
    (ListGroups(), {}, (Group(id=GROUP, name="Team", members=(PEER,), is_member=True),)),
    (
        CreateGroup("Team", (PEER,), permissions=GroupPermissions(add_members="only-admins")),
        {
            "name": "Team",
            "members": [PEER],
            "description": "",
            "expiration": None,
            "link": None,
            "permissions": {"add_members": "only-admins", "edit_details": None, "send_messages": None},
        },
        GROUP,
    ),
    (
        UpdateGroup(GROUP, avatar=b"\x00\xff"),
        {
            "group": GROUP,
            "name": None,
            "description": None,
            "avatar": base64.b64encode(b"\x00\xff").decode(),
            "expiration": None,
            "link": None,
            "permissions": None,
        },
        None,
    ),
    (
        ChangeMembers(GROUP, "add_admins", (PEER, UUID)),
        {"group": GROUP, "action": "add_admins", "members": [PEER, UUID]},
        None,
    ),
    (JoinGroup("https://signal.group/#abc"), {"group": "https://signal.group/#abc"}, GROUP),
    (JoinGroup(GROUP), {"group": GROUP}, None),
    (QuitGroup(GROUP), {"group": GROUP}, None),
    (ListContacts(all_recipients=True), {"all_recipients": True}, (Contact(number=PEER, name="Ada"),)),
    (UpdateContact(PEER, expiration=0), {"recipient": PEER, "name": None, "expiration": 0}, None),
    (UpdateProfile(about="busy"), {"name": None, "about": "busy", "avatar": None}, None),
    (
        SubmitRateLimitChallenge("token-1", "signalcaptcha://x"),
        {"challenge_token": "token-1", "captcha": "signalcaptcha://x"},
        None,
    ),
    (ListAttachments(), {}, ("a.jpg", "b.png")),
    (DeleteAttachment("a.jpg"), {"id": "a.jpg"}, None),
]


@pytest.mark.contract("A1", "A3")
@pytest.mark.parametrize(("operation", "fields", "result"), CASES)
async def test_an_operation_goes_to_the_hub_as_it_is(
    autojump_clock: MockClock, operation: AnyOperation, fields: dict[str, Any], result: Any
) -> None:
    async with hub(answer(200, msgspec.json.encode(result))) as there:
        assert await there.route.operate(operation, account=ACCOUNT, limit=10) == result
        ((line, body),) = there.asked
        assert line == "POST /base/v1/operations"
        assert json.loads(body) == {"operation": type(operation).__name__} | fields
        # The hub reads it as the same.
        assert msgspec.json.decode(body, type=AnyOperation) == operation


@pytest.mark.contract("A1")
@pytest.mark.parametrize("operation", [ListAccounts(), StartLink("bot"), FinishLink("sgnl://x", "bot")])
async def test_what_is_not_about_its_account_a_hub_is_not_asked(
    autojump_clock: MockClock, operation: AnyOperation
) -> None:
    async with hub() as there:
        with pytest.raises(Unsupported, match='gateway="rest" or "signal-cli"'):
            await there.route.operate(operation, account=None, limit=10)
        assert not there.asked


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("status", "body", "certainty", "words"),
    [
        (400, {"error": "No such group", "certainty": "not_sent"}, NOT_SENT, "No such group"),
        (400, {"error": "broken pipe", "certainty": "unknown"}, UNKNOWN, "broken pipe"),
        (403, {"error": "not for you", "certainty": "not_sent"}, NOT_SENT, "not for you"),
        (401, {"error": "unauthorized"}, NOT_SENT, "unauthorized"),
        (404, b"<h1>no</h1>", NOT_SENT, "HTTP 404"),
        (422, {"error": "timestamp: it is none"}, NOT_SENT, "timestamp: it is none"),
        (429, {"error": "too many", "certainty": "not_sent"}, NOT_SENT, "too many"),
        (503, {"error": "not connected", "certainty": "not_sent"}, NOT_SENT, "not connected"),
        (504, {"error": "no answer", "certainty": "unknown"}, UNKNOWN, "no answer"),
        (502, b"", UNKNOWN, "HTTP 502"),
        (408, b"", UNKNOWN, "HTTP 408"),
    ],
)
async def test_a_failure_says_whether_it_may_have_been_done(
    autojump_clock: MockClock, status: int, body: object, certainty: Certainty, words: str
) -> None:
    reply = answer(status, body)
    async with hub(reply, reply, reply) as there:
        failed = await failure(there.route.operate(SendTyping(PEER), account=ACCOUNT, limit=10))
        assert failed.certainty is certainty
        assert isinstance(failed.error, AnswerError)
        assert words in str(failed)
        called = await failure(there.route.call("POST /x", {}, account=ACCOUNT, limit=10))
        assert (called.certainty, str(called)) == (certainty, str(failed))
        listed = await failure(there.route.operate(ListGroups(), account=ACCOUNT, limit=10))
        assert listed.certainty is NOT_SENT
        assert len(there.asked) == 3, "something was tried again"


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (501, {"error": "only signal-cli can", "unsupported": True}, "only signal-cli can"),
        (501, b"", "the hub's gateway cannot do this"),
        (400, {"error": "only signal-cli can", "unsupported": True}, "only signal-cli can"),
    ],
)
async def test_what_the_hubs_gateway_cannot_do_is_unsupported(
    autojump_clock: MockClock, status: int, body: object, words: str
) -> None:
    reply = answer(status, body)
    async with hub(reply, reply) as there:
        with pytest.raises(Unsupported, match=words):
            await there.route.operate(SendTyping(PEER), account=ACCOUNT, limit=10)
        with pytest.raises(Unsupported, match=words):
            await there.route.call("GET /x", None, account=ACCOUNT, limit=10)


@pytest.mark.contract("A1")
@pytest.mark.parametrize("body", [b"", b"{", b"5", b'"\xff"', b"[" * 3000])
@pytest.mark.parametrize("operation", [CreateGroup("Team", ()), SendTyping(PEER), ListGroups()])
async def test_an_unreadable_result_is_an_error(
    autojump_clock: MockClock, operation: AnyOperation, body: bytes
) -> None:
    async with hub(answer(200, body)) as there:
        failed = await failure(there.route.operate(operation, account=ACCOUNT, limit=10))
        assert failed.certainty is (NOT_SENT if isinstance(operation, ListGroups) else UNKNOWN)
        assert "its answer cannot be read" in str(failed)


@pytest.mark.contract("A1")
@pytest.mark.parametrize("replies", [(), (None,)])
async def test_an_answer_that_does_not_come_leaves_it_open(
    autojump_clock: MockClock, replies: tuple[bytes | None, ...]
) -> None:
    async with hub(*replies) as there:
        start = trio.current_time()
        failed = await failure(there.route.operate(SendTyping(PEER), account=ACCOUNT, limit=10))
        assert failed.certainty is UNKNOWN
        assert trio.current_time() - start == pytest.approx(0 if replies else 10)


async def test_operations_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    async with hub() as there:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(failure, there.route.operate(SendTyping(PEER), account=None, limit=10))
        assert len(there.asked) == 3
        assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(200, {"state": "CONNECTED"}), {"state": "CONNECTED"}),
        (answer(204), None),
        (answer(200, b"# HELP metrics"), b"# HELP metrics"),
    ],
)
async def test_a_call_reaches_the_hubs_own_paths(
    autojump_clock: MockClock, reply: bytes, result: object
) -> None:
    async with hub(reply) as there:
        assert await there.route.call("GET /status?x=1", None, account=ACCOUNT, limit=10) == result
        assert there.asked == [("GET /base/status?x=1", b"")]


@pytest.mark.contract("A1")
async def test_what_is_no_call_is_refused_before_anything_is_asked(autojump_clock: MockClock) -> None:
    async with hub() as there:
        with pytest.raises(ConfigurationError, match="what: "):
            await there.route.call("GET status", None, account=ACCOUNT, limit=10)
        with pytest.raises(Unsupported, match="signal-cli"):
            await there.route.call("listGroups", None, account=ACCOUNT, limit=10)
        assert not there.asked


async def test_without_an_account_there_is_no_link_and_no_send(autojump_clock: MockClock) -> None:
    async with hub(account=None) as there:
        with pytest.raises(Unsupported, match="give a number"):
            async with there.route.open_link(None):
                pytest.fail("there is no such link")
        outcome = (await there.route.send(OutgoingMessage(PEER, "hello"))).outcome
        assert isinstance(outcome, Failed)
        assert (type(outcome.error), outcome.certainty) == (Unsupported, NOT_SENT)
        assert not there.asked


async def test_signal_clis_own_daemon_is_no_hub(autojump_clock: MockClock) -> None:
    page = answer(404, b"<h1>404 Not Found</h1>No context found for request")
    async with hub(page) as there:
        with pytest.raises(
            WrongGatewayMode, match=r'signal-cli\'s own daemon and no hub; use gateway="signal-cli"'
        ):
            async with there.route.open_link(None):
                pytest.fail("there is no such link")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (Reaction("👍", UUID, 17), f"POST /base/v1/reactions/{ACCOUNT}"),
        (Reaction("👍", UUID, 17, remove=True), f"DELETE /base/v1/reactions/{ACCOUNT}"),
        (RemoteDelete(17), f"DELETE /base/v1/remote-delete/{ACCOUNT}"),
    ],
)
@pytest.mark.contract("A2")
async def test_reactions_and_deletions_are_sent_as_to_the_gateway(
    autojump_clock: MockClock, content: Reaction | RemoteDelete, line: str
) -> None:
    reply = answer(201, {"timestamp": "5"}) if isinstance(content, RemoteDelete) else answer(204)
    async with hub(reply) as there:
        result = await there.route.send(OutgoingMessage(GROUP, content))
        ((asked, body),) = there.asked
        assert asked == line
        assert json.loads(body)["recipient"] == GROUP
        assert not isinstance(result.outcome, Failed)


async def test_a_lost_answer_is_told_by_its_cause(autojump_clock: MockClock) -> None:
    async with hub() as there:
        failed = await failure(there.route.operate(SendTyping(PEER), account=ACCOUNT, limit=10))
        assert isinstance(failed.error, LinkLost)
        assert "did not answer within 10 s" in str(failed)


# --- On a real hub, with a REST gateway behind it. ---


def route_on(scene: Scene) -> HubGateway:
    """Make a way to a hub that is there."""
    assert scene.listener is not None
    address = parse_url("http://127.0.0.1:8080")
    requests = Requests(
        address,
        Credentials((), scene.token(), address.authorization),
        connect=scene.listener.connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60.0,
    )
    return HubGateway(
        requests, ACCOUNT, now=lambda: 0, ping_interval=10.0, pong_timeout=5.0, max_message_size=1 << 20
    )


@asynccontextmanager
async def through_a_hub() -> AsyncGenerator[tuple[Scene, HubGateway]]:
    async with open_hub() as scene:
        route = route_on(scene)
        yield scene, route
        await route.aclose()


@pytest.mark.contract("A1", "A3")
async def test_an_operation_reaches_the_gateway_behind_the_hub(autojump_clock: MockClock) -> None:
    async with through_a_hub() as (scene, route):

        async def ask(operation: Operation[Any]) -> Any:
            return await route.operate(operation, account=ACCOUNT, limit=30)

        made = await ask(CreateGroup("Team", (PEER,)))
        (group,) = await ask(ListGroups())
        assert (group.id, group.name, group.members) == (made, "Team", (ACCOUNT, PEER))
        await ask(UpdateGroup(made, name="Crew", avatar=b"\x89PNG\r\n\x1a\n"))
        (group,) = await ask(ListGroups())
        assert group.name == "Crew"
        await ask(SendTyping(PEER))
        request = scene.gateway.requests[-1]
        assert (request.method, request.path) == ("PUT", f"/v1/typing-indicator/{ACCOUNT}")


@pytest.mark.contract("A1")
async def test_failures_come_through_the_hub(autojump_clock: MockClock) -> None:
    async with through_a_hub() as (scene, route):

        async def ask(operation: Operation[Any]) -> Any:
            return await route.operate(operation, account=ACCOUNT, limit=30)

        with pytest.raises(Unsupported, match=r"join a group by its link.*signal-cli"):
            await ask(JoinGroup("https://signal.group/#abc"))
        scene.gateway.script(f"PUT /v1/typing-indicator/{ACCOUNT}", error(400, "broken pipe"))
        failed = await failure(ask(SendTyping(PEER)))
        assert failed.certainty is UNKNOWN
        assert "broken pipe" in str(failed)
        failed = await failure(ask(ChangeMembers(GROUP, "add", (PEER,))))
        assert failed.certainty is NOT_SENT


@pytest.mark.contract("A2")
async def test_reactions_and_deletions_come_through_the_hub(autojump_clock: MockClock) -> None:
    async with through_a_hub() as (scene, route):
        for content in (Reaction("👍", UUID, 17), Reaction("👍", UUID, 17, remove=True), RemoteDelete(17)):
            result = await route.send(OutgoingMessage(PEER, content))
            assert isinstance(result.outcome, Sent), result
        asked = [(request.method, request.path) for request in scene.gateway.requests[-3:]]
        assert asked == [
            ("POST", f"/v1/reactions/{ACCOUNT}"),
            ("DELETE", f"/v1/reactions/{ACCOUNT}"),
            ("DELETE", f"/v1/remote-delete/{ACCOUNT}"),
        ]


async def test_a_file_comes_through_the_hub(autojump_clock: MockClock) -> None:
    data = bytes(range(256)) * 2000
    async with through_a_hub() as (scene, route):
        scene.gateway.attachments["a.jpg"] = data
        async with route.download(AttachmentRef("a.jpg", GROUP), account=ACCOUNT, limit=10) as download:
            assert download.size == len(data)
            assert b"".join([piece async for piece in download]) == data
        with pytest.raises(RequestFailed) as caught:
            async with route.download(AttachmentRef("b.jpg", PEER), account=ACCOUNT, limit=10):
                pytest.fail("there is no such file")
        assert getattr(caught.value.error, "status", None) == 404
