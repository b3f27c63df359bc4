"""What a fake gateway is told to be."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

GatewayKind = Literal["rest", "signal-cli"]
ReceiveMode = Literal["on-start", "on-connection", "manual"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What `open_fake_gateway` was called with."""

    kind: GatewayKind
    account: str
    accounts: tuple[str, ...]
    version: str
    mode: str
    receive_mode: ReceiveMode
    host: str
    base_path: str
    answer_delay: float
    ping_period: float
    keep_alive: float
    backlog_spacing: float
    lose_bursts: bool
    hide: Mapping[str, int]
    require_header: tuple[str, str] | None
    ssl_context: ssl.SSLContext | None
    start_time: float

    @property
    def is_signal_cli(self) -> bool:
        """Whether this is signal-cli's own daemon, not the REST gateway."""
        return self.kind == "signal-cli"

    @property
    def answers_array(self) -> bool:
        """Whether /v2/send answers a list: from 0.101 on."""
        return self.is_at_least(0, 101)

    @property
    def holds_headers_back(self) -> bool:
        """Whether an event stream's headers wait for its first chunk: up to 0.14.3."""
        return not self.is_at_least(0, 14, 4)

    @property
    def checks_host(self) -> bool:
        """Whether a foreign Host header is refused: from 0.14.4 on, unless it is bound to all (0.14.5)."""
        # Nothing but zeros: the address that stands for all of the machine's.
        everywhere = not self.host.strip("0.:")
        return self.is_at_least(0, 14, 4) and not (everywhere and self.is_at_least(0, 14, 5))

    def is_at_least(self, *version: int) -> bool:
        """Whether the version is this one or later; names (``HEAD``, ``unset``) are later than all."""
        parts = self.version.split(".")
        if not all(part.isdecimal() for part in parts):
            return True
        return tuple(int(part) for part in parts) >= version
