"""What kinds of gateway there are, and how signal-cli's daemon may have been started."""

from typing import Literal

#: The kinds that this version knows.
GatewayKind = Literal["auto", "rest", "signal-cli", "hub"]

#: With which ``--receive-mode`` signal-cli's daemon was started.
ReceiveMode = Literal["on-start", "on-connection", "manual"]
