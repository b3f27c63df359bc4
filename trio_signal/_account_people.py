"""What can be asked about people, the account's own profile, the gateway's accounts and its challenges."""

from ._account_base import AccountBase, Picture, check_seconds, read_picture
from ._checks import check_type
from ._errors import ConfigurationError
from ._operations import (
    Contact,
    ListAccounts,
    ListContacts,
    SubmitRateLimitChallenge,
    UpdateContact,
    UpdateProfile,
)


class PeopleOperations(AccountBase):
    """The people whom an account knows, and what they see of it."""

    async def list_contacts(
        self, *, all_recipients: bool = False, account: str | None = None, timeout: float | None = None
    ) -> tuple[Contact, ...]:
        """Return the people whom the account knows.

        A checkpoint; cancelling is safe. Raises what :meth:`call` raises.

        Args:
            all_recipients: everybody whom it has met, too.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_type("all_recipients", all_recipients, bool, optional=False)
        return await self._operate(ListContacts(all_recipients), account=account, timeout=timeout)

    async def update_contact(
        self,
        recipient: str,
        *,
        name: str | None = None,
        expiration: int | None = None,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change what is given of a contact, and nothing else.

        A checkpoint; cancelled, it may have been changed or not. Raises what :meth:`call` raises.

        Args:
            recipient: the person.
            name: what the account calls the person.
            expiration: after how many seconds messages disappear; 0 is never.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_seconds(expiration)
        if name is None and expiration is None:
            raise ConfigurationError("name", "nothing is given that is to be changed")
        await self._operate(UpdateContact(recipient, name, expiration), account=account, timeout=timeout)

    async def update_profile(
        self,
        *,
        name: str | None = None,
        about: str | None = None,
        avatar: Picture | None = None,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change what others see of the account.

        A checkpoint; cancelled, it may have been changed or not. Raises what :meth:`call` raises.

        Args:
            name: what the account calls itself.
            about: its status text.
            avatar: its picture, a path or bytes (JPEG or PNG).
            account: whose, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        if (name, about, avatar) == (None, None, None):
            raise ConfigurationError("name", "nothing is given that is to be changed")
        operation = UpdateProfile(name, about, await read_picture(avatar))
        await self._operate(operation, account=account, timeout=timeout)

    async def list_accounts(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the numbers of the gateway's accounts.

        A checkpoint; cancelling is safe. Raises what :meth:`call` raises.

        Args:
            timeout: how long it may take, in seconds.
        """
        return await self._operate(ListAccounts(), timeout=timeout)

    async def submit_rate_limit_challenge(
        self,
        challenge_token: str,
        captcha: str,
        *,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Hand in what a person has solved, and go on sending if Signal takes it.

        A checkpoint; cancelled, it may have been taken or not, and sending stays paused.
        Raises what :meth:`call` raises.

        Args:
            challenge_token: one of the tokens of a :class:`ChallengeRequired`.
            captcha: the whole link that comes of solving the captcha, ``signalcaptcha://…``.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_type("challenge_token", challenge_token, str, optional=False)
        check_type("captcha", captcha, str, optional=False)
        operation = SubmitRateLimitChallenge(challenge_token, captcha)
        await self._operate(operation, account=account, timeout=timeout)
