"""The messages that go to and fro: the same ones in every run. Standard library only."""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .contender import Item, Work

#: All numbers are of those that are kept for invented people.
ACCOUNT: Final = "+12025550199"

#: How many different envelopes there are; apart from that each message has a timestamp of its own.
_VARIANTS: Final = 256
#: The sizes of an envelope in bytes: what signal-cli makes of a text of some sentences.
SMALLEST, LARGEST = 550, 900
_PEOPLE: Final = 40
_CHAT_VARIANTS: Final = 8
_GROUPS: Final = 8

_FIRST_TIMESTAMP: Final = 1_700_000_000_000
#: Stands for a timestamp while an envelope is a template; as wide as one.
_STAMP: Final = 9_999_999_999_999

#: Some that are plain, some that JSON escapes, some that take two to four bytes.
_WORDS: Final = (
    *("the", "signal", "came", "back", "after", "the", "storm", "and", "nobody", "had", "noticed", "until"),
    *("somebody", "asked", "for", "tomorrow", "too"),
    *('"quoted"', "back\\slash", "and\nnew\tlines", "Köln", "„gestern“", "naïve", "日本", "👍"),
)


def frames(count: int) -> Iterator[tuple[Item, bytes]]:
    """Yield messages and the WebSocket frames that carry them: half to groups, timestamps rising by one.

    Compact JSON in one unmasked text frame each, as the gateway sends it.
    """
    templates = [_template(variant) for variant in range(_VARIANTS)]
    for place in range(count):
        (sender, group, text), parts = templates[place % _VARIANTS]
        stamp = timestamp(place)
        yield (stamp, sender, group, text), str(stamp).encode().join(parts)


def chat(person: int, people: int, count: int) -> Iterator[tuple[Item, bytes]]:
    """Yield what one of these people says, and the frames; no two people have a timestamp in common."""
    templates = [_template(variant, person) for variant in range(_CHAT_VARIANTS)]
    for place in range(count):
        (sender, group, text), parts = templates[place % _CHAT_VARIANTS]
        stamp = timestamp(place * people + person)
        yield (stamp, sender, group, text), str(stamp).encode().join(parts)


def answers(people: int, each: int) -> list[Item]:
    """Return the answers to these conversations, each of which repeats what it answers."""
    said = (item for person in range(people) for item, _ in chat(person, people, each))
    return by_conversation((None, sender, None, text) for _, sender, _, text in said)


def by_conversation(items: Iterable[Item]) -> list[Item]:
    """Sort by person and keep the order inside each conversation.

    For among different conversations no order is promised.
    """
    return sorted(items, key=lambda item: item[1] or "")


def broadcasts(count: int) -> list[tuple[int, bytes]]:
    """Return what a hub is to broadcast: a timestamp, and an envelope as the gateway sends it."""
    return [(timestamp(number), frame[4:]) for number, (_, frame) in enumerate(frames(count))]


def hub_messages(count: int) -> list[bytes]:
    """Return the same as a hub's clients get it, numbered from 1."""
    return [
        b'{"type":"message","sequence_number":%d,"timestamp":%d,"data":%b}' % (number, stamp, envelope)
        for number, (stamp, envelope) in enumerate(broadcasts(count), 1)
    ]


def broadcast_work(messages: Iterable[bytes], clients: int) -> Work:
    """Sum up that each of so many clients got these messages of a hub, in this order."""
    work = Work.of(map(hub_item, messages))
    return Work(work.count * clients, work.digest)


def hub_item(message: bytes) -> Item:
    """Return what a hub's message says."""
    said = json.loads(message)
    return said["timestamp"], str(said["sequence_number"]), None, json.dumps(said["data"])


def timestamp(number: int) -> int:
    """Return the timestamp of the message with this number, in milliseconds since the epoch."""
    return _FIRST_TIMESTAMP + number


def outgoing(count: int) -> list[tuple[str, str]]:
    """Return messages to send: recipient and text."""
    source = random.Random(2)
    return [(number(source.randrange(_PEOPLE)), f"{place} {_prose(source, 80)}") for place in range(count)]


def outgoing_to(people: int, each: int) -> list[list[tuple[str, str]]]:
    """Return what to send to each of these people: recipient and text."""
    source = random.Random(3)
    return [
        [(number(person), f"{place * people + person} {_prose(source, 80)}") for place in range(each)]
        for person in range(people)
    ]


def number(person: int) -> str:
    """Return a person's phone number."""
    return f"+120255501{person:02d}"


def uuid(person: int) -> str:
    """Return a person's identifier."""
    return f"00000000-0000-4000-8000-{person:012d}"


#: The phone numbers by the identifiers.
NUMBERS: Final = {uuid(person): number(person) for person in range(_PEOPLE)}


def groups() -> list[dict[str, Any]]:
    """Return the account's groups as the gateway lists them."""
    permissions = dict.fromkeys(("add_members", "edit_group", "send_messages"), "every-member")
    listed = ("admins", "members", "pending_invites", "pending_requests")
    return [
        {
            "id": f"group.{place:060d}",
            "internal_id": _group(place),
            "name": f"Group {place}",
            "description": "",
            "blocked": False,
            "member": True,
            "invite_link": "",
            "permissions": permissions,
            **{name: [] for name in listed},
        }
        for place in range(_GROUPS)
    ]


def _template(variant: int, person: int | None = None) -> tuple[tuple[str, str | None, str], list[bytes]]:
    """Return sender, group and text of an envelope, and its frame cut at each timestamp.

    It is sent by this person to the account alone; if none is given by anybody, every other one to a group.
    """
    source = random.Random(variant if person is None else f"{person} {variant}")
    group = None
    if person is None:
        person = source.randrange(_PEOPLE)
        group = _group(source.randrange(_GROUPS)) if variant % 2 else None
    size = source.randrange(SMALLEST, LARGEST)
    text = _prose(source, 20)
    # Lengthened to the size by whole words, of which the longest is over 20 bytes when escaped.
    while (lacking := size - len(_payload(person, group, text))) > 0:
        text += " " + (source.choice(_WORDS) if lacking > 30 else "x" * lacking)
    payload = _payload(person, group, text)
    head = bytes([0x81, 126]) + len(payload).to_bytes(2, "big")
    return (number(person), group, text), (head + payload).split(str(_STAMP).encode())


def _payload(person: int, group: str | None, text: str) -> bytes:
    data: dict[str, Any] = {
        "timestamp": _STAMP,
        "message": text,
        "expiresInSeconds": 0,
        "isExpirationUpdate": False,
        "viewOnce": False,
    }
    if group is not None:
        data["groupInfo"] = {"groupId": group, "groupName": "A group", "revision": 3, "type": "DELIVER"}
    envelope = {
        "source": number(person),
        "sourceNumber": number(person),
        "sourceUuid": uuid(person),
        "sourceName": f"Person {person}",
        "sourceDevice": 1,
        "timestamp": _STAMP,
        "serverReceivedTimestamp": _STAMP,
        "serverDeliveredTimestamp": _STAMP,
        "dataMessage": data,
    }
    return json.dumps(
        {"envelope": envelope, "account": ACCOUNT}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _group(place: int) -> str:
    return f"{place:043d}="


def _prose(source: random.Random, size: int) -> str:
    text = source.choice(_WORDS)
    while len(text) < size:
        text += " " + source.choice(_WORDS)
    return text
