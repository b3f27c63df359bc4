"""``trio-signal status``: one attempt to connect, and which layers of the way to Signal hold."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import msgspec
import trio

from .._credentials import Credentials
from .._dial import parse_url
from .._errors import ConfigurationError, GatewayError, RequestFailed
from .._operations import ListAccounts
from .._recipients import check_number
from .._states import ConnectionState
from ..gateways import Gateway
from ..gateways._about import CLI_MODE, HUB_MODE
from ..gateways._calls import Call
from ..gateways._requests import Requests
from .connection import Connection
from .exits import Exit, failed
from .interrupt import exit_code, run_until_signal
from .options import ACCOUNT
from .text import printable

_WORDS: Final = {True: "ok", False: "FAIL", None: "?"}

#: Seconds for each question: /v1/accounts hangs while signal-cli does, and the link may work all the same.
_QUESTION: Final = 5.0

#: Seconds for closing what is left.
_LAST_ACTS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    """What ``trio-signal status`` was told."""

    where: Connection
    timeout: float
    as_json: bool


@dataclass(slots=True)
class Layer:
    """One layer of the way to Signal.

    Attributes:
        name: what it is called.
        ok: whether it holds; None if that is not known.
        detail: a sentence about it.
        facts: what a program may want to know besides.
    """

    name: str
    ok: bool | None = None
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def found(self, detail: str, *, ok: bool | None, **facts: Any) -> None:
        """Note what was found out."""
        self.ok, self.detail, self.facts = ok, detail, facts


async def run_status(settings: StatusSettings) -> int:
    """Find out, print it, and return 0 only if a client can connect. A checkpoint."""
    try:
        probe = _Probe(settings)
    except ConfigurationError as error:
        await trio.lowlevel.checkpoint()
        return failed(error)
    caught = await run_until_signal(probe.run)
    if caught is not None:
        return exit_code(caught)
    sys.stdout.write(f"{probe.as_json() if settings.as_json else probe.as_text()}\n")
    return Exit.OK if probe.connected else Exit.FAILED


class _Probe:
    """Asks one layer after the other.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(self, settings: StatusSettings) -> None:
        where = settings.where
        self._settings: Final = settings
        self._address: Final = parse_url(where.gateway)
        self._account: Final = where.account and check_number("account", where.account)
        self._credentials: Final = Credentials(where.headers, where.token, self._address.authorization)
        self.gateway: Final = Layer("gateway")
        self.account: Final = Layer("account")
        self.link: Final = Layer("link")
        self.upstream: Final = Layer("upstream")
        self._layers: Final = [self.gateway, self.account, self.link]
        self._limit: Final = trio.CancelScope()

    @property
    def connected(self) -> bool:
        """Whether messages can come and go: a hub that is there may itself be cut off."""
        if self.account.ok is False or self.upstream.ok is False:
            return False
        # Without a link that was tried, the account that is there must do.
        return bool(self.account.ok if self.link.ok is None else self.link.ok)

    @property
    def _is_signal_cli(self) -> bool:
        return self.gateway.facts.get("mode") == CLI_MODE

    async def run(self) -> None:
        """Ask. A checkpoint; cancelling is safe."""
        self._limit.deadline = trio.current_time() + self._settings.timeout
        with self._limit:
            await self._ask()
        late = f"nothing was found out within {self._settings.timeout:g} s"
        for layer in self._layers:
            if not layer.detail:
                reason = late if self._limit.cancelled_caught else "not tried"
                layer.found(reason, ok=None if layer is not self.link else False)

    async def _ask(self) -> None:
        where = self._settings.where
        await trio.lowlevel.checkpoint()
        requests = Requests(
            self._address,
            self._credentials,
            connect=where.connect or trio.open_tcp_stream,
            ssl_context=where.ssl_context,
            http_client=None,
            send_timeout=_QUESTION,
        )
        try:
            goes_on = await self._ask_over_http(requests)
        finally:
            with trio.move_on_after(_LAST_ACTS, shield=True):
                await requests.aclose()
        if goes_on:
            await self._try_link()

    async def _ask_over_http(self, requests: Requests) -> bool:
        """Ask the gateway and for the account; return whether a link can be tried. A checkpoint."""
        await self._ask_gateway(requests)
        if self.gateway.ok is False:
            return False
        if self._is_signal_cli:
            # It has told its accounts as well.
            return True
        if self._account is None:
            self.account.found(f"{ACCOUNT.label}: give it; only signal-cli serves all accounts", ok=False)
            return False
        if self.gateway.facts.get("mode") == HUB_MODE:
            await self._ask_hub(requests)
        else:
            await self._ask_account(requests)
        return True

    async def _ask_gateway(self, requests: Requests) -> None:
        kind = self._settings.where.kind
        await trio.lowlevel.checkpoint()
        if kind == CLI_MODE:
            problem = await self._ask_signal_cli()
            if problem:
                self.gateway.found(problem, ok=False)
            return
        try:
            status, answer = await _get(requests, "/v1/about")
        except GatewayError as error:
            self.gateway.found(str(error), ok=False)
            return
        about = cast("dict[str, object]", answer) if isinstance(answer, dict) else {}
        version, mode = about.get("version"), about.get("mode")
        if version or mode:
            detail = f"{self._address} answers: version {version}, mode {mode}"
            self.gateway.found(detail, ok=True, version=version, mode=mode)
        elif status in {401, 403}:
            self.gateway.found(f"{self._address} refuses the credentials (HTTP {status})", ok=False)
        elif kind != "auto" or status != 404 or await self._ask_signal_cli():
            self.gateway.found(f"{self._address} answers, but not what it is (HTTP {status})", ok=None)

    async def _ask_signal_cli(self) -> str:
        """Ask signal-cli for its version and accounts; return why it does not answer. A checkpoint."""
        await trio.lowlevel.checkpoint()
        try:
            # Its version is asked for no account: one that it does not have would spoil that answer.
            where = replace(self._settings.where, account=None, kind="signal-cli")
            async with where.open_gateway(timeout=_QUESTION) as gateway:
                answer: object = await gateway.call("version", None, account=None, limit=_QUESTION)
                if not isinstance(answer, dict):
                    return f"{self._address} is no signal-cli: it does not tell its version"
                version = cast("dict[str, object]", answer).get("version")
                detail = f"{self._address} answers: signal-cli {version}"
                self.gateway.found(detail, ok=True, version=version, mode=CLI_MODE)
                await self._ask_accounts(gateway)
        except GatewayError as error:
            return str(error.error if isinstance(error, RequestFailed) else error)
        return ""

    async def _ask_accounts(self, gateway: Gateway) -> None:
        await trio.lowlevel.checkpoint()
        try:
            accounts = await gateway.operate(ListAccounts(), account=None, limit=_QUESTION)
        except RequestFailed as error:
            self.account.found(str(error.error), ok=None)
            return
        if self._account is not None:
            self._judge_accounts(accounts)
        elif accounts:
            self.account.found(f"it has {', '.join(accounts)}", ok=True, accounts=accounts)
        else:
            self.account.found("it has none; link one: trio-signal link", ok=False, accounts=accounts)

    async def _ask_account(self, requests: Requests) -> None:
        await trio.lowlevel.checkpoint()
        try:
            _, answer = await _get(requests, "/v1/accounts")
        except GatewayError as error:
            self.account.found(str(error), ok=None)
            return
        if not isinstance(answer, list):
            self.account.found("the gateway does not tell its accounts", ok=None)
            return
        self._judge_accounts(cast("list[object]", answer))

    def _judge_accounts(self, accounts: Sequence[object]) -> None:
        if self._account in accounts:
            self.account.found(f"it has {self._account}", ok=True)
        else:
            self.account.found(f"it does not have {self._account} (it has {len(accounts)})", ok=False)

    async def _ask_hub(self, requests: Requests) -> None:
        self._layers.append(self.upstream)
        await trio.lowlevel.checkpoint()
        try:
            status, answer = await _get(requests, "/status")
        except GatewayError as error:
            status, answer, problem = 0, None, str(error)
        else:
            refused = status in {401, 403}
            problem = f"the hub {'refuses the credentials' if refused else 'does not tell'} (HTTP {status})"
        if not isinstance(answer, dict) or status != 200:
            self.account.found(problem, ok=None)
            self.upstream.found(problem, ok=None)
            return
        told = cast("dict[str, object]", answer)
        account, state, why = told.get("account"), told.get("state"), told.get("last_error")
        if account == self._account:
            self.account.found(f"the hub has {self._account}", ok=True)
        else:
            self.account.found(f"the hub has another account than {self._account}", ok=False)
        if state == ConnectionState.CONNECTED.name:
            self.upstream.found("the hub is connected to its gateway", ok=True, state=state)
        else:
            more = f": {why}" if why else ""
            self.upstream.found(f"the hub is not connected to its gateway{more}", ok=False, state=state)

    async def _try_link(self) -> None:
        where, started = self._settings.where, trio.current_time()
        await trio.lowlevel.checkpoint()
        if self._is_signal_cli:
            # Depending on how the daemon was started, which it does not tell.
            self.link.found("not opened: messages that wait for others might come over it", ok=None)
            return
        try:
            async with where.open_client(token=where.token, attempt_timeout=self._settings.timeout) as client:
                async for change in client.state_changes():
                    if change.current is ConnectionState.CONNECTED:
                        took = change.time - started
                        self.link.found(
                            f"the WebSocket is open and answered a ping, {took:.2f} s after the start",
                            ok=True,
                            seconds=round(took, 3),
                        )
                        break
                    if change.error is not None:
                        self.link.found(str(change.error), ok=False)
                        break
        except GatewayError as error:
            self.link.found(str(error), ok=False)

    def as_text(self) -> str:
        """Return a line for each layer."""
        lines = (f"{_WORDS[layer.ok]:<5}{layer.name:<9}{printable(layer.detail)}" for layer in self._layers)
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return one JSON object."""
        layers = {x.name: {"ok": x.ok, "detail": x.detail, **x.facts} for x in self._layers}
        return json.dumps({"connected": self.connected, **layers})


async def _get(requests: Requests, path: str) -> tuple[int, object]:
    """Return the status and the decoded body of an answer, None where it is no JSON. A checkpoint.

    Raises:
        GatewayError: the gateway cannot be reached, did not answer in time, or what came is no answer.
    """
    with trio.move_on_after(_QUESTION):
        try:
            # Its own limit says less than ours, and comes later.
            answer = await requests.ask(Call("GET", path), limit=2 * _QUESTION)
        except RequestFailed as failed:
            raise (failed.error if isinstance(failed.error, GatewayError) else failed) from None
        try:
            return answer.status, msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return answer.status, None
    raise GatewayError(f"no answer to {path} within {_QUESTION:g} s")
