"""The cases, by name."""

from typing import Final

from ..harness import Case
from .broadcast import CASE as BROADCAST
from .overlap import CASE as OVERLAP
from .receive import CASE as RECEIVE
from .reconnect import CASE as RECONNECT
from .recovery import CASE as RECOVERY
from .send import CASE as SEND

CASES: Final[dict[str, Case]] = {
    case.name: case for case in (RECEIVE, SEND, RECONNECT, BROADCAST, RECOVERY, OVERLAP)
}
