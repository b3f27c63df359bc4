"""signal-cli-rest-api in json-rpc mode: messages come over a WebSocket, sends go over HTTP.

Wire facts here were measured against releases 0.100 and head of 2026-08
(``bbernhard/signal-cli-rest-api``).
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import trio

from .._continuity import Cursor
from .._errors import UnknownAccount, WrongGatewayMode
from .._outgoing import OutgoingMessage
from .._websocket import open_websocket
from . import SendResult
from ._requests import HUB_MODE, About, HttpGateway, Requests
from ._rest_answers import read_answer
from ._rest_link import RestLink, StallWatch

_MODES: Final = frozenset({"json-rpc", "json-rpc-native"})


class RestGateway(HttpGateway):
    """A gateway of the kind signal-cli-rest-api. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
        account: whose messages.
        ping_interval: silence before we ping, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        max_message_size: the largest WebSocket message taken, in bytes.
    """

    def __init__(
        self,
        requests: Requests,
        account: str,
        *,
        ping_interval: float,
        pong_timeout: float,
        max_message_size: int,
    ) -> None:
        super().__init__(requests)
        self._account: Final = account
        self._ping_interval: Final = ping_interval
        self._pong_timeout: Final = pong_timeout
        self._max_message_size: Final = max_message_size
        self._asked_accounts = False
        self._stall_watch: Final = StallWatch()

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[RestLink]:  # noqa: ARG002
        """See :meth:`HttpGateway.connect`. This gateway keeps nothing, so nothing can be resumed."""
        requests = self._requests
        await self._check()
        headers = await requests.handshake_headers()
        requests.phase = "connecting"
        stream = await requests.open_stream()
        requests.phase = "in the WebSocket handshake"
        async with open_websocket(
            stream,
            host=requests.address.host_header,
            resource=f"{requests.address.path}/v1/receive/{quote(self._account, safe='+')}",
            headers=headers,
            max_message_size=self._max_message_size,
        ) as socket:
            requests.phase = "waiting for the first pong"
            yield RestLink(socket, self._stall_watch, self._ping_interval, self._pong_timeout)

    async def send(self, message: OutgoingMessage) -> SendResult:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        return await self._requests.send(message, self._account, read_answer)

    async def _check(self) -> None:
        """Ask once whether this gateway can serve this account at all. A checkpoint."""
        await trio.lowlevel.checkpoint()
        self._check_mode(await self._requests.about())
        if not self._asked_accounts:
            accounts = await self._requests.look_up("/v1/accounts", list[str])
            if accounts is not None and self._account not in accounts:
                raise UnknownAccount(
                    f"{self._requests.address} does not have the account {self._account} "
                    f"(it has {len(accounts)}); register or link it there, or give another number"
                )
            self._asked_accounts = True

    def _check_mode(self, about: About | None) -> None:
        mode = about.mode if about is not None else None
        if mode == HUB_MODE:
            raise WrongGatewayMode(
                f'{self._requests.address} is a trio_signal hub; use gateway="hub" or "auto"'
            )
        if mode is not None and mode not in _MODES:
            raise WrongGatewayMode(
                f"{self._requests.address} runs in mode {mode!r}, which delivers nothing over a WebSocket; "
                "start it with MODE=json-rpc"
            )
