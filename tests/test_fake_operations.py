"""What bots do beside sending: alike behind both kinds of fake gateway, in the words of each."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from trio_signal import testing
from trio_signal.testing import FakeGateway, SendAnswer, envelopes, open_fake_gateway

ACCOUNT, PEER, OTHER = "+15550001", "+15550002", "+15550009"
GROUP_ID = base64.b64encode(bytes(range(32))).decode()
GROUP = "group." + base64.b64encode(GROUP_ID.encode()).decode()
UNKNOWN = {"error": "Specified account does not exist"}
REACTION = {"recipient": PEER, "reaction": "👍", "target_author": PEER, "timestamp": 5}


class Rest:
    """A client of the REST gateway, and the gateway."""

    def __init__(self, gateway: FakeGateway, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self._client = client

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        response = await self._client.request(method, path, content=content)
        is_json = response.content[:1] in {b"{", b"["}
        return response.status_code, response.json() if is_json else response.text or None


@asynccontextmanager
async def rest(**options: Any) -> AsyncGenerator[Rest]:
    async with (
        open_fake_gateway(ACCOUNT, **options) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        yield Rest(gateway, client)


@asynccontextmanager
async def rpc(**options: Any) -> AsyncGenerator[tuple[FakeGateway, Any]]:
    """A signal-cli, and a function that calls its methods."""
    async with (
        open_fake_gateway(ACCOUNT, kind="signal-cli", **options) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):

        async def call(method: str, **params: Any) -> Any:
            request = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
            reply = (await client.post("/api/v1/rpc", json=request)).json()
            return reply["result"] if "result" in reply else reply["error"]

        yield gateway, call


# --- what goes into a chat ---


async def test_reactions_and_deletions_over_rest(autojump_clock: MockClock) -> None:
    async with rest() as it:
        assert await it.ask("POST", f"/v1/reactions/{ACCOUNT}", REACTION) == (204, None)
        gone = {key: value for key, value in REACTION.items() if key != "reaction"}
        assert await it.ask("DELETE", "/v1/reactions/%2B15550001", gone) == (204, None)
        deletion = {"recipient": GROUP, "timestamp": 5}
        status, answer = await it.ask("DELETE", f"/v1/remote-delete/{ACCOUNT}", deletion)
        assert (status, answer) == (201, {"timestamp": str(it.gateway.received[2].timestamp)})
        assert [
            (send.kind, send.number, send.recipients, send.message, send.outcome, send.answered)
            for send in it.gateway.received
        ] == [
            ("reaction", ACCOUNT, [PEER], "👍", "ok", True),
            ("reaction", ACCOUNT, [PEER], "", "ok", True),
            ("remote_delete", ACCOUNT, [GROUP], "", "ok", True),
        ]


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("POST", "reactions", {}, "recipient missing"),
        ("POST", "reactions", {"recipient": PEER}, "reaction missing"),
        ("POST", "reactions", REACTION | {"target_author": ""}, "target_author missing"),
        ("DELETE", "reactions", REACTION | {"timestamp": 0}, "timestamp missing"),
        ("DELETE", "remote-delete", {"timestamp": 5}, "recipient missing"),
        ("DELETE", "remote-delete", {"recipient": PEER, "timestamp": "5"}, "invalid request"),
        ("DELETE", "remote-delete", {"recipient": 5, "timestamp": 5}, "invalid request"),
        ("DELETE", "remote-delete", b"[", "invalid request"),
    ],
)
async def test_what_the_gateway_itself_refuses(
    method: str, path: str, body: object, problem: str, autojump_clock: MockClock
) -> None:
    async with rest() as it:
        it.gateway.script_send(testing.hang())
        status, answer = await it.ask(method, f"/v1/{path}/{ACCOUNT}", body)
        assert (status, answer) == (400, {"error": f"Couldn't process request - {problem}"})
        assert [(send.outcome, send.answered) for send in it.gateway.received] == [("invalid", True)]


async def test_one_row_of_scripted_answers_for_all_that_is_sent(autojump_clock: MockClock) -> None:
    async with rest() as it:
        it.gateway.script_send(
            testing.error(400, "no"), testing.rate_limited(), testing.rpc_error(-1, "words"), testing.ok()
        )
        path = f"/v1/reactions/{ACCOUNT}"
        limited = {"error": "Failed to send message due to rate limiting"}
        assert await it.ask("POST", path, REACTION) == (400, {"error": "no"})
        assert await it.ask("POST", path, REACTION) == (400, limited)
        body = {"number": ACCOUNT, "recipients": [PEER], "message": "hi"}
        assert await it.ask("POST", "/v2/send", body) == (400, {"error": "words"})
        assert (await it.ask("POST", "/v2/send", body))[0] == 201
        assert await it.ask("POST", "/v1/reactions/+1999", REACTION) == (400, UNKNOWN)
        it.gateway.daemon_outage(5)
        assert await it.ask("POST", path, REACTION) == (500, None)
        it.gateway.daemon_return()
        it.gateway.script(f"POST {path}", testing.reply(503, "{}"))
        assert await it.ask("POST", path, REACTION) == (503, {})
        assert [send.outcome for send in it.gateway.received] == [
            "error",
            "rate_limited",
            "rpc_error",
            "ok",
            "error",
            "daemon_down",
        ]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [(testing.rpc_result({"a": 1}), 200, {"a": 1}), (testing.rpc_error(-3, "x"), 400, {"error": "x"})],
)
async def test_answers_of_the_other_protocol(
    answer: SendAnswer, status: int, body: object, autojump_clock: MockClock
) -> None:
    async with rest() as it:
        it.gateway.script("GET /v1/accounts", answer)
        assert await it.ask("GET", "/v1/accounts") == (status, body)


# --- receipts, typing, linking, limits ---


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        ("POST", "receipts", {"recipient": PEER, "receipt_type": "read", "timestamp": 5}, 204, None),
        (
            "POST",
            "receipts",
            {"recipient": PEER, "receipt_type": "x"},
            400,
            "receipt type must be read or viewed",
        ),
        ("POST", "receipts", {"receipt_type": "read"}, 400, "recipient missing"),
        ("POST", "receipts", {"recipient": PEER, "receipt_type": "viewed"}, 400, "timestamp missing"),
        ("PUT", "typing-indicator", {"recipient": PEER}, 204, None),
        ("DELETE", "typing-indicator", {"recipient": GROUP}, 204, None),
        ("DELETE", "typing-indicator", {"recipient": 5}, 400, "invalid request"),
        ("PUT", "profiles", {"about": "x"}, 400, "profile name missing"),
        ("PUT", "contacts", {"name": "x"}, 400, "recipient missing"),
        ("GET", "groups/x?expand=maybe", None, 400, None),
        ("GET", "contacts/x?all_recipients=maybe", None, 400, None),
    ],
)
async def test_small_requests(
    method: str, path: str, body: object, status: int, answer: str | None, autojump_clock: MockClock
) -> None:
    async with rest() as it:
        place = path.replace("x?", f"{ACCOUNT}?") if "?" in path else f"{path}/{ACCOUNT}"
        got, content = await it.ask(method, f"/v1/{place}", body)
        assert got == status
        if answer is not None:
            assert content == {"error": f"Couldn't process request - {answer}"}
        if body is not None:
            assert json.loads(it.gateway.requests[0].body) == body
        assert not it.gateway.received


async def test_unknown_accounts_and_an_absent_signal_cli(autojump_clock: MockClock) -> None:
    async with rest() as it:
        assert await it.ask("PUT", "/v1/typing-indicator/+1999", {"recipient": PEER}) == (400, UNKNOWN)
        assert await it.ask("GET", "/v1/groups/+1999") == (400, UNKNOWN)
        it.gateway.attachments["a"] = b"x"
        it.gateway.daemon_outage(5)
        assert await it.ask("GET", f"/v1/groups/{ACCOUNT}") == (500, None)
        assert await it.ask("DELETE", "/v1/attachments/a") == (204, None)
        assert await it.ask("DELETE", "/v1/attachments/a") == (
            404,
            {"error": "No attachment with that name found"},
        )


async def test_a_path_with_a_slash_too_many_changes_nothing(autojump_clock: MockClock) -> None:
    async with rest() as it:
        assert (await it.ask("POST", f"/v1/groups/{ACCOUNT}/", {"name": "x"}))[0] == 307
        assert (await it.ask("GET", f"/v1/groups/{ACCOUNT}/"))[0] == 301
        assert (await it.ask("PATCH", f"/v1/groups/{ACCOUNT}", {"name": "x"}))[0] == 404
        assert not it.gateway.groups


async def test_a_challenge(autojump_clock: MockClock) -> None:
    async with rest() as it:
        path = f"/v1/accounts/{ACCOUNT}/rate-limit-challenge"
        body = {"challenge_token": "t", "captcha": "signalcaptcha://x"}
        assert await it.ask("POST", path, body) == (204, None)
        assert (await it.ask("POST", path, {"captcha": "x"}))[1] == {
            "error": "Couldn't process request - challenge token missing"
        }
    async with rpc() as (_, call):
        assert await call("submitRateLimitChallenge", challenge="t", captcha="c") == {}


async def test_linking(autojump_clock: MockClock) -> None:
    async with rest() as it:
        status, answer = await it.ask("GET", "/v1/qrcodelink/raw?device_name=x")
        assert (status, answer["device_link_uri"][:20]) == (200, "sgnl://linkdevice?uu")
        assert (await it.ask("GET", "/v1/qrcodelink/raw"))[0] == 400
    async with rpc() as (_, call):
        uri = (await call("startLink"))["deviceLinkUri"]
        assert uri.startswith("sgnl://linkdevice?")
        assert await call("finishLink", deviceLinkUri=uri, deviceName="x") == {"number": ACCOUNT}
        assert (await call("finishLink", deviceLinkUri=uri))["message"] == "Unknown device link uri."


async def test_attachments_of_signal_cli(autojump_clock: MockClock) -> None:
    async with rpc() as (gateway, call):
        gateway.attachments["a.png"] = b"PNG"
        assert await call("getAttachment", id="a.png", recipient=PEER) == {"data": "UE5H"}


async def test_receipts_and_typing_of_signal_cli(autojump_clock: MockClock) -> None:
    async with rpc() as (gateway, call):
        for result in [
            await call("sendReceipt", recipient=PEER, targetTimestamp=[5], type="viewed"),
            await call("sendTyping", recipient=[PEER], stop=True),
            await call("sendTyping", groupId=[GROUP_ID]),
        ]:
            assert [each["type"] for each in result["results"]] == ["SUCCESS"]
        assert not gateway.received


# --- groups ---


async def test_a_groups_life_over_rest(autojump_clock: MockClock) -> None:
    async with rest() as it:
        body = {
            "name": "Team",
            "members": [PEER],
            "description": "d",
            "group_link": "enabled",
            "permissions": {"add_members": "only-admins"},
            "expiration_time": 60,
        }
        status, created = await it.ask("POST", f"/v1/groups/{ACCOUNT}", body)
        assert (status, list(created)) == (201, ["id"])
        path = f"/v1/groups/{ACCOUNT}/{created['id']}"
        (group,) = it.gateway.groups.values()
        assert testing.group(group["id"]).keys() == group.keys()
        assert await it.ask("GET", path) == (
            200,
            {
                "name": "Team",
                "description": "d",
                "id": created["id"],
                "internal_id": group["id"],
                "members": [ACCOUNT, PEER],
                "blocked": False,
                "pending_invites": [],
                "pending_requests": [],
                "invite_link": group["groupInviteLink"],
                "admins": [ACCOUNT],
                "permissions": {
                    "add_members": "only-admins",
                    "edit_group": "every-member",
                    "send_messages": "every-member",
                },
                "member": True,
            },
        )
        assert group["messageExpirationTime"] == 60
        change = {"name": "New", "group_link": "disabled", "permissions": {"send_messages": "only-admins"}}
        assert await it.ask("PUT", path, change) == (204, None)
        assert (group["name"], group["groupInviteLink"]) == ("New", None)
        assert await it.ask("POST", f"{path}/members", {"members": [OTHER]}) == (204, None)
        assert await it.ask("POST", f"{path}/admins", {"admins": [OTHER]}) == (204, None)
        assert (await it.ask("GET", path))[1]["admins"] == [ACCOUNT, OTHER]
        assert await it.ask("DELETE", f"{path}/admins", {"admins": [OTHER]}) == (204, None)
        assert await it.ask("DELETE", f"{path}/members", {"members": [PEER]}) == (204, None)
        (entry,) = (await it.ask("GET", f"/v1/groups/{ACCOUNT}?expand=true"))[1]
        assert entry["members"] == [
            testing.group("", members=[each])["members"][0] for each in (ACCOUNT, OTHER)
        ]
        assert entry["admins"] == [{"number": ACCOUNT, "uuid": envelopes.uuid_of(ACCOUNT)}]
        assert await it.ask("POST", f"{path}/quit") == (204, None)
        assert (await it.ask("GET", path))[1]["member"] is False
        assert await it.ask("POST", f"{path}/join") == (204, None)
        assert await it.ask("POST", f"{path}/join") == (204, None)
        assert (await it.ask("GET", path))[1]["members"] == [OTHER, ACCOUNT]
        assert await it.ask("DELETE", path) == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "", None, 404, "No group with that id found"),
        ("PUT", "", {"name": "x"}, 400, "Failed to send to group: Group not found"),
        ("POST", "/members", {"members": [PEER]}, 404, "No group with that group id (group."),
        ("POST", "/members", {"members": []}, 400, "Couldn't process request - group members missing"),
        ("POST", "/admins", {"admins": []}, 204, None),
        ("DELETE", "/members", {"members": []}, 204, None),
        ("POST", "/quit", None, 400, "Failed to send to group"),
        ("PUT", "", {"group_link": "x"}, 400, "Invalid group link provided"),
        ("PUT", "", {"permissions": {"edit_group": "x"}}, 400, "Invalid edit group permissions provided"),
    ],
)
async def test_requests_about_no_group(
    method: str, path: str, body: object, status: int, words: str | None, autojump_clock: MockClock
) -> None:
    async with rest() as it:
        got, answer = await it.ask(method, f"/v1/groups/{ACCOUNT}/{GROUP}{path}", body)
        assert got == status
        assert words is None or answer["error"].startswith(words)
        assert (await it.ask("PUT", f"/v1/groups/{ACCOUNT}/group.!", {}))[1] == {"error": "Invalid group id"}


@pytest.mark.parametrize(("version", "swapped"), [("0.97", True), ("0.98", False), ("0.100", False)])
async def test_who_is_invited_and_who_asks(version: str, swapped: bool, autojump_clock: MockClock) -> None:
    people: dict[str, Any] = {
        "pendingMembers": [{"number": PEER, "uuid": None}],
        "requestingMembers": [{"uuid": "u"}],
    }
    async with rest(version=version) as it:
        it.gateway.groups[GROUP_ID] = testing.group(GROUP_ID, **people)
        (entry,) = (await it.ask("GET", f"/v1/groups/{ACCOUNT}"))[1]
        expected = ([PEER], ["u"])
        invited, asking = expected[::-1] if swapped else expected
        assert (entry["pending_invites"], entry["pending_requests"]) == (invited, asking)
        assert ("member" in entry) is (version == "0.100")


async def test_a_groups_life_over_signal_cli(autojump_clock: MockClock) -> None:
    async with rpc() as (gateway, call):
        created = await call("updateGroup", name="Team", member=[PEER], link="enabled", expiration=60)
        assert created["results"][0]["recipientAddress"]["number"] == PEER
        group = created["groupId"]
        assert len(base64.b64decode(group)) == 32
        assert list(gateway.groups) == [group]
        await call("updateGroup", groupId=group, description="d", setPermissionSendMessages="only-admins")
        await call("updateGroup", **{"group-id": group, "admin": PEER, "members": [OTHER]})
        (entry,) = await call("listGroups", groupId=[group])
        assert list(entry) == [
            "id",
            "name",
            "description",
            "isMember",
            "isBlocked",
            "messageExpirationTime",
            "members",
            "pendingMembers",
            "requestingMembers",
            "admins",
            "banned",
            "permissionAddMember",
            "permissionEditDetails",
            "permissionSendMessage",
            "groupInviteLink",
        ]
        assert [each["number"] for each in entry["members"]] == [ACCOUNT, PEER, OTHER]
        assert [each["number"] for each in entry["admins"]] == [ACCOUNT, PEER]
        assert (entry["permissionSendMessage"], entry["messageExpirationTime"]) == ("ONLY_ADMINS", 60)
        await call("updateGroup", groupId=group, removeMember=[PEER], removeAdmin=[ACCOUNT])
        assert gateway.groups[group]["admins"] == []
        assert (await call("quitGroup", groupId=group))["results"]
        assert gateway.groups[group]["isMember"] is False
        assert (await call("joinGroup", uri=entry["groupInviteLink"]))["groupId"] == group
        assert gateway.groups[group]["isMember"] is True
        await call("quitGroup", groupId=group, delete=True)
        assert await call("listGroups") == []
        joined = await call("joinGroup", uri="https://signal.group/#abc")
        assert (joined["groupId"] in gateway.groups, joined["onlyRequested"]) == (True, False)


# --- contacts and profiles ---


async def test_contacts_and_the_profile_over_rest(autojump_clock: MockClock) -> None:
    async with rest() as it:
        body = {"recipient": PEER, "name": "Peer", "expiration_in_seconds": 60}
        assert await it.ask("PUT", f"/v1/contacts/{ACCOUNT}", body) == (204, None)
        assert it.gateway.contacts[PEER]["messageExpirationTime"] == 60
        it.gateway.contacts["u"] = testing.contact("u", nickName="Nick")
        first, second = (await it.ask("GET", f"/v1/contacts/{ACCOUNT}?all_recipients=true"))[1]
        assert (first["number"], first["name"], first["given_name"]) == (PEER, "Peer", "Peer")
        assert (first["message_expiration"], first["blocked"], first["profile_name"]) == ("", False, "")
        assert (second["number"], second["uuid"], second["nickname"]["name"]) == ("", "u", "Nick")
        assert set(first["profile"]) == {
            "given_name",
            "lastname",
            "about",
            "has_avatar",
            "last_updated_timestamp",
        }
        path = f"/v1/profiles/{ACCOUNT}"
        assert await it.ask("PUT", path, {"name": "Bot", "about": "x", "base64_avatar": "AAAA"}) == (
            204,
            None,
        )
        assert it.gateway.profiles[ACCOUNT] == {"givenName": "Bot", "about": "x", "hasAvatar": True}
        assert await it.ask("PUT", path, {"name": "Bot"}) == (204, None)
        assert it.gateway.profiles[ACCOUNT]["hasAvatar"] is False


@pytest.mark.parametrize(("version", "has_archived"), [("0.13.19", False), ("0.14.0", True)])
async def test_contacts_and_the_profile_over_signal_cli(
    version: str, has_archived: bool, autojump_clock: MockClock
) -> None:
    async with rpc(version=version) as (gateway, call):
        assert await call("updateContact", recipient=PEER, name="Peer", expiration=0, note="n") == {}
        gateway.contacts[OTHER] = testing.contact(OTHER)
        (contact,) = await call("listContacts", recipient=PEER, allRecipients=True)
        assert (contact["number"], contact["name"], contact["note"]) == (PEER, "Peer", "n")
        assert ("isArchived" in contact) is has_archived
        assert len(await call("listContacts")) == 2
        assert await call("updateProfile", givenName="Bot", about="x", avatar="data:;base64,AA") == {}
        assert gateway.profiles[ACCOUNT] == {"givenName": "Bot", "about": "x", "hasAvatar": True}
        await call("updateProfile", removeAvatar=True)
        assert gateway.profiles[ACCOUNT] == {"givenName": "Bot", "about": "x", "hasAvatar": False}


async def test_two_gateways_share_nothing(autojump_clock: MockClock) -> None:
    async with rpc() as (one, _), rpc() as (two, _):
        one.groups[GROUP_ID] = testing.group(GROUP_ID)
        assert not two.groups
        await trio.lowlevel.checkpoint()
