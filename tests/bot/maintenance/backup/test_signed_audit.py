"""The signed chain of the audit goes on after retention, after a restore, and in another database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.maintenance import retention_job
from bot.maintenance.backup.restore import restore
from bot.maintenance.backup.service import backup
from core.signing.signing_key import SigningKey, SigningKeyUnusable
from database.engine import database_copy
from database.engine.database_copy import RegisterPlace
from database.engine.store import Store
from database.queries.operations import audit_anchors, audit_log
from database.queries.operations.audit_verification import AuditCheck
from tests.bot.maintenance.installation import STEP

NOW = 1_700_000_000.0
YEAR = 365 * 86_400.0


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.of({"MUSTER_HOME": str(tmp_path / "home")})
    found.prepare()
    return found


async def write(url: str, *keys: str, at: float = NOW) -> None:
    store = await Store.open(url)
    async with store.write(STEP) as tx:
        for key in keys:
            await audit_log.add(
                tx, key=key, at=at, identity="i", door="cli", action="a", outcome="done", arguments={"é": [0.1, None]}
            )  # fmt: skip
    await store.close()


async def swept(paths: Paths, now: float) -> None:
    store = await Store.open(paths.register_url)
    try:
        await retention_job.sweep(store, paths, lambda: now)
    finally:
        await store.close()


async def checked(url: str, paths: Paths) -> AuditCheck:
    store = await Store.open(url)
    async with store.read() as tx:
        check = AuditCheck(await audit_anchors.every(tx), {SigningKey.read(paths.signing_key).public})
        async for line in audit_anchors.lines(tx):
            check.line(line)
    await store.close()
    check.end()
    return check


async def kinds(url: str) -> list[str]:
    store = await Store.open(url)
    async with store.read() as tx:
        found = [each.kind for each in await audit_anchors.every(tx)]
    await store.close()
    return found


async def test_each_sweep_signs_what_is_new_and_what_expired(paths: Paths) -> None:
    await write(paths.register_url, "old", "older")
    await swept(paths, NOW)
    await swept(paths, NOW)
    assert await kinds(paths.register_url) == ["checkpoint"]
    await write(paths.register_url, "new", at=NOW + 4 * YEAR)
    await swept(paths, NOW + 5.1 * YEAR)
    assert await kinds(paths.register_url) == ["retention", "checkpoint"]
    check = await checked(paths.register_url, paths)
    assert (check.faults, check.lines, check.begins_at) == ([], 1, NOW + 5.1 * YEAR)


async def test_a_restored_register_goes_on_under_its_key(paths: Paths) -> None:
    paths.muster_yaml.write_text("{}\n")
    await write(paths.register_url, "one", "two")
    await swept(paths, NOW)
    key = SigningKey.read(paths.signing_key).public
    made = await backup(paths, {}, now=NOW)
    await write(paths.register_url, "three")
    await swept(paths, NOW + 1)
    paths.signing_key.unlink()
    await restore(paths, {}, made.written.file, now=NOW + 2)
    assert SigningKey.read(paths.signing_key).public == key
    await write(paths.register_url, "four")
    await swept(paths, NOW + 3)
    check = await checked(paths.register_url, paths)
    assert (check.faults, check.lines) == ([], 3)


async def test_the_chain_is_kept_in_another_database(paths: Paths, register_url: str) -> None:
    here = f"sqlite:///{paths.state / 'other.db'}"
    await write(here, "one", "two")
    store = await Store.open(here)
    async with store.write(STEP) as tx:
        await audit_anchors.checkpoint(tx, SigningKey.at(paths.signing_key), NOW)
    await store.close()
    await database_copy.copy(RegisterPlace(url=here), RegisterPlace(url=register_url))
    await write(register_url, "three")
    check = await checked(register_url, paths)
    assert (check.faults, check.lines) == ([], 3)


async def test_an_unusable_key_keeps_nothing_but_the_audit(paths: Paths) -> None:
    await write(paths.register_url, "old")
    picture = paths.incoming / "old.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"picture")
    os.utime(picture, (NOW, NOW))
    paths.signing_key.write_text("no key")
    paths.signing_key.chmod(0o600)
    with pytest.raises(SigningKeyUnusable):
        await swept(paths, NOW + 6 * YEAR)
    assert not picture.exists()
    assert await kinds(paths.register_url) == []
    await write(paths.register_url, "new", at=NOW + 6 * YEAR)
    paths.signing_key.unlink()
    await swept(paths, NOW + 6 * YEAR)
    assert await kinds(paths.register_url) == ["retention", "checkpoint"]
    assert (await checked(paths.register_url, paths)).faults == []
