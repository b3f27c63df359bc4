"""The cases, by name."""

from typing import Final

from ..harness import Case
from .receive import CASE as RECEIVE
from .reconnect import CASE as RECONNECT
from .send import CASE as SEND

CASES: Final[dict[str, Case]] = {case.name: case for case in (RECEIVE, SEND, RECONNECT)}
