"""Permissions of people, from ``muster.yaml``, from admins' commands, and from owning the account that runs Muster.

A permission set by command takes precedence over the file. The owner of the account is always admin, because they
control the process, its sockets and its files anyway.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.owner import owner_identity
from bot.auth.permission import ADMIN, NONE, Permission
from bot.text.errors import UserError
from database.engine.store import Store
from database.queries.chat import operator_permissions as queries
from database.queries.chat.operator_permissions import OperatorRow

#: ``CONNECTOR:PERSON``, where the person is the chat system's identifier, without spaces.
_IDENTITY = re.compile(r"[a-z][a-z0-9_-]{0,39}:[^\s\x00-\x1f\x7f-\x9f]{1,255}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """The permission of a person or a group, and its source."""

    identity: str
    permission: Permission
    #: owner (runs Muster), file (muster.yaml) or command (`operator set`)
    source: str
    set_by: str | None = None
    set_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Authority:
    """The effective permission of a person, and the group that grants it."""

    permission: Permission
    #: the group that grants the permission, such as ``discord:role:123``; None if it is the person's own or missing
    through: str | None = None


def is_person(identity: str) -> bool:
    """Return whether `identity` is a person, and not an agent or a part of Muster."""
    return _IDENTITY.fullmatch(identity) is not None and not identity.startswith(("agent:", "muster:"))


class Operators:
    """Permissions by identity. The table is cached and read again only after `refresh`; no other process writes it."""

    def __init__(
        self, store: Store, configured: Mapping[str, Permission], owners: Collection[str] | None = None
    ) -> None:
        self._store = store
        self._configured = dict(configured)
        self._owners = frozenset(owners if owners is not None else (owner_identity(),))
        self._rows: dict[str, OperatorRow] | None = None
        self._changes = 0

    async def permission(self, identity: str, groups: Collection[str] = ()) -> Permission:
        """Return the person's permission; `NONE` for a stranger. See `authority`."""
        return (await self.authority(identity, groups)).permission

    async def authority(self, identity: str, groups: Collection[str] = ()) -> Authority:
        """Return the person's permission, and the group that grants it.

        A person's own entry takes precedence over those of their groups, even if it is lower. Among several groups, the
        highest permission counts.

        Args:
            identity: the connector and the person.
            groups: the person's groups, as the connector names them (`Inbound.groups`).
        """
        if identity in self._owners:
            return Authority(permission=ADMIN)
        table = await self._table()
        own = self._entry(table, identity)
        if own is not None:
            return Authority(permission=own)
        connector = identity.partition(":")[0]
        given = {group: self._entry(table, f"{connector}:{group}") or NONE for group in groups}
        highest = max(given, key=lambda group: given[group], default=None)
        if highest is None or given[highest] is NONE:
            return Authority(permission=NONE)
        return Authority(permission=given[highest], through=f"{connector}:{highest}")

    async def every(self) -> list[Operator]:
        """Return everyone who has a permission, and everyone whose permission was taken away."""
        found = {
            identity: Operator(identity=identity, permission=permission, source="file")
            for identity, permission in self._configured.items()
        }
        for row in (await self._table()).values():
            found[row.identity] = Operator(
                identity=row.identity, permission=_read(row), source="command", set_by=row.set_by, set_at=row.set_at
            )
        for identity in self._owners:
            found[identity] = Operator(identity=identity, permission=ADMIN, source="owner")
        return sorted(found.values(), key=lambda operator: (-operator.permission, operator.identity))

    async def put(self, tx: AsyncConnection, row: OperatorRow) -> None:
        """Store a permission. Call `refresh` once `tx` is committed.

        Raises:
            UserError: the identity is malformed, or is the owner's, whose permission cannot change.
        """
        if not _IDENTITY.fullmatch(row.identity):
            raise UserError(
                f'"{row.identity[:60]}" is not an identity. Write the connector and the person, '
                "such as matrix:@ana:example.org.",
                code="operator.invalid",
            )
        if row.identity in self._owners:
            raise UserError(f"{row.identity} runs Muster and is always admin.", code="operator.fixed")
        await queries.put(tx, row)

    def refresh(self) -> None:
        """Make the next lookup read the table again."""
        self._rows = None
        self._changes += 1

    def _entry(self, table: Mapping[str, OperatorRow], identity: str) -> Permission | None:
        """Return the permission set for a person or a group, or None if none is set."""
        row = table.get(identity)
        return self._configured.get(identity) if row is None else _read(row)

    async def _table(self) -> dict[str, OperatorRow]:
        while self._rows is None:
            seen = self._changes
            async with self._store.read() as tx:
                rows = {row.identity: row for row in await queries.every(tx)}
            # Rows read before a concurrent change are stale and must not be cached.
            if seen == self._changes:
                self._rows = rows
        return self._rows


def _read(row: OperatorRow) -> Permission:
    try:
        return Permission.named(row.permission)
    except KeyError:
        return NONE
