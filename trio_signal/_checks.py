"""Arguments that are wrong, found at the call that gives them. Pure."""

from typing import Final, get_args

from ._errors import ConfigurationError

#: More bytes than there are; such a number is a mistake.
_MORE_THAN_ANYTHING: Final = 2**60

#: Longer than anybody waits, in seconds; such a number is a mistake.
_FOR_EVER: Final = 1e10


def check_count(argument: str, value: object) -> int:
    """Return a whole number, 1 or more.

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _MORE_THAN_ANYTHING:
        return value
    raise ConfigurationError(argument, f"{value!r} is not a whole number, 1 or more")


def check_positive(argument: str, value: object, *, zero: bool = False) -> float:
    """Return a sensible number, mostly of seconds, over 0 (or 0 where that means something).

    Raises:
        ConfigurationError: it is none; the message names ``argument``.
    """
    # A comparison, since math.isfinite cannot take an int that no float can hold.
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < _FOR_EVER
        and (value or zero)
    ):
        return float(value)
    raise ConfigurationError(
        argument, f"{value!r} is not a number {'that is 0 or more' if zero else 'over 0'}"
    )


def check_choice(argument: str, value: object, literal: object) -> None:
    """Accept one of the values of a ``Literal`` type.

    Raises:
        ConfigurationError: it is another; the message names ``argument`` and the choices.
    """
    choices = get_args(literal)
    if value not in choices:
        raise ConfigurationError(argument, f"{value!r} is none of {', '.join(map(repr, choices))}")


def check_type(argument: str, value: object, kind: type, *, optional: bool = True) -> None:
    """Accept an instance of ``kind``, and None where that means something.

    Raises:
        ConfigurationError: it is something else; the message names ``argument``.
    """
    if not (isinstance(value, kind) or (optional and value is None)):
        raise ConfigurationError(argument, f"{type(value).__name__} is not a {kind.__name__}")
