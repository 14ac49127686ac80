"""Who may do what: from ``muster.yaml``, from what an admin said since, and by owning the machine's account.

What was said by command goes before the file. Whoever runs Muster is admin: the process, its sockets and its files are
theirs anyway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.auth.owner import owner_identity
from bot.auth.permission import ADMIN, NONE, Permission
from bot.text.errors import UserError
from database.queries.chat import operator_permissions as queries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from database.engine.store import Store
    from database.queries.chat.operator_permissions import OperatorRow

#: ``CONNECTOR:PERSON``; people are named as their chat system names them, without spaces.
_IDENTITY = re.compile(r"[a-z][a-z0-9_-]{0,39}:[^\s\x00-\x1f\x7f-\x9f]{1,255}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """The permission of a person, or of a group, and where it comes from."""

    identity: str
    permission: Permission
    #: owner (runs Muster), file (muster.yaml) or command (`operator set`)
    source: str
    set_by: str | None = None
    set_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Authority:
    """What someone may do, and by what."""

    permission: Permission
    #: the group by which they may, such as ``discord:role:123``; None where it was said of themselves, or of no one
    through: str | None = None


def is_person(identity: str) -> bool:
    """Return whether it is someone who commands the fleet: no agent, and no part of Muster itself."""
    return _IDENTITY.fullmatch(identity) is not None and not identity.startswith(("agent:", "muster:"))


class Operators:
    """Permissions by identity. The table is read once and again after a change of ours; no one else writes it."""

    def __init__(
        self, store: Store, configured: Mapping[str, Permission], owners: Collection[str] | None = None
    ) -> None:
        self._store = store
        self._configured = dict(configured)
        self._owners = frozenset(owners if owners is not None else (owner_identity(),))
        self._rows: dict[str, OperatorRow] | None = None
        self._changes = 0

    async def permission(self, identity: str, groups: Collection[str] = ()) -> Permission:
        """Return what someone may do; `NONE` for a stranger. See `authority`."""
        return (await self.authority(identity, groups)).permission

    async def authority(self, identity: str, groups: Collection[str] = ()) -> Authority:
        """Return what someone may do, and by which of their groups.

        What is said of themselves goes before what is said of the groups that they are in, also where it is less. Of
        several groups the one with the highest permission counts.

        Args:
            identity: the connector and the person.
            groups: as the connector calls them (`Inbound.groups`).
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
        """Everybody with a permission, and everybody from whom one was taken."""
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
        """Give a permission; `refresh` once `tx` is committed.

        Raises:
            UserError: no one can be called so, or it is the owner, whose permission stays.
        """
        if not _IDENTITY.fullmatch(row.identity):
            raise UserError(
                f'"{row.identity[:60]}" is no identity. Write the connector and the person, '
                "such as matrix:@ana:example.org.",
                code="operator.invalid",
            )
        if row.identity in self._owners:
            raise UserError(f"{row.identity} runs Muster and is always admin.", code="operator.fixed")
        await queries.put(tx, row)

    def refresh(self) -> None:
        """Read the table again at the next question."""
        self._rows = None
        self._changes += 1

    def _entry(self, table: Mapping[str, OperatorRow], identity: str) -> Permission | None:
        """Return what was said of a person, or of a group; None when nothing was."""
        row = table.get(identity)
        return self._configured.get(identity) if row is None else _read(row)

    async def _table(self) -> dict[str, OperatorRow]:
        while self._rows is None:
            seen = self._changes
            async with self._store.read() as tx:
                rows = {row.identity: row for row in await queries.every(tx)}
            # What changed while it was being read must not come back.
            if seen == self._changes:
                self._rows = rows
        return self._rows


def _read(row: OperatorRow) -> Permission:
    try:
        return Permission.named(row.permission)
    except KeyError:
        return NONE
