"""Operations as values: what they refuse, and that a hub can pass them on as they are."""

import itertools
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from trio_signal import ConfigurationError
from trio_signal._operations import (
    RESULTS,
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
    may_be_half_done,
)

PEER = "+15550101"
UUID = "00000000-0000-4000-8000-000000000002"
GROUP = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
NOW = 1_795_302_674_123
LINK = "https://signal.group/#CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg"

GOOD: list[Operation[Any]] = [
    SendReceipt(PEER, NOW, "viewed"),
    SendTyping(GROUP, stop=True),
    ListGroups(),
    CreateGroup(
        "Cellar", (PEER, UUID, "ada.01"), "wet", 3600, "enabled", GroupPermissions(edit_details="only-admins")
    ),
    CreateGroup("Alone", ()),
    UpdateGroup(
        GROUP, "Attic", "dry", b"\x89PNG", 0, "disabled", GroupPermissions(add_members="every-member")
    ),
    ChangeMembers(GROUP, "remove_admins", (PEER,)),
    JoinGroup(GROUP),
    JoinGroup(LINK),
    QuitGroup(GROUP),
    ListContacts(all_recipients=True),
    UpdateContact(PEER, "Ada", 60),
    UpdateProfile("Bot", "I ring", b"\xff\xd8"),
    ListAccounts(),
    SubmitRateLimitChallenge("token", "signalcaptcha://x"),
    StartLink("bot"),
    FinishLink("sgnl://linkdevice?uuid=x", "bot"),
    ListAttachments(),
    DeleteAttachment("x1-y_2.jpg"),
    DeleteAttachment("a..b"),
    DeleteAttachment("AbC.(1) [x] größe 👋%2F?#*"),
    DeleteAttachment("ü" * 127 + "x"),
]


@pytest.mark.parametrize("operation", GOOD, ids=lambda operation: ascii(msgspec.json.encode(operation))[:50])
def test_an_operation_is_passed_on_as_it_is(operation: Operation[Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(operation), type=AnyOperation) == operation


def test_every_operation_has_a_result_and_an_example() -> None:
    kinds = set(get_args(AnyOperation))
    assert kinds == set(RESULTS) == {type(operation) for operation in GOOD}


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: SendReceipt(GROUP, NOW), "recipient"),
        (lambda: SendReceipt(PEER, -1), "target.timestamp"),
        (lambda: SendTyping("nobody"), "recipient"),
        (lambda: CreateGroup(" ", ()), "name"),
        (lambda: CreateGroup("x" * 5000, ()), "name"),
        (lambda: CreateGroup("x", (GROUP,)), "members"),
        (lambda: CreateGroup("x", (PEER,) * 1001), "members"),
        (lambda: CreateGroup("x", (), "x" * 5000), "description"),
        (lambda: CreateGroup("x", (), expiration=-1), "expiration"),
        (lambda: UpdateGroup(PEER), "group"),
        (lambda: UpdateGroup(GROUP, ""), "name"),
        (lambda: UpdateGroup(GROUP), "name"),
        (lambda: UpdateGroup(GROUP, permissions=GroupPermissions()), "name"),
        (lambda: UpdateGroup(GROUP, avatar=b""), "avatar"),
        (lambda: UpdateProfile("Bot", avatar=b""), "avatar"),
        (lambda: UpdateGroup(GROUP, avatar=bytes(10 * 1024 * 1024 + 1)), "avatar"),
        (lambda: UpdateGroup(GROUP, expiration=10**9), "expiration"),
        (lambda: ChangeMembers(PEER, "add", (PEER,)), "group"),
        (lambda: ChangeMembers(GROUP, "add", ()), "members"),
        (lambda: JoinGroup("https://evil.example/#x"), "group"),
        (lambda: JoinGroup(LINK + "x" * 5000), "group"),
        (lambda: QuitGroup("group."), "group"),
        (lambda: UpdateContact(GROUP), "recipient"),
        (lambda: UpdateContact(PEER, "x" * 5000), "name"),
        (lambda: UpdateProfile("  "), "name"),
        (lambda: UpdateProfile(about="\udcff"), "about"),
        (lambda: SubmitRateLimitChallenge("", "signalcaptcha://x"), "challenge_token"),
        (lambda: SubmitRateLimitChallenge("token", "x"), "captcha"),
        (lambda: StartLink(""), "device_name"),
        (lambda: FinishLink("", "bot"), "uri"),
        (lambda: DeleteAttachment("../x"), "attachment"),
        (lambda: DeleteAttachment("."), "attachment"),
        (lambda: DeleteAttachment(".."), "attachment"),
        (lambda: DeleteAttachment(""), "attachment"),
        (lambda: DeleteAttachment("a/b"), "attachment"),
        (lambda: DeleteAttachment("a\\b"), "attachment"),
        (lambda: DeleteAttachment("a\0"), "attachment"),
        (lambda: DeleteAttachment("a\r\nb"), "attachment"),
        (lambda: DeleteAttachment("a\x7f"), "attachment"),
        (lambda: DeleteAttachment("a\x85"), "attachment"),
        (lambda: DeleteAttachment("\ud800"), "attachment"),
        (lambda: DeleteAttachment("x" * 256), "attachment"),
        (lambda: DeleteAttachment("ü" * 128), "attachment"),
    ],
    ids=itertools.count(),
)
def test_what_no_gateway_can_do_is_refused(make: Any, argument: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.argument == argument


def test_it_is_refused_when_it_is_read_too() -> None:
    with pytest.raises(msgspec.ValidationError, match="recipient: it is a group"):
        msgspec.json.decode(
            msgspec.json.encode({"operation": "SendReceipt", "recipient": GROUP, "timestamp": 5}),
            type=AnyOperation,
        )


@pytest.mark.parametrize(
    "permissions", [None, GroupPermissions(), GroupPermissions(add_members="only-admins")]
)
@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"description": ""}, {"avatar": b"x"}, {"expiration": 0}, {"link": "disabled"}]
)
def test_one_change_is_enough(change: dict[str, Any], permissions: GroupPermissions | None) -> None:
    assert UpdateGroup(GROUP, **change, permissions=permissions).permissions == permissions
    assert UpdateGroup(GROUP, permissions=GroupPermissions(edit_details="every-member")).name is None


@pytest.mark.parametrize(
    "link",
    [
        "https://signal.group#CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg",
        "http://signal.group/#CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg",
        "https://signal.group/CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg",
        "CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg",
        "group.CjQKIAtcbUw482i7bqvmJCwdgvg0FMif52N5v9lGg!",
    ],
)
def test_a_mistyped_link_is_not_repeated(link: str) -> None:
    with pytest.raises(ConfigurationError, match="signal.group/#") as caught:
        JoinGroup(link)
    assert link[:6] in str(caught.value)
    shown = max((link[:end] for end in range(len(link)) if link[:end] in str(caught.value)), key=len)
    assert len(shown) <= 30
    assert "#C" not in shown
    assert link[20:] not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "half"),
    [
        (UpdateContact(PEER, "Ada", 0), True),
        (UpdateContact(PEER, "Ada"), False),
        (UpdateGroup(GROUP, expiration=0), False),
    ],
)
def test_what_may_be_done_in_part(operation: Operation[Any], half: bool) -> None:
    assert may_be_half_done(operation) is half


def test_an_operation_shows_no_content_in_its_repr() -> None:
    operation = SubmitRateLimitChallenge("token", "signalcaptcha://secret")
    assert repr(operation) == "SubmitRateLimitChallenge(challenge_token, captcha)"


def test_what_comes_back_shows_no_content_in_its_repr() -> None:
    group = Group(id=GROUP, name="Secret", members=(PEER,))
    assert repr(group) == "Group(id, name, members)"
    assert group.__rich_repr__() == [("id", "…"), ("name", "…"), ("members", "…")]
    assert repr(Contact(uuid=UUID, is_blocked=False)) == "Contact(uuid, is_blocked)"


@pytest.mark.parametrize(
    ("contact", "recipient"),
    [
        (Contact(number=PEER, uuid=UUID, username="ada.01"), PEER),
        (Contact(uuid=UUID, username="ada.01"), UUID),
        (Contact(username="ada.01"), "ada.01"),
        (Contact(name="Ada"), None),
    ],
)
def test_a_contact_can_be_written_to(contact: Contact, recipient: str | None) -> None:
    assert contact.recipient == recipient


# --- The most of each that is taken, and a little more. ---

WORDS = 4096
YEAR = 366 * 86_400
PICTURE = 10 * 1024 * 1024

Make = Callable[[Any], Operation[Any]]

#: What is made, with how much, with how much more it is refused, and by which name.
LIMITS: list[tuple[Make, int, int, str]] = [
    (lambda n: CreateGroup("x" * n, ()), WORDS, WORDS + 1, "name"),
    (lambda n: UpdateGroup(GROUP, description="x" * n), WORDS, WORDS + 1, "description"),
    (lambda n: UpdateProfile(about="x" * n), WORDS, WORDS + 1, "about"),
    (lambda n: SubmitRateLimitChallenge("t", "signalcaptcha://".ljust(n, "x")), WORDS, WORDS + 1, "captcha"),
    (lambda n: FinishLink("sgnl://x", "x" * n), WORDS, WORDS + 1, "device_name"),
    (lambda n: ChangeMembers(GROUP, "add", (PEER,) * n), 1000, 1001, "members"),
    (lambda n: CreateGroup("x", (), expiration=n), YEAR, YEAR + 1, "expiration"),
    (lambda n: UpdateContact(PEER, expiration=n), YEAR, YEAR + 1, "expiration"),
    (lambda n: UpdateContact(PEER, expiration=n), 0, -1, "expiration"),
    (lambda n: UpdateProfile(avatar=bytes(n)), PICTURE, PICTURE + 1, "avatar"),
    (lambda n: DeleteAttachment("X" * n), 255, 256, "attachment"),
]


@pytest.mark.parametrize(("make", "most", "more", "argument"), LIMITS, ids=range(len(LIMITS)))
def test_the_most_that_is_taken(make: Make, most: int, more: int, argument: str) -> None:
    make(most)
    with pytest.raises(ConfigurationError) as caught:
        make(more)
    assert caught.value.argument == argument


@pytest.mark.parametrize("name", ["", " "])
def test_a_device_has_a_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="device_name: it is empty"):
        StartLink(name)
    with pytest.raises(ConfigurationError, match="device_name: it is empty"):
        FinishLink("sgnl://x", name)
