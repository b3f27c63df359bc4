"""Who may be whom: a person has a number and a UUID, and either may be all that is told. Pure."""

from functools import lru_cache
from typing import Final, TypeAlias

from ._recipients import is_group, is_recipient, is_username

#: How many people are remembered.
_MAX_PEOPLE: Final = 1_000

#: No number and no UUID is longer, in characters. What is longer is not remembered.
_LONGEST_NAME: Final = 64

#: What is known to name one person: number, UUID, or both.
Person: TypeAlias = frozenset[str]


class People:
    """Remembers which number belongs to which UUID, of a bounded number of people.

    Attributes:
        uuids: the UUID of each number, in lower case.
    """

    def __init__(self) -> None:
        self.uuids: Final[dict[str, str]] = {}

    def learn(self, number: str | None, uuid: str | None) -> None:
        """Remember that these are one person; nothing where one of them is not told."""
        if number is None or uuid is None:
            return
        known = self.uuids.get(number)
        # signal-cli writes them in lower case: then nothing has to be copied.
        if known == uuid or known == uuid.lower():
            return
        if len(number) > _LONGEST_NAME or len(uuid) > _LONGEST_NAME:
            return
        self.uuids.pop(number, None)
        self.uuids[number] = uuid.lower()
        if len(self.uuids) > _MAX_PEOPLE:
            del self.uuids[next(iter(self.uuids))]

    def all_names(self, person: Person) -> Person:
        """Add the other name of a person of whom one is known."""
        uuids = {self.uuids[name] for name in person if name in self.uuids}
        numbers = {number for number, uuid in self.uuids.items() if uuid in person}
        return person | uuids | numbers

    def may_be(self, one: Person | None, other: Person | None) -> bool:
        """Say whether these may be the same person: they are not where both are named alike and differ.

        None may be anybody.
        """
        if one is None or other is None:
            return True
        one, other = self.all_names(one), self.all_names(other)
        return bool(one & other) or not ({*map(_kind_of, one)} & {*map(_kind_of, other)})


def name_person(*names: str | None) -> Person:
    """Return what of these names a person: numbers and UUIDs; empty for a group or a username."""
    return _name_person(*(name for name in names if name is not None and len(name) <= _LONGEST_NAME))


@lru_cache(maxsize=_MAX_PEOPLE)
def _name_person(*names: str) -> Person:
    return frozenset(
        name.lower() for name in names if is_recipient(name) and not is_group(name) and not is_username(name)
    )


def _kind_of(name: str) -> str:
    """Return what sort of name it is: two of one sort can be compared."""
    return "number" if name.startswith("+") else name.partition(":")[0] if ":" in name else "uuid"
