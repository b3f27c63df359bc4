"""What can be asked about groups."""

from collections.abc import Iterable
from typing import Final

from ._account_base import AccountBase, Picture, check_seconds, read_picture
from ._checks import check_choice, check_type
from ._contents import check_all
from ._operations import (
    ChangeMembers,
    CreateGroup,
    Group,
    GroupLink,
    GroupPermissions,
    JoinGroup,
    ListGroups,
    MemberAction,
    Permission,
    QuitGroup,
    UpdateGroup,
)
from ._recipients import check_group

_PERMISSIONS: Final = GroupPermissions.__struct_fields__


class GroupOperations(AccountBase):
    """The groups of an account."""

    async def list_groups(
        self, *, account: str | None = None, timeout: float | None = None
    ) -> tuple[Group, ...]:
        """Return all groups that the gateway knows, also those that were left.

        A checkpoint; cancelling is safe. Raises what :meth:`call` raises.
        """
        return await self._operate(ListGroups(), account=account, timeout=timeout)

    async def get_group(
        self, group: str, *, account: str | None = None, timeout: float | None = None
    ) -> Group | None:
        """Return one group, or None if the account has nothing to do with it.

        A checkpoint; cancelling is safe. Raises what :meth:`call` raises.

        Args:
            group: its recipient (``group.…=``).
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_group("group", group)
        groups = await self.list_groups(account=account, timeout=timeout)
        return next((found for found in groups if found.id == group), None)

    async def create_group(
        self,
        name: str,
        members: Iterable[str] = (),
        *,
        description: str = "",
        expiration: int | None = None,
        link: GroupLink | None = None,
        permissions: GroupPermissions | None = None,
        account: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Make a group and return its recipient (``group.…=``), to send to.

        A checkpoint; cancelled, there may be the group or not. Raises what :meth:`call` raises.

        Args:
            name: its name.
            members: who is to be in it beside the account: numbers, UUIDs or usernames.
            description: what it is about.
            expiration: after how many seconds messages disappear; 0 is never.
            link: whether one can join by a link.
            permissions: who may do what.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        check_type("name", name, str, optional=False)
        _check_rules(expiration, link, permissions)
        people = check_all("members", members, str)
        operation = CreateGroup(name, people, description, expiration, link, permissions)
        return await self._operate(operation, account=account, timeout=timeout)

    async def update_group(
        self,
        group: str,
        *,
        name: str | None = None,
        description: str | None = None,
        avatar: Picture | None = None,
        expiration: int | None = None,
        link: GroupLink | None = None,
        permissions: GroupPermissions | None = None,
        account: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change what is given of a group, and nothing else.

        A checkpoint; cancelled, it may have been changed or not. Raises what :meth:`call` raises.

        Args:
            group: its recipient.
            name: its new name.
            description: what it is about.
            avatar: its new picture, a path or bytes (JPEG or PNG).
            expiration: after how many seconds messages disappear; 0 is never.
            link: whether one can join by a link.
            permissions: who may do what.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        _check_rules(expiration, link, permissions)
        check_group("group", group)
        picture = await read_picture(avatar)
        operation = UpdateGroup(group, name, description, picture, expiration, link, permissions)
        await self._operate(operation, account=account, timeout=timeout)

    async def add_members(
        self, group: str, members: Iterable[str], *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Add people to a group, or invite those whom one cannot simply add.

        A checkpoint; cancelled, they may have been added or not. Raises what :meth:`call` raises.

        Args:
            group: its recipient.
            members: numbers, UUIDs or usernames.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        await self._change_members(group, "add", members, account, timeout)

    async def remove_members(
        self, group: str, members: Iterable[str], *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Put people out of a group. As :meth:`add_members`."""
        await self._change_members(group, "remove", members, account, timeout)

    async def add_admins(
        self, group: str, members: Iterable[str], *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Make members administrators of their group. As :meth:`add_members`."""
        await self._change_members(group, "add_admins", members, account, timeout)

    async def remove_admins(
        self, group: str, members: Iterable[str], *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Make administrators of a group members like others. As :meth:`add_members`."""
        await self._change_members(group, "remove_admins", members, account, timeout)

    async def join_group(
        self, group_or_link: str, *, account: str | None = None, timeout: float | None = None
    ) -> str | None:
        """Join a group by its link, or accept the invitation to one.

        A checkpoint; cancelled, the account may have joined or not. Raises what :meth:`call` raises.

        Args:
            group_or_link: the link (``https://signal.group/#…``), or the group's recipient.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.

        Returns:
            The group's recipient; None where the gateway does not tell.
        """
        check_type("group", group_or_link, str, optional=False)
        return await self._operate(JoinGroup(group_or_link), account=account, timeout=timeout)

    async def quit_group(
        self, group: str, *, account: str | None = None, timeout: float | None = None
    ) -> None:
        """Leave a group, or decline the invitation to it.

        A checkpoint; cancelled, the account may have left or not. Raises what :meth:`call` raises.

        Args:
            group: its recipient.
            account: for whom, for a client that serves all accounts of a daemon.
            timeout: how long it may take, in seconds.
        """
        await self._operate(QuitGroup(group), account=account, timeout=timeout)

    async def _change_members(
        self,
        group: str,
        action: MemberAction,
        members: Iterable[str],
        account: str | None,
        timeout: float | None,
    ) -> None:
        people = check_all("members", members, str)
        await self._operate(ChangeMembers(group, action, people), account=account, timeout=timeout)


def _check_rules(expiration: object, link: object, permissions: object) -> None:
    """Accept what a group's rules may be.

    Raises:
        ConfigurationError: one is of a wrong kind; it is named.
    """
    check_seconds(expiration)
    if link is not None:
        check_choice("link", link, GroupLink)
    check_type("permissions", permissions, GroupPermissions)
    if isinstance(permissions, GroupPermissions):
        for name in _PERMISSIONS:
            if (value := getattr(permissions, name)) is not None:
                check_choice(f"permissions.{name}", value, Permission)
