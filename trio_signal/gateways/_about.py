"""What gateways say of themselves. Pure."""

from typing import Final

import msgspec

#: What a hub calls itself where a gateway tells its mode.
HUB_MODE: Final = "trio-signal-hub"

#: What signal-cli's own daemon is called where a gateway tells its mode.
CLI_MODE: Final = "signal-cli"

#: How the daemon's HTTP server, the JDK's, words its 404 (measured on 0.13.19; no path of its own is there).
NO_CONTEXT: Final = b"No context found for request"


class About(msgspec.Struct):
    """What a gateway says of itself."""

    mode: str | None = None
