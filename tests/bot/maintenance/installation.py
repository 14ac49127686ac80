"""What tests of backups and of updates share: an installation that never ran, and what is in it."""

from __future__ import annotations

from bot.config.paths import Paths
from core.crash_points import declare
from database.engine.store import Store
from database.queries.chat import operator_permissions
from database.queries.chat.operator_permissions import OperatorRow

STEP = declare("test.upkeep")


async def put(url: str, name: str) -> None:
    """Write a row into a register."""
    store = await Store.open(url)
    async with store.write(STEP) as tx:
        await operator_permissions.put(
            tx, OperatorRow(identity=f"x:{name}", permission="viewer", set_by="x", set_at=1.0)
        )
    await store.close()


async def people(url: str) -> list[str]:
    """Who stands in a register."""
    store = await Store.open(url)
    async with store.read() as tx:
        found = [row.identity for row in await operator_permissions.every(tx)]
    await store.close()
    return found


def standing(paths: Paths) -> dict[str, str]:
    """All files that are there, but for what is kept of before, and what says who is at work."""
    assert paths.home is not None
    return {
        str(path.relative_to(paths.home)): path.read_text(errors="replace")
        for path in sorted(paths.home.rglob("*"))
        if path.is_file()
        and not {"backups", "versions", "current", "muster.lock", "upkeep.part"} & set(path.parts)
        and not path.name.startswith(("register.db", "host.lock"))
        and not any(part.startswith("before-restore-") for part in path.parts)
    }


def hidden(paths: Paths) -> list[str]:
    """What was begun and not ended."""
    assert paths.home is not None
    found = [path.name for path in paths.home.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]
    return sorted(set(found) - {"upkeep.part"})
