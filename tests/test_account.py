"""What a bot does beside writing messages, on both kinds of gateway."""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import (
    Certainty,
    ClientClosed,
    ConfigurationError,
    Dropped,
    DropReason,
    OutgoingMessage,
    Quote,
    ReceivedMessage,
    RequestFailed,
    Sent,
    SignalClient,
    Unsupported,
    open_signal_client,
)
from trio_signal._contents import LinkPreview, Mention, Target
from trio_signal._indicator import show_typing
from trio_signal._operations import (
    Contact,
    Group,
    GroupPermissions,
    ListGroups,
    Operation,
    SubmitRateLimitChallenge,
)
from trio_signal._wire import group_internal_id, group_recipient
from trio_signal.testing import (
    FakeGateway,
    contact,
    envelopes,
    group,
    hang,
    open_fake_gateway,
    rate_limited,
    slow,
)
from trio_signal.testing.envelopes import uuid_of

from .scene import CONNECTED, DISCONNECTED, logged, open_gateway, wall_time

OWN: Final = "+15550001"
PEER: Final = "+15550002"
OTHER: Final = "+15550003"
GROUP_ID: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GROUP: Final = group_recipient(GROUP_ID)
T: Final = 1_795_302_684_386


@pytest.fixture(params=["rest", "signal-cli"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def scene(kind: str, **options: Any) -> AsyncGenerator[tuple[FakeGateway, SignalClient]]:
    """Open a gateway and a client that is CONNECTED, by a virtual clock."""
    async with open_gateway(kind=kind) as gateway, client(gateway, kind, **options) as signal:
        yield gateway, signal


@asynccontextmanager
async def client(
    gateway: FakeGateway, kind: Any, account: str | None = OWN, **options: Any
) -> AsyncGenerator[SignalClient]:
    """Open a client and wait until it is CONNECTED."""
    async with open_signal_client(
        gateway.url, account, gateway=kind, connect=gateway.connect, wall_clock=wall_time, **options
    ) as signal:
        await signal.wait_state(CONNECTED)
        yield signal


async def arrived(
    gateway: FakeGateway, signal: SignalClient, envelope: dict[str, Any] | None = None
) -> ReceivedMessage:
    gateway.deliver(envelope)
    event = await anext(signal.events())
    assert isinstance(event, ReceivedMessage)
    return event


async def done(message: OutgoingMessage) -> Sent:
    with trio.fail_after(60):
        return await message.wait()


def asked(gateway: FakeGateway, name: str) -> list[dict[str, Any]]:
    """Return what was asked for under a name: part of a path, or a JSON-RPC method."""
    bodies: list[dict[str, Any]] = []
    for request in gateway.requests:
        body: dict[str, Any] = json.loads(request.body or b"{}")
        if name in request.path:
            bodies.append(body | {"method": request.method})
        elif body.get("method") == name:
            bodies.append(body["params"])
    return bodies


# --- Reactions, edits, deletions. ---


@pytest.mark.contract("A2", "O1")
@pytest.mark.parametrize("in_group", [None, GROUP_ID], ids=["direct", "group"])
async def test_a_message_that_came_is_reacted_to(
    kind: str, in_group: str | None, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        message = await arrived(gateway, signal, envelopes.text(group=in_group))
        for remove in (False, True):
            assert (
                await done(await signal.send_reaction(message, "👍", remove=remove))
            ).timestamp is not None
    assert [sent.kind for sent in gateway.received] == ["reaction", "reaction"]
    for sent in gateway.received:
        assert sent.recipients == [message.reply_to]
        assert sent.message == "👍"
        assert uuid_of(PEER) in sent.body.values()
        assert message.timestamp in sent.body.values()


@pytest.mark.contract("A2")
async def test_a_message_of_ours_is_reacted_to_edited_and_deleted(
    kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        first = await signal.send_message(GROUP, "one")
        timestamp = (await done(first)).timestamp
        await done(await signal.send_reaction(first, "👍"))
        edited = await signal.edit_message(
            first,
            "two https://example.org",
            quote=Quote(T, PEER, "what?"),
            mentions=[Mention(0, 1, PEER)],
            preview=LinkPreview("https://example.org", "Example"),
            id="mine",
        )
        again = (await done(edited)).timestamp
        await done(await signal.remote_delete(edited))
    assert edited.id == "mine"
    _, reaction, edit, deletion = gateway.received
    assert {timestamp, OWN} <= {value for value in reaction.body.values() if isinstance(value, int | str)}
    assert edit.kind == "send"
    assert timestamp in edit.body.values()
    assert edit.message == "two https://example.org"
    assert "Example" in json.dumps(edit.body)
    assert "what?" in json.dumps(edit.body)
    assert deletion.kind == "remote_delete"
    assert again != timestamp
    assert again in deletion.body.values()
    assert {tuple(sent.recipients) for sent in gateway.received} == {(GROUP,)}


@pytest.mark.contract("A2", "O4")
async def test_they_keep_their_order_with_the_texts(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        message = await arrived(gateway, signal)
        own = await signal.send_message(PEER, "first")
        await done(own)
        gateway.script_send(slow(5))
        waiting = [
            await signal.send_message(PEER, "second"),
            await signal.send_reaction(message, "👍"),
            await signal.edit_message(own, "third"),
            await signal.remote_delete(own),
            await signal.send_message(PEER, "fourth"),
        ]
        for each in waiting:
            await done(each)
    kinds = [(sent.kind, sent.message) for sent in gateway.received]
    assert kinds == [
        ("send", "first"),
        ("send", "second"),
        ("reaction", "👍"),
        ("send", "third"),
        ("remote_delete", ""),
        ("send", "fourth"),
    ]


async def test_what_another_device_of_ours_sent_can_be_deleted(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        envelope = envelopes.sync_sent("hi", account=OWN, recipient=OTHER)
        message = await arrived(gateway, signal, envelope)
        await done(await signal.remote_delete(message))
    assert gateway.received[0].recipients == [OTHER]
    assert message.timestamp in gateway.received[0].body.values()


@pytest.mark.contract("A1")
async def test_the_messages_of_others_are_not_even_asked_to_be_changed(
    kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        message = await arrived(gateway, signal)
        for change in (signal.remote_delete(message), signal.edit_message(message, "mine")):
            with pytest.raises(ConfigurationError, match="another wrote it"):
                await change
    assert not gateway.received


async def test_a_deadline_goes_with_them(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.kill()
        await signal.wait_state(DISCONNECTED)
        late = await signal.send_reaction(Target(PEER, PEER, T), "👍", deadline=trio.current_time() + 5)
        assert late.deadline == trio.current_time() + 5
        await trio.sleep(6)
        assert late.outcome == Dropped(DropReason.EXPIRED)


# --- Receipts and typing. ---


async def test_a_receipt_goes_to_who_wrote_it(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        message = await arrived(gateway, signal, envelopes.text(group=GROUP_ID))
        await signal.send_receipt(message)
        await signal.send_receipt(Target(GROUP, PEER, T), "read")
        with pytest.raises(ConfigurationError, match="our own"):
            await signal.send_receipt(Target(GROUP, OWN, T))
    receipts = asked(gateway, "/v1/receipts/") + asked(gateway, "sendReceipt")
    assert len(receipts) == 2
    assert uuid_of(PEER) in json.dumps(receipts[0])
    assert str(message.timestamp) in json.dumps(receipts[0])
    assert PEER in json.dumps(receipts[1])
    assert str(T) in json.dumps(receipts[1])


def typing_at(gateway: FakeGateway) -> list[tuple[float, str]]:
    """Return when typing was shown, or taken away."""
    shown: list[tuple[float, str]] = []
    for request in gateway.requests:
        if "/typing-indicator/" in request.path:
            shown.append((request.time, "stop" if request.method == "DELETE" else "show"))
        elif b'"sendTyping"' in request.body:
            stopped = json.loads(request.body)["params"].get("stop")
            shown.append((request.time, "stop" if stopped else "show"))
    return shown


async def test_typing_is_shown_and_taken_away(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        await signal.send_typing(PEER)
        await signal.send_typing(GROUP, stop=True)
    assert [what for _, what in typing_at(gateway)] == ["show", "stop"]


async def test_it_is_shown_while_a_block_runs(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        start = trio.current_time()
        async with signal.typing(PEER):
            await trio.sleep(25)
        assert [(round(time - start), what) for time, what in typing_at(gateway)] == [
            (0, "show"),
            (10, "show"),
            (20, "show"),
            (25, "stop"),
        ]


class Mishap(BaseException):
    """What is no Exception."""


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("mine"),
        ExceptionGroup("mine", [ValueError()]),
        Mishap(),
        KeyboardInterrupt(),
        BaseExceptionGroup("mine", [KeyboardInterrupt()]),
        BaseExceptionGroup("mine", [BaseExceptionGroup("", [Mishap()]), ValueError()]),
    ],
    ids=repr,
)
async def test_what_the_block_raises_leaves_bare(
    kind: str, problem: BaseException, autojump_clock: MockClock
) -> None:
    cause = ZeroDivisionError()
    async with scene(kind) as (gateway, signal):
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            async with signal.typing(PEER):
                await trio.sleep(1)
                raise problem from cause
        assert caught.value is problem
        assert problem.__cause__ is cause
        assert [what for _, what in typing_at(gateway)] == ["show", "stop"]


async def test_it_is_taken_away_when_cancelled_and_cannot_hold_that_up(
    kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        with trio.move_on_after(3) as scope:
            async with signal.typing(PEER):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert [what for _, what in typing_at(gateway)] == ["show", "stop"]
        script_typing(gateway, hang())
        start = trio.current_time()
        with trio.move_on_after(3):
            async with signal.typing(PEER):
                await trio.sleep_forever()
        assert round(trio.current_time() - start, 3) == 5


async def test_a_cancellation_leaves_bare_too(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (_, signal):
        with trio.move_on_after(3):
            with pytest.raises(trio.Cancelled):
                async with signal.typing(PEER):
                    await trio.sleep_forever()
        # What the block raises while it is cancelled is not lost in that.
        for problem in (ValueError(), KeyboardInterrupt()):
            with trio.CancelScope() as scope, pytest.raises(type(problem)):
                async with signal.typing(PEER):
                    scope.cancel()
                    raise problem


def script_typing(gateway: FakeGateway, *answers: Any) -> None:
    """Let typing be answered like that."""
    cli = not asked(gateway, "/v1/typing-indicator/")
    gateway.script("RPC sendTyping" if cli else f"PUT /v1/typing-indicator/{OWN}", *answers)


async def test_entering_and_leaving_are_checkpoints(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with signal.typing(PEER):
                pytest.fail("it was entered")
        assert scope.cancelled_caught
        assert not typing_at(gateway)
        with trio.CancelScope() as scope:
            async with signal.typing(PEER):
                await trio.sleep(1)
                scope.cancel()
        assert scope.cancelled_caught
        assert [what for _, what in typing_at(gateway)] == ["show", "stop"]


async def test_a_mistake_in_the_task_beside_leaves_bare(autojump_clock: MockClock) -> None:
    async def mistaken(_: bool) -> None:
        await trio.sleep(1)
        raise Mishap

    # A lost Cancelled would end the test unseen.
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with show_typing(mistaken):
            await trio.sleep_forever()
    assert isinstance(caught.value, Mishap)


async def test_a_gateway_that_is_away_disturbs_no_typing(
    kind: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_signal.client")
    async with scene(kind) as (gateway, signal):
        gateway.kill()
        async with signal.typing(PEER):
            await trio.sleep(15)
    texts = [text for text in logged(caplog.records, logging.INFO) if "that we type" in text]
    assert len(texts) == 3
    assert PEER not in "".join(texts)


async def test_a_block_that_is_over_at_once_shows_nothing_for_long(
    kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        async with signal.typing(PEER):
            pass
        assert [what for _, what in typing_at(gateway)][-1:] in ([], ["stop"])


# --- Groups. ---


@pytest.mark.contract("A3")
async def test_groups_are_the_same_recipients_everywhere(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.groups[GROUP_ID] = group(
            GROUP_ID, name="Team", members=[OWN, PEER], admins=[OWN], description="us"
        )
        gateway.groups[GROUP_ID]["pendingMembers"] = [{"number": OTHER, "uuid": uuid_of(OTHER)}]
        (found,) = await signal.list_groups()
        assert await signal.get_group(GROUP) == found
        assert await signal.get_group(group_recipient("bm9uZQ==")) is None
    assert isinstance(found, Group)
    assert found.id == GROUP
    assert (found.name, found.description) == ("Team", "us")
    assert set(found.members) == {OWN, PEER}
    assert found.admins == (OWN,)
    assert found.pending_members == (OTHER,)
    assert found.requesting_members == ()


@pytest.mark.contract("A1", "A3")
async def test_a_group_is_made_changed_and_left(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        made = await signal.create_group(
            "Team",
            [PEER],
            description="us",
            link="enabled",
            permissions=GroupPermissions(add_members="only-admins"),
        )
        state = gateway.groups[group_internal_id(made)]
        assert (state["name"], state["description"]) == ("Team", "us")
        assert state["permissionAddMember"] == "ONLY_ADMINS"
        assert state["groupInviteLink"]
        await signal.update_group(made, name="Crew", expiration=60, link="disabled")
        assert (state["name"], state["description"]) == ("Crew", "us")
        assert state["messageExpirationTime"] == 60
        assert state["groupInviteLink"] is None
        await signal.add_members(made, [OTHER])
        await signal.add_admins(made, [PEER])
        assert numbers(state["members"]) == {OWN, PEER, OTHER}
        assert numbers(state["admins"]) == {OWN, PEER}
        await signal.remove_admins(made, [PEER])
        await signal.remove_members(made, [OTHER])
        assert numbers(state["members"]) == {OWN, PEER}
        assert numbers(state["admins"]) == {OWN}
        await signal.quit_group(made)
        assert state["isMember"] is False
        # One can write to what came back.
        await done(await signal.send_message(made, "bye"))
    assert gateway.received[-1].recipients == [made]


def numbers(people: list[dict[str, Any]]) -> set[str]:
    return {person["number"] for person in people}


async def test_an_invitation_is_accepted(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.groups[GROUP_ID] = group(GROUP_ID, isMember=False)
        assert await signal.join_group(GROUP) in {GROUP, None}
        assert gateway.groups[GROUP_ID]["isMember"]


async def test_a_group_is_joined_by_its_link_where_that_can_be(kind: str, autojump_clock: MockClock) -> None:
    link = "https://signal.group/#CjQKIAbc"
    async with scene(kind) as (gateway, signal):
        gateway.groups[GROUP_ID] = group(GROUP_ID, isMember=False, link=link)
        if kind == "rest":
            with pytest.raises(Unsupported, match="signal-cli"):
                await signal.join_group(link)
        else:
            assert await signal.join_group(link) == GROUP
            assert gateway.groups[GROUP_ID]["isMember"]


@pytest.mark.contract("A1")
async def test_what_the_gateway_refuses_is_told_in_its_words(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (_, signal):
        with pytest.raises(RequestFailed) as caught:
            await signal.update_group(GROUP, name="New")
    assert "not found" in str(caught.value)


# --- People, profile, accounts, challenges. ---


async def test_contacts_are_listed_and_changed(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.contacts[PEER] = contact(PEER, name="Ada")
        (found,) = await signal.list_contacts()
        await signal.list_contacts(all_recipients=True)
        await signal.update_contact(OTHER, name="Bob", expiration=3600)
    assert isinstance(found, Contact)
    assert (found.recipient, found.uuid, found.name) == (PEER, uuid_of(PEER), "Ada")
    assert gateway.contacts[OTHER]["name"] == "Bob"
    assert gateway.contacts[OTHER]["messageExpirationTime"] == 3600


async def test_the_profile_is_changed(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        await signal.update_profile(name="Bot", about="answers", avatar=b"\x89PNG\r\n\x1a\n")
    assert gateway.profiles[OWN]["givenName"] == "Bot"
    assert gateway.profiles[OWN]["about"] == "answers"
    assert gateway.profiles[OWN]["hasAvatar"]


async def test_accounts_are_listed(kind: str, autojump_clock: MockClock) -> None:
    async with open_gateway(kind=kind, accounts=[OWN, OTHER]) as gateway:
        async with client(gateway, kind) as signal:
            assert set(await signal.list_accounts()) == {OWN, OTHER}


@pytest.mark.contract("A5")
async def test_a_solved_challenge_lets_the_queue_go_on(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.script_send(rate_limited("token"))
        await signal.send_message(PEER, "one")
        waiting = await signal.send_message(PEER, "two")
        await wait_all_tasks_blocked()
        start = trio.current_time()
        assert signal.statistics().paused_until is not None
        await signal.submit_rate_limit_challenge("token", "signalcaptcha://solved")
        await done(waiting)
        assert trio.current_time() - start < 5
    challenges = asked(gateway, "rate-limit-challenge") + asked(gateway, "submitRateLimitChallenge")
    assert "signalcaptcha://solved" in json.dumps(challenges)


@pytest.mark.contract("A5")
async def test_so_does_one_that_a_hub_hands_on(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.script_send(rate_limited("token"))
        await signal.send_message(PEER, "one")
        await wait_all_tasks_blocked()
        assert signal.statistics().paused_until is not None
        await signal._operate(SubmitRateLimitChallenge("token", "signalcaptcha://solved"))
        assert signal.statistics().paused_until is None


@pytest.mark.contract("A5")
async def test_one_that_is_refused_does_not(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.script_send(rate_limited("token"))
        await signal.send_message(PEER, "one")
        await wait_all_tasks_blocked()
        path = f"POST /v1/accounts/{OWN}/rate-limit-challenge"
        gateway.script(path if kind == "rest" else "RPC submitRateLimitChallenge", hang())
        with pytest.raises(RequestFailed):
            await signal.submit_rate_limit_challenge("token", "signalcaptcha://solved", timeout=5)
        assert signal.statistics().paused_until is not None


# --- Files that the gateway keeps (see also test_saving.py), and its own words. ---


async def test_kept_files_are_listed_and_deleted(autojump_clock: MockClock) -> None:
    async with scene("rest") as (gateway, signal):
        message = await arrived(gateway, signal, envelopes.with_attachments())
        gateway.attachments.update({"picture.jpg": b"x", "b.txt": b"y"})
        assert set(await signal.list_attachments()) == {"picture.jpg", "b.txt"}
        await signal.delete_attachment(message.attachments[0])
        await signal.delete_attachment("b.txt")
        assert not gateway.attachments


@pytest.mark.contract("A1")
async def test_where_that_cannot_be_it_is_said_who_can(autojump_clock: MockClock) -> None:
    async with scene("signal-cli") as (_, signal):
        for what in (signal.list_attachments(), signal.delete_attachment("b.txt")):
            with pytest.raises(Unsupported, match='gateway="rest"'):
                await what


async def test_a_gateway_is_asked_in_its_own_words(kind: str, autojump_clock: MockClock) -> None:
    own, foreign = ("GET /v1/accounts", "listAccounts")[:: 1 if kind == "rest" else -1]
    async with scene(kind) as (_, signal):
        assert OWN in str(await signal.call(own))
        with pytest.raises(Unsupported):
            await signal.call(foreign)


# --- How it is asked. ---


Ask = Callable[[Any], Awaitable[object]]

NOBODY: Final[dict[str, Any]] = {"add_members": "nobody"}

WRONG: Final[list[tuple[str, Ask]]] = [
    ("account", lambda signal: signal.list_groups(account=PEER)),
    ("account", lambda signal: signal.send_reaction(Target(PEER, PEER, T), "👍", account=OTHER)),
    ("timeout", lambda signal: signal.list_groups(timeout=0)),
    ("timeout", lambda signal: signal.list_accounts(timeout="1")),
    ("target", lambda signal: signal.send_reaction("hi", "👍")),
    ("target", lambda signal: signal.send_receipt(None)),
    ("emoji", lambda signal: signal.send_reaction(Target(PEER, PEER, T), "")),
    ("remove", lambda signal: signal.send_reaction(Target(PEER, PEER, T), "👍", remove=1)),
    ("text", lambda signal: signal.edit_message(Target(PEER, OWN, T), "")),
    ("kind", lambda signal: signal.send_receipt(Target(PEER, PEER, T), "seen")),
    ("stop", lambda signal: signal.send_typing(PEER, stop="no")),
    ("recipient", lambda signal: signal.send_typing("Ada")),
    ("group", lambda signal: signal.get_group(PEER)),
    ("group", lambda signal: signal.update_group(None, name="x")),
    ("group", lambda signal: signal.add_members(PEER, [PEER])),
    ("group", lambda signal: signal.join_group(5)),
    ("group", lambda signal: signal.quit_group("")),
    ("name", lambda signal: signal.create_group(None)),
    ("name", lambda signal: signal.create_group(" ")),
    ("name", lambda signal: signal.update_group(GROUP)),
    ("name", lambda signal: signal.update_contact(PEER)),
    ("name", lambda signal: signal.update_profile()),
    ("members", lambda signal: signal.create_group("Team", PEER)),
    ("members", lambda signal: signal.add_members(GROUP, PEER)),
    ("members", lambda signal: signal.add_members(GROUP, [])),
    ("members", lambda signal: signal.remove_admins(GROUP, [GROUP])),
    ("members", lambda signal: signal.remove_members(GROUP, [5])),
    ("description", lambda signal: signal.update_group(GROUP, description=5)),
    ("expiration", lambda signal: signal.update_group(GROUP, expiration="1")),
    ("expiration", lambda signal: signal.update_contact(PEER, expiration=True)),
    ("expiration", lambda signal: signal.create_group("Team", expiration=-1)),
    ("link", lambda signal: signal.update_group(GROUP, link="on")),
    ("permissions", lambda signal: signal.update_group(GROUP, permissions="all")),
    ("name", lambda signal: signal.update_group(GROUP, permissions=GroupPermissions())),
    ("avatar", lambda signal: signal.update_group(GROUP, avatar=b"")),
    ("avatar", lambda signal: signal.update_profile(name="Bot", avatar=b"")),
    ("operation", lambda signal: signal._operate(5)),
    ("operation", lambda signal: signal._operate(Operation())),
    ("operation", lambda signal: signal._operate(ListGroups)),
    (
        "permissions.add_members",
        lambda signal: signal.create_group("Team", permissions=GroupPermissions(**NOBODY)),
    ),
    ("avatar", lambda signal: signal.update_profile(avatar=b"x" * (16 << 20))),
    ("all_recipients", lambda signal: signal.list_contacts(all_recipients="yes")),
    ("challenge_token", lambda signal: signal.submit_rate_limit_challenge(None, "signalcaptcha://x")),
    ("captcha", lambda signal: signal.submit_rate_limit_challenge("token", "solved")),
    ("captcha", lambda signal: signal.submit_rate_limit_challenge("token", None)),
    ("attachment", lambda signal: signal.delete_attachment("../x")),
    ("attachment", lambda signal: signal.delete_attachment(None)),
    ("what", lambda signal: signal.call(None)),
    ("what", lambda signal: signal.call("")),
]


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("argument", "ask"), WRONG, ids=[f"{number}-{argument}" for number, (argument, _) in enumerate(WRONG)]
)
async def test_a_wrong_argument_is_named_and_nothing_is_asked(
    argument: str, ask: Ask, kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind) as (gateway, signal):
        before = len(gateway.requests)
        with pytest.raises(ConfigurationError) as caught:
            await ask(signal)
        assert caught.value.argument == argument
        assert len(gateway.requests) == before


def test_a_wrong_recipient_of_typing_is_named_at_once() -> None:
    async def main() -> None:
        async with open_fake_gateway(port=None) as gateway:
            async with open_signal_client(gateway.url, OWN, connect=gateway.connect) as signal:
                with pytest.raises(ConfigurationError) as caught:
                    signal.typing("Ada")
                assert caught.value.argument == "recipient"

    trio.run(main)


@pytest.mark.contract("A1")
async def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_asked(
    kind: str, autojump_clock: MockClock
) -> None:
    async with scene(kind, send_timeout=20.0) as (gateway, signal):
        gateway.script(f"POST /v1/groups/{OWN}" if kind == "rest" else "RPC updateGroup", hang(), hang())
        for timeout, takes in ((7.0, 7.0), (None, 20.0)):
            start = trio.current_time()
            with pytest.raises(RequestFailed) as caught:
                await signal.create_group("Team", timeout=timeout)
            assert trio.current_time() - start == pytest.approx(takes)
            assert caught.value.certainty is Certainty.UNKNOWN
        assert len(asked(gateway, "/v1/groups/") + asked(gateway, "updateGroup")) == 2


@pytest.mark.contract("A1")
async def test_nothing_waits_for_a_connection(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        gateway.kill()
        # Connections that were kept for the next request have been given up by then.
        await trio.sleep(30)
        start = trio.current_time()
        with pytest.raises(RequestFailed) as caught:
            await signal.create_group("Team")
        assert caught.value.certainty is Certainty.NOT_SENT
        assert trio.current_time() - start < 1


async def test_a_closed_client_asks_nothing(kind: str, autojump_clock: MockClock) -> None:
    async with scene(kind) as (gateway, signal):
        pass
    before = len(gateway.requests)
    for what in (signal.list_groups(), signal.call("x"), signal.send_typing(PEER)):
        with pytest.raises(ClientClosed):
            await what
    with pytest.raises(ClientClosed):
        async with signal._download(None):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            pass
    assert len(gateway.requests) == before


async def test_what_waits_for_its_turn_when_the_client_closes_is_told_so(autojump_clock: MockClock) -> None:
    told: list[BaseException] = []

    async def ask(what: Awaitable[object]) -> None:
        try:
            await what
        except (ClientClosed, RequestFailed) as error:
            told.append(error)

    async with trio.open_nursery() as nursery:
        async with scene("rest") as (gateway, signal):
            gateway.script(f"GET /v1/groups/{OWN}", hang())
            nursery.start_soon(ask, signal.list_groups(timeout=50))
            await wait_all_tasks_blocked()
            nursery.start_soon(ask, signal.call("POST /v1/x"))
            nursery.start_soon(ask, signal.send_typing(PEER))
            nursery.start_soon(ask, signal.list_contacts())
            await wait_all_tasks_blocked()
            before = len(gateway.requests)
    assert len(gateway.requests) == before
    assert [type(error) for error in told] == [ClientClosed] * 4


async def test_what_was_under_way_when_the_client_closed_may_have_been_done(
    kind: str, autojump_clock: MockClock
) -> None:
    told: list[RequestFailed] = []

    async def ask(signal: SignalClient) -> None:
        with pytest.raises(RequestFailed) as caught:
            await signal.create_group("Team", timeout=50)
        told.append(caught.value)

    async with trio.open_nursery() as nursery:
        async with scene(kind) as (gateway, signal):
            gateway.script(f"POST /v1/groups/{OWN}" if kind == "rest" else "RPC updateGroup", hang())
            nursery.start_soon(ask, signal)
            await wait_all_tasks_blocked()
    assert [error.certainty for error in told] == [Certainty.UNKNOWN]


# --- A client of all accounts. ---


async def test_a_client_of_all_accounts_acts_as_the_one_that_a_message_came_for(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(kind="signal-cli", accounts=[OWN, OTHER]) as gateway:
        async with client(gateway, "signal-cli", None) as signal:
            gateway.deliver(account=OTHER)
            message = await anext(signal.receive_messages())
            assert (message.account, signal.account) == (OTHER, None)
            await done(await signal.send_reaction(message, "👍"))
            answer = await signal.send_message(PEER, "hi", account=OTHER)
            await done(answer)
            await done(await signal.edit_message(answer, "hello"))
            await signal.send_receipt(message)
            assert {sent.number for sent in gateway.received} == {OTHER}
            assert [body["account"] for body in asked(gateway, "sendReceipt")] == [OTHER]


@pytest.mark.contract("A1")
async def test_it_must_be_told_where_nothing_else_tells(autojump_clock: MockClock) -> None:
    async with open_gateway(kind="signal-cli", accounts=[OWN, OTHER]) as gateway:
        async with client(gateway, "signal-cli", None) as signal:
            for what in (
                signal.send_reaction(Target(PEER, PEER, T), "👍"),
                signal.list_groups(),
                signal.list_groups(account="Ada"),
                signal.send_typing(PEER),
            ):
                with pytest.raises(ConfigurationError) as caught:
                    await what
                assert caught.value.argument == "account"
            assert await signal.list_groups(account=OTHER) == ()
            assert set(await signal.list_accounts()) == {OWN, OTHER}
            assert await signal.call("version") is not None


# --- Pictures from the disk, by the real clock: reading takes a thread. ---


async def test_a_picture_is_read_from_the_disk(kind: str, tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with trio.fail_after(30):
        async with (
            open_fake_gateway(kind=kind, port=None) as gateway,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            open_signal_client(gateway.url, OWN, gateway=kind, connect=gateway.connect) as signal,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        ):
            await signal.update_profile(name="Bot", avatar=tmp_path / "me.png")
            assert gateway.profiles[OWN]["hasAvatar"]
            for missing in (tmp_path / "none", tmp_path, 5, "a\0b"):
                with pytest.raises(ConfigurationError) as caught:
                    await signal.update_profile(name="Bot", avatar=missing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                assert caught.value.argument == "avatar"
