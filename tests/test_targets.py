"""Which message a reaction, an edit, a deletion or a receipt is about."""

import json
from typing import Any, Final

import pytest

from trio_signal import ConfigurationError, Dropped, DropReason, Failed, OutgoingMessage, Sent
from trio_signal._contents import Content, Reaction, RemoteDelete, Target, Text
from trio_signal._decoding import decode_frame
from trio_signal._envelopes import ReceivedMessage
from trio_signal._errors import Certainty, SignalError
from trio_signal._outcomes import Outcome
from trio_signal._outgoing import settle
from trio_signal._targets import TargetLike, account_of, find_foreign_target, find_own_target, find_target
from trio_signal._wire import group_recipient
from trio_signal.testing import envelopes
from trio_signal.testing.envelopes import uuid_of

OWN: Final = "+15550001"
PEER: Final = "+15550002"
OTHER: Final = "+15550003"
GROUP_ID: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GROUP: Final = group_recipient(GROUP_ID)
T: Final = 1_795_302_684_386
EARLIER: Final = T - 60_000


def received(envelope: dict[str, Any], *, timestamp: int = T, account: str = OWN) -> ReceivedMessage:
    frame = {"envelope": envelopes.stamped(envelope, timestamp), "account": account}
    message = decode_frame(json.dumps(frame))
    assert isinstance(message, ReceivedMessage)
    return message


def sent(
    outcome: Outcome | None, content: str | Content = "hi", recipient: str = PEER, account: str | None = OWN
) -> OutgoingMessage:
    message = OutgoingMessage(recipient, content, account=account)
    if outcome is not None:
        settle(message, outcome)
    return message


def refused(target: Any, *, find: Any = find_target, own: str = OWN) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        find(target, own)
    return caught.value


# --- Where it stands, who wrote it, when. ---


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (received(envelopes.text()), Target(PEER, uuid_of(PEER), T)),
        (received(envelopes.text(group=GROUP_ID)), Target(GROUP, uuid_of(PEER), T)),
        (received(envelopes.sync_sent("hi", account=OWN, recipient=OTHER)), Target(OTHER, uuid_of(OWN), T)),
        (received(envelopes.poll("?", "a", "b")), Target(PEER, uuid_of(PEER), T)),
        (sent(Sent(T)), Target(PEER, OWN, T)),
        (sent(Sent(T), recipient=GROUP), Target(GROUP, OWN, T)),
        (sent(Sent(T), account=None), Target(PEER, OWN, T)),
        (sent(Sent(T), Text("new", edits=EARLIER)), Target(PEER, OWN, T)),
        (sent(Sent(T), account=OTHER), Target(PEER, OTHER, T)),
        (Target(GROUP, PEER, T), Target(GROUP, PEER, T)),
    ],
    ids=[
        "came",
        "came-in-group",
        "own-device",
        "poll",
        "sent",
        "sent-to-group",
        "sent-by-the-only-account",
        "sent-edit",
        "sent-by-another-account",
        "target",
    ],
)
def test_a_message_is_found_whatever_holds_it(target: TargetLike, found: Target) -> None:
    assert find_target(target, OWN) == found


def test_an_edited_message_is_named_by_the_edit() -> None:
    edit = received(envelopes.edit("new", EARLIER, group=GROUP_ID))
    assert find_target(edit, OWN) == Target(GROUP, uuid_of(PEER), T)


def test_a_sender_without_a_uuid_is_named_by_number() -> None:
    envelope = envelopes.text()
    del envelope["sourceUuid"]
    assert find_target(received(envelope), OWN) == Target(PEER, PEER, T)


# --- What is no message, or not enough of one. ---


@pytest.mark.parametrize(
    "envelope",
    [
        envelopes.reaction("👍", EARLIER),
        envelopes.remote_delete(EARLIER),
        envelopes.receipt(EARLIER),
        envelopes.typing(),
        envelopes.poll_vote(EARLIER, 0),
        envelopes.call(),
        envelopes.sync(account=OWN, type="CONTACTS_SYNC"),
    ],
    ids=["reaction", "remote_delete", "receipt", "typing", "poll_vote", "call", "sync"],
)
def test_what_is_no_message_is_refused(envelope: dict[str, Any], request: pytest.FixtureRequest) -> None:
    message = received(envelope)
    error = refused(message)
    assert error.argument == "target"
    assert f"a {message.kind} is no message" in str(error)


def test_what_could_not_be_decrypted_is_no_message() -> None:
    envelope = envelopes.stamped(envelopes.text(), T)
    frame = {"envelope": envelope, "account": OWN, "exception": {"message": "no", "type": "SomeException"}}
    message = decode_frame(json.dumps(frame))
    assert "is no message" in str(refused(message))


@pytest.mark.parametrize("missing", ["where", "who", "when"])
def test_a_message_that_does_not_tell_enough_is_refused(missing: str) -> None:
    envelope = envelopes.stamped(envelopes.text(), T)
    if missing == "where":
        envelope["dataMessage"]["groupInfo"] = {"groupId": None}
    elif missing == "who":
        envelope |= {"source": None, "sourceNumber": None, "sourceUuid": None}
    else:
        envelope["timestamp"] = envelope["dataMessage"]["timestamp"] = None
    message = decode_frame(json.dumps({"envelope": envelope, "account": OWN}))
    assert "where it stands, who wrote it and when" in str(refused(message))


@pytest.mark.parametrize(
    "outcome", [None, Dropped(DropReason.EXPIRED), Failed(SignalError("no"), Certainty.UNKNOWN)]
)
def test_what_was_not_sent_is_no_target_yet(outcome: Outcome | None) -> None:
    error = refused(sent(outcome))
    assert error.argument == "target"
    assert "await message.wait()" in str(error)


def test_a_sent_message_without_a_timestamp_is_no_target() -> None:
    assert "did not tell its timestamp" in str(refused(sent(Sent(0))))


@pytest.mark.parametrize("content", [Reaction("👍", PEER, T), RemoteDelete(T)])
def test_a_reaction_of_ours_is_no_target(content: Content) -> None:
    assert type(content).__name__ in str(refused(sent(Sent(T), content)))


@pytest.mark.parametrize("target", [None, T, "hi", (PEER, PEER, T)], ids=repr)
def test_anything_else_is_no_target(target: object) -> None:
    assert refused(target).argument == "target"


# --- Whose it is. ---


@pytest.mark.parametrize(
    "target",
    [
        received(envelopes.sync_sent("hi", account=OWN, recipient=OTHER)),
        # What a device sends with notify_self comes back as an ordinary message.
        received(envelopes.text(sender=OWN)),
        received(envelopes.text(sender=OWN), account=uuid_of(OWN)),
        # In a client of all accounts: what one of ours wrote to another of ours.
        received(envelopes.text(sender=OWN), account=OTHER),
        sent(Sent(T)),
        Target(PEER, OWN, T),
        # Nobody has told us our own UUID.
        Target(PEER, uuid_of(OWN), T),
    ],
    ids=["own-device", "notify-self", "notify-self-by-uuid", "to-ours", "sent", "by-number", "by-uuid"],
)
def test_own_messages_may_be_changed(target: TargetLike) -> None:
    assert find_own_target(target, OWN) == find_target(target, OWN)


@pytest.mark.parametrize(
    "target",
    [received(envelopes.text()), sent(Sent(T), account=OTHER), Target(PEER, PEER, T)],
    ids=["came", "of-another-account", "target"],
)
def test_the_messages_of_others_may_not(target: TargetLike) -> None:
    error = refused(target, find=find_own_target)
    assert error.argument == "target"
    assert "another wrote it" in str(error)


def test_receipts_are_for_the_messages_of_others() -> None:
    for foreign in (
        received(envelopes.text()),
        Target(PEER, PEER, T),
        received(envelopes.text(group=GROUP_ID)),
    ):
        assert find_foreign_target(foreign, OWN) == find_target(foreign, OWN)
    for own in (
        received(envelopes.sync_sent("hi", account=OWN, recipient=OTHER)),
        sent(Sent(T)),
        Target(PEER, OWN, T),
    ):
        assert "message of our own" in str(refused(own, find=find_foreign_target))


def test_it_is_told_whose_a_message_is() -> None:
    assert account_of(received(envelopes.text(), account=OTHER)) == OTHER
    assert account_of(sent(None, account=OTHER)) == OTHER
    assert account_of(Target(PEER, PEER, T)) is None
