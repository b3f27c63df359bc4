"""How people and groups are addressed. Pure."""

import re
from typing import Final

from ._errors import ConfigurationError

#: What the address of a group begins with, and no other.
GROUP: Final = "group."

_NUMBER: Final = re.compile(r"\+[1-9][0-9]{0,14}")
_GROUP: Final = re.compile(r"group\.[A-Za-z0-9+/_-]+={0,2}")
#: A sender known only by phone number identity has its UUID written as ``PNI:…``.
_UUID: Final = re.compile(r"(PNI:)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_USERNAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,31}\.[0-9]{2,20}")
_RECIPIENT: Final = re.compile("|".join(form.pattern for form in (_NUMBER, _GROUP, _UUID, _USERNAME)))


def check_number(argument: str, number: object) -> str:
    """Return the number if it has the E.164 form, ``+`` and up to 15 digits.

    Raises:
        ConfigurationError: it has not; the message names ``argument``.
    """
    if isinstance(number, str) and _NUMBER.fullmatch(number):
        return number
    raise ConfigurationError(
        argument, f"{number!r} is not a phone number; write it with + and country code, like +15550100"
    )


def is_recipient(recipient: str) -> bool:
    """Say whether this is a number, a group, a UUID or a username."""
    return _RECIPIENT.fullmatch(recipient) is not None


def check_recipient(recipient: object, *, argument: str = "recipient") -> str:
    """Return the recipient if it is a number, a group, a UUID or a username.

    Raises:
        ConfigurationError: it is none of them. The gateway would take anything else
            for a username and fail late.
    """
    if isinstance(recipient, str) and _RECIPIENT.fullmatch(recipient):
        return recipient
    raise ConfigurationError(
        argument,
        f"{recipient!r} is no Signal address; give a number (+15550100), a group (group.…=), a UUID "
        "or a username (ada.01)",
    )


def is_username(recipient: str) -> bool:
    """Say whether a checked recipient is a username."""
    return _USERNAME.fullmatch(recipient) is not None


def is_group(recipient: str) -> bool:
    """Say whether a checked recipient is a group."""
    return recipient.startswith(GROUP)


def check_group(argument: str, group: object) -> str:
    """Return the group if it is one.

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    if isinstance(group, str) and _GROUP.fullmatch(group):
        return group
    raise ConfigurationError(argument, f"{group!r} is no group; give its recipient (group.…=)")


def check_author(argument: str, author: object) -> str:
    """Return who wrote a message if it can be one: a number or a UUID.

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    if isinstance(author, str) and any(form.fullmatch(author) for form in (_NUMBER, _UUID)):
        return author
    raise ConfigurationError(argument, f"{author!r} is no author; give a person's number or UUID")


def check_person(argument: str, person: object) -> str:
    """Return the person if it is one: a number, a UUID or a username.

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    if is_group(check_recipient(person, argument=argument)):
        raise ConfigurationError(argument, "it is a group; give a person's number, UUID or username")
    return str(person)
