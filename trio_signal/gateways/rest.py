"""signal-cli-rest-api in json-rpc mode: messages come over a WebSocket, sends go over HTTP.

Wire facts here were measured against releases 0.100 and head of 2026-08
(``bbernhard/signal-cli-rest-api``).
"""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast

import trio

from .._connections import Answer
from .._contents import Reaction
from .._continuity import Cursor
from .._errors import Certainty, LinkLost, RequestFailed, UnknownAccount, WrongGatewayMode
from .._operations import Operation, R_co, check_attachment_id
from .._outgoing import OutgoingMessage
from .._websocket import open_websocket
from . import AttachmentRef, Download, SendResult
from ._about import CLI_MODE, HUB_MODE, About
from ._calls import Call
from ._download import open_download
from ._http_gateway import HttpGateway
from ._operation_answers import certain_if_only_read, is_success, number_of, parse_call, read_call_answer
from ._requests import Requests
from ._rest_answers import read_answer
from ._rest_link import RestLink, StallWatch
from ._rest_operations import encode_operation, needs_account, reaches_signal_cli
from ._rest_requests import encode_message, in_path
from ._rest_results import read_operation, rest_failure
from ._turn import Turn

_MODES: Final = frozenset({"json-rpc", "json-rpc-native"})


class RestGateway(HttpGateway):
    """A gateway of the kind signal-cli-rest-api. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
        account: whose messages; without one there is no link, and only what is nobody's can be asked.
        ping_interval: silence before we ping, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        max_message_size: the largest WebSocket message taken, in bytes.
    """

    def __init__(
        self,
        requests: Requests,
        account: str | None,
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
        self._turn: Final = Turn(requests.max_in_flight)

    @property
    def allows_overlap(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.allows_overlap`. Each socket gets all (measured)."""
        return True

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[RestLink]:  # noqa: ARG002
        """See :meth:`HttpGateway.connect`. This gateway keeps nothing, so nothing can be resumed."""
        requests = self._requests
        account = number_of(self._account, requests.address)
        await self._check(account)
        headers = await requests.handshake_headers()
        requests.phase = "connecting"
        stream = await requests.open_stream()
        requests.phase = "in the WebSocket handshake"
        async with open_websocket(
            stream,
            host=requests.address.host_header,
            resource=f"{requests.address.path}/v1/receive/{in_path(account)}",
            headers=headers,
            max_message_size=self._max_message_size,
        ) as socket:
            requests.phase = "waiting for the first pong"
            yield RestLink(socket, self._stall_watch, self._ping_interval, self._pong_timeout)

    async def check(self) -> None:
        """See :meth:`HttpGateway.check`."""
        await self._check(number_of(self._account, self._requests.address))

    @property
    def health(self) -> str:
        """See :meth:`HttpGateway.health`."""
        return "/v1/health"

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        return self._requests.send(
            lambda: encode_message(message, number_of(self._account, self._requests.address)),
            lambda answer: read_answer(
                answer.status,
                answer.body,
                recipient=message.recipient,
                wait=answer.wait,
                is_reaction=isinstance(message.content, Reaction),
            ),
            limit=self._requests.send_timeout,
        )

    def turn(self) -> Turn:
        """See :meth:`trio_signal.gateways.Gateway.turn`: requests at the same time crash this gateway."""
        return self._turn

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """See :meth:`trio_signal.gateways.Gateway.operate`. Waiting for its turn is within the limit.

        Of a device being linked this gateway tells nothing: ``FinishLink`` returns at once.
        """
        await trio.lowlevel.checkpoint()
        account = account or self._account
        if needs_account(operation):
            account = number_of(account, self._requests.address)
        call = encode_operation(operation, account or "")
        if call is None:
            return cast("R_co", None)
        with certain_if_only_read(operation):
            answer = await self._ask(call, limit)
            return read_operation(operation, answer.status, answer.body)

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:  # noqa: ARG002
        """See :meth:`trio_signal.gateways.Gateway.call`. Waiting for its turn is within the limit."""
        answer = await self._ask(parse_call(what, body), limit)
        if not is_success(answer.status):
            raise rest_failure(answer.status, answer.body)
        return read_call_answer(answer.body)

    def download(
        self,
        ref: AttachmentRef,
        *,
        account: str | None,  # noqa: ARG002
        limit: float,
    ) -> AbstractAsyncContextManager[Download]:
        """See :meth:`trio_signal.gateways.Gateway.download`."""
        call = Call("GET", f"/v1/attachments/{in_path(check_attachment_id(ref.id))}")
        return open_download(self._requests, call, rest_failure, limit=limit)

    async def _ask(self, call: Call, limit: float) -> Answer:
        """Make one request when it is its turn. A checkpoint.

        Raises:
            RequestFailed: there was no answer within ``limit`` seconds.
        """
        if not reaches_signal_cli(call.path):
            return await self._requests.ask(call, limit=limit)
        async with self._own_turn(limit) as left:
            return await self._requests.ask(call, limit=left)

    @asynccontextmanager
    async def _own_turn(self, limit: float) -> AsyncGenerator[float]:
        """Wait until nothing else is asked, and tell how many seconds are left. A checkpoint."""
        end, has_it = trio.current_time() + limit, False
        with trio.move_on_at(end):
            await self._turn.acquire()
            has_it = True
        if not has_it:
            raise RequestFailed(
                LinkLost(
                    f"the gateway was busy with another request for {limit:g} s; it bears one at a time"
                ),
                Certainty.NOT_SENT,
            )
        try:
            # It may have come at the very last moment.
            yield max(end - trio.current_time(), 0.0)
        finally:
            self._turn.release()

    async def _check(self, account: str) -> None:
        """Ask once whether this gateway can serve this account at all. A checkpoint."""
        await trio.lowlevel.checkpoint()
        self._check_mode(await self._requests.look_ups.about())
        if not self._asked_accounts:
            # It is a request to signal-cli like any other.
            async with self._turn:
                accounts = await self._requests.look_ups.ask_for("/v1/accounts", list[str])
            if accounts is not None and account not in accounts:
                raise UnknownAccount(
                    f"{self._requests.address} does not have the account {account} "
                    f"(it has {len(accounts)}); register or link it there, or give another number"
                )
            self._asked_accounts = True

    def _check_mode(self, about: About | None) -> None:
        mode = about.mode if about is not None else None
        if mode == HUB_MODE:
            raise WrongGatewayMode(
                f'{self._requests.address} is a trio_signal hub; use gateway="hub" or "auto"'
            )
        if mode == CLI_MODE:
            raise WrongGatewayMode(
                f'{self._requests.address} is signal-cli\'s own daemon; use gateway="signal-cli" or "auto"'
            )
        if mode is not None and mode not in _MODES:
            raise WrongGatewayMode(
                f"{self._requests.address} runs in mode {mode!r}, which delivers nothing over a WebSocket; "
                "start it with MODE=json-rpc"
            )
