"""An outlet of a hub that nothing leaves: what the hub hands to a client is kept to be looked at."""

from collections.abc import Sequence


class Shelf:
    """An outlet that keeps the very objects that it is handed, as many as there is room for.

    Attributes:
        room: for how many.
        frames: what it was handed, one object for each write.
        ending: how it was ended; None while it was not.
        last_received: when the client was heard last, on the hub's clock.
    """

    def __init__(self, room: int = 1_000_000, *, last_received: float = 0.0) -> None:
        self.room = room
        self.frames: list[bytes] = []
        self.ending: tuple[int, str, bool] | None = None
        self.last_received = last_received

    @property
    def queued(self) -> int:
        return len(self.frames)

    @property
    def queued_bytes(self) -> int:
        return sum(map(len, self.frames))

    def write(self, data: bytes) -> int:
        if len(self.frames) >= self.room:
            return 0
        self.frames.append(data)
        return len(data)

    def keep(self, frames: Sequence[bytes], taken: int) -> bool:
        return taken == sum(map(len, frames))

    def push(self, frame: bytes) -> bool:
        return self.keep([frame], self.write(frame))

    def end(self, code: int, reason: str, *, flush: bool = True) -> None:
        assert self.ending is None
        self.ending = code, reason, flush
