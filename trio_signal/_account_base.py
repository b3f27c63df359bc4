"""What everything that is asked for an account has in common: for which account, and for how long."""

import abc
import os
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import trio

from ._checks import check_positive, check_type
from ._errors import Certainty, ClientClosed, ConfigurationError, RequestFailed
from ._evidence import may_send
from ._operations import (
    RESULTS,
    FinishLink,
    ListAccounts,
    Operation,
    R_co,
    StartLink,
    SubmitRateLimitChallenge,
)
from ._recipients import check_number
from ._targets import TargetLike, account_of
from .gateways import AttachmentRef, Download, Gateway

#: A picture of a group or a person: a path, or the bytes themselves.
Picture = str | os.PathLike[str] | bytes

#: Read no more of a picture than this, in bytes; the operation says how large it may be, which is less.
_ENOUGH: Final = 16 * 1024 * 1024

_CLOSED: Final = "the client has been closed; nothing can be asked through it any more"

#: What is asked of the gateway itself.
_OF_NO_ACCOUNT: Final[frozenset[type]] = frozenset({ListAccounts, StartLink, FinishLink})


class AccountBase(abc.ABC):
    """Asks a gateway for an account. What it asks goes out at once, connected or not, and is tried once.

    Args:
        route: whom to ask.
        account: for whom; None for a client of all accounts of its gateway.
        timeout: how long an answer may take where the caller does not say, in seconds.

    Attributes:
        account: the account, None for a client of all accounts.
    """

    def __init__(self, route: Gateway, account: str | None, timeout: float) -> None:
        self.account: Final = account
        self._route: Final = route
        self._timeout: Final = timeout
        self._closed = False

    def account_for(self, account: str | None) -> str:
        """Return whom a call is for: the client's account, or the given one for a client of all accounts.

        Not a checkpoint.

        Raises:
            ConfigurationError: none is given and the client serves all; or it serves another.
        """
        own = self.account
        if own is None:
            if account is None:
                raise ConfigurationError(
                    "account", "this client serves all accounts of its gateway; say which"
                )
            return check_number("account", account)
        if account not in (None, own):
            raise ConfigurationError(
                "account", f"this client was opened for {own}; open one for {account} too"
            )
        return own

    async def call(
        self, what: str, body: Any = None, *, account: str | None = None, timeout: float | None = None
    ) -> Any:
        """Ask the gateway for anything, in its own words, and return what came.

        For what has no method of its own here. A checkpoint. It is asked at once, whether connected or not,
        and never again by itself. Cancelled, it may have been done or not. On a REST gateway it waits until
        the message that is being sent has its answer: one request at a time is all that gateway bears.

        Args:
            what: ``"METHOD /path"`` on a REST gateway or a hub, as in ``"GET /v1/identities/+15550100"``; the
                name of a JSON-RPC method on signal-cli, as in ``"listIdentities"``.
            body: the JSON body, or the method's parameters; None for none.
            account: for whom: put among the parameters of a JSON-RPC method that do not name another.
            timeout: how long it may take, in seconds; the client's ``send_timeout`` by default.

        Returns:
            The decoded JSON; None for an empty answer; bytes for what is no JSON.

        Raises:
            ConfigurationError: an argument is wrong; it is named, and nothing was asked.
            RequestFailed: it failed; ``certainty`` says whether it may have been done.
            Unsupported: this gateway cannot do it, or is asked in the other way; the message says which can.
            ClientClosed: the client's block was left, also while this waited for its turn. Nothing was done.
        """
        check_type("what", what, str, optional=False)
        who = self.account if account is None else self.account_for(account)
        limit = self._limit(timeout)
        await trio.lowlevel.checkpoint()
        with self._told_when_closed(), nullcontext() if what.startswith("GET ") else self._may_send():
            return await self._route.call(what, body, account=who, limit=limit)

    @abc.abstractmethod
    def _may_send(self) -> AbstractContextManager[None]:
        """Return what to hold around a request that may send something which is confirmed like a message."""

    @abc.abstractmethod
    def resume_sending(self) -> None:
        """End a pause for a rate limit, for instance after its challenge was solved."""

    async def _operate(
        self, operation: Operation[R_co], *, account: str | None = None, timeout: float | None = None
    ) -> R_co:
        """Carry out one operation and return its result. As :meth:`call`, for all gateways alike.

        The solution of a challenge lets the queue go on.

        Args:
            operation: what to do.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds; the client's ``send_timeout`` by default.

        Raises:
            ConfigurationError: an argument is wrong; it is named, and nothing was asked.
            RequestFailed: it failed; ``certainty`` says whether it may have been done.
            Unsupported: this gateway cannot do it; the message names one that can.
            ClientClosed: the client's block was left. Nothing was done.
        """
        kind: type[Operation[Any]] = type(operation)
        if kind not in RESULTS:
            raise ConfigurationError("operation", f"{kind.__name__} is no operation")
        who = None if kind in _OF_NO_ACCOUNT else self.account_for(account)
        limit = self._limit(timeout)
        await trio.lowlevel.checkpoint()
        with self._told_when_closed(), self._may_send() if may_send(operation) else nullcontext():
            result = await self._route.operate(operation, account=who, limit=limit)
        if isinstance(operation, SubmitRateLimitChallenge):
            self.resume_sending()
        return result

    def _download(
        self, ref: AttachmentRef, *, account: str | None = None, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Download]:
        """Open a file that came with a message. See :meth:`trio_signal.gateways.Gateway.download`."""
        return self._route.download(ref, account=self.account_for(account), limit=self._limit(timeout))

    def _account_at(self, target: TargetLike, account: str | None) -> str:
        """Return who acts on a message: a client of all accounts need not be told where the message tells."""
        if account is None and self.account is None:
            account = account_of(target)
        return self.account_for(account)

    def _limit(self, timeout: float | None) -> float:
        """Return how long an answer may take, in seconds, if it may be asked for at all."""
        limit = self._timeout if timeout is None else check_positive("timeout", timeout)
        if self._closed:
            raise ClientClosed(_CLOSED)
        return limit

    @contextmanager
    def _told_when_closed(self) -> Generator[None]:
        """Name the true cause where something was not done since the client was closed before its turn."""
        try:
            yield
        except RequestFailed as error:
            # A bare RuntimeError is how httpx refuses what comes after it was closed. What was under way by
            # then may have been done, and its failure goes on saying so.
            nothing_done = error.certainty is Certainty.NOT_SENT or type(error.error) is RuntimeError
            if self._closed and nothing_done:
                raise ClientClosed(_CLOSED) from error
            raise


async def read_picture(picture: Picture | None) -> bytes | None:
    """Return the bytes of a picture. A checkpoint; cancelling is safe.

    Raises:
        ConfigurationError: it cannot be read, or is too large.
    """
    await trio.lowlevel.checkpoint()
    if picture is None or isinstance(picture, bytes):
        return picture
    try:
        # A read from a dead network disk never ends; abandoning it lets the call be cancelled all the same.
        return await trio.to_thread.run_sync(_read_beginning, picture, abandon_on_cancel=True)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError("avatar", f"it cannot be read: {error}") from error


def _read_beginning(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_ENOUGH)


def check_seconds(expiration: object) -> None:
    """Accept a whole number of seconds, or None. How many they may be is the operation's business.

    Raises:
        ConfigurationError: it is something else.
    """
    check_type("expiration", expiration, int)
    if isinstance(expiration, bool):
        raise ConfigurationError("expiration", f"{expiration} is no number of seconds")
