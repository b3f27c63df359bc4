"""JSON bodies of requests, and how one is refused by the name of the field that is wrong. Pure."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from .._errors import ConfigurationError
from ._exchange import HttpError

#: How much of anybody's words goes into an answer.
_MOST_WORDS: Final = 500

_Decoded = TypeVar("_Decoded")


def decoded(body: bytes, kind: type[_Decoded], names: Mapping[str, str]) -> _Decoded:
    """Decode a body.

    Args:
        body: the JSON.
        kind: what it must be.
        names: what an argument of the client's is called in the body, where that differs.

    Raises:
        HttpError: it is no JSON (400), or something else (422).
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ConfigurationError):
            raise wrong(error.__cause__, names) from None
        raise HttpError(422, shortened(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HttpError(400, "the body is not JSON") from None


def refused(field: str, words: str) -> HttpError:
    """Return the refusal of a field (422)."""
    return HttpError(422, shortened(f"{field}: {words}"))


def wrong(error: ConfigurationError, names: Mapping[str, str]) -> HttpError:
    """Return the refusal of an argument of the client's, by the name that it has in the body (422)."""
    words = str(error).removeprefix(f"{error.argument}: ")
    return refused(names.get(error.argument, error.argument), words)


def shortened(words: str) -> str:
    """Return as much of anybody's words as goes into an answer."""
    return words[:_MOST_WORDS]
