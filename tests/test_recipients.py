from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ConfigurationError
from trio_signal._recipients import (
    check_author,
    check_group,
    check_number,
    check_person,
    check_recipient,
    is_group,
    is_recipient,
    is_username,
)

NUMBERS = ["+1", "+15550100", "+491701234567", "+123456789012345"]
GROUPS = [
    "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0=",
    "group.YQ==",
    "group.ab+/_-",
]
UUIDS = [
    "00000000-0000-4000-8000-000000000002",
    "ABCDEF01-2345-6789-abcd-ef0123456789",
    "PNI:00000000-0000-4000-8000-000000000002",
]
USERNAMES = ["ada.01", "_ada.123", "Ada_Lovelace.00", "abc.12345678901234567890", "a" * 32 + ".01"]

NO_NUMBERS = [
    "",
    "+",
    "15550100",
    "+0155501",
    "+1234567890123456",
    "+1 555 0100",
    "+1-555-0100",
    "+1555O100",
    "+15550100\n",
    " +15550100",
    "+\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT FIVE}",
    "+1555010\N{ARABIC-INDIC DIGIT ZERO}",
    "tel:+15550100",
]
NOTHING = [
    *NO_NUMBERS,
    "group.",
    "group.!!!",
    "group.YQ===",
    "group.Y Q",
    "group.YQ==\n",
    "GROUP.YQ==",
    "00000000-0000-4000-8000-00000000000",
    "00000000-0000-4000-8000-0000000000022",
    "g0000000-0000-4000-8000-000000000002",
    "00000000000040008000000000000002",
    "pni:00000000-0000-4000-8000-000000000002",
    "somebody",
    "ab.01",
    "ada.1",
    "ada.",
    ".01",
    "1ada.01",
    "ada.0x",
    "ada.01\n",
    "ädä.01",
    "a" * 33 + ".01",
    "ada.123456789012345678901",
    "\udcff",
]


@pytest.mark.parametrize("recipient", NUMBERS + GROUPS + UUIDS + USERNAMES)
def test_an_address_is_given_back_as_it_is(recipient: str) -> None:
    assert is_recipient(recipient)
    assert check_recipient(recipient) is recipient
    assert is_group(recipient) == (recipient in GROUPS)


@pytest.mark.parametrize("recipient", NOTHING, ids=ascii)
def test_what_is_no_address_is_refused_with_an_example_of_each_kind(recipient: str) -> None:
    assert not is_recipient(recipient)
    with pytest.raises(
        ConfigurationError, match=r"^recipient: .*\+15550100.*group\..*UUID.*ada\.01"
    ) as caught:
        check_recipient(recipient)
    assert caught.value.argument == "recipient"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_given_back_as_it_is(number: str) -> None:
    assert check_number("account", number) is number


@pytest.mark.parametrize("number", [*NO_NUMBERS, *GROUPS, *UUIDS, *USERNAMES], ids=ascii)
def test_what_is_no_number_is_refused_by_name(number: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^account: .*\+15550100") as caught:
        check_number("account", number)
    assert caught.value.argument == "account"


@pytest.mark.parametrize("value", [None, 15550100, b"+15550100", ["+15550100"], 1.5], ids=repr)
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^account: "):
        check_number("account", value)
    with pytest.raises(ConfigurationError, match=r"^quote\.author: "):
        check_recipient(value, argument="quote.author")


@given(st.text())
def test_no_other_text_passes_than_ascii_of_the_four_forms(text: str) -> None:
    for candidate in (text, "+" + text, "group." + text, text + ".01"):
        if is_recipient(candidate):
            assert candidate.isascii()
            assert candidate.isprintable()
            assert " " not in candidate
            assert candidate[0] == "+" or "." in candidate or candidate.count("-") == 4


@pytest.mark.parametrize("recipient", NUMBERS + GROUPS + UUIDS + USERNAMES)
def test_each_role_takes_the_kinds_of_address_that_fit_it(recipient: str) -> None:
    kind = next(kind for kind in (NUMBERS, GROUPS, UUIDS, USERNAMES) if recipient in kind)
    assert is_username(recipient) == (kind is USERNAMES)
    for check, words, kinds in (
        (check_group, "is no group", (GROUPS,)),
        (check_author, "is no author", (NUMBERS, UUIDS)),
        (check_person, "it is a group", (NUMBERS, UUIDS, USERNAMES)),
    ):
        if kind in kinds:
            assert check("role", recipient) == recipient
        else:
            with pytest.raises(ConfigurationError, match=f"^role: .*{words}"):
                check("role", recipient)


@pytest.mark.parametrize("value", [None, 15550100, b"+15550100", "", "somebody", "group."], ids=repr)
@pytest.mark.parametrize("check", [check_group, check_author, check_person])
def test_no_role_takes_what_is_no_address(check: Callable[[str, object], str], value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^role: "):
        check("role", value)
