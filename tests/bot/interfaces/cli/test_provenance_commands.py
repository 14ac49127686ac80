"""`muster provenance verify` says of commits whether their records are what Muster wrote."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bot.commands import sections
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine.store import Store
from database.queries.operations import audit_anchors, audit_log
from tests.forge.provenance.bare_forge import BareForge

STEP = declare("tests.provenance_commands")
OTHER = SigningKey(b"o" * 32)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
    found = Paths.of({"MUSTER_HOME": str(tmp_path / "home")})
    found.prepare()
    return found


@pytest.fixture
def forge(tmp_path: Path) -> BareForge:
    return BareForge(tmp_path)


def verify(forge: BareForge, *words: str) -> int:
    """Fetch the notes as a person does, and check a commit."""
    first = forge.folder / "first"
    if forge.git(first, "ls-remote", "origin", "refs/notes/muster"):
        forge.git(first, "fetch", "--quiet", "origin", "+refs/notes/muster:refs/notes/muster")
    return run(sections.load(), ["provenance", "verify", "--repository", str(first), *words])


async def audited(paths: Paths) -> str:
    """Write two lines of the audit, and return the digest of the last."""
    store = await Store.open(paths.register_url)
    try:
        async with store.write(STEP) as tx:
            for key in ("one", "two"):
                await audit_log.add(tx, key=key, at=1.0, identity="i", door="cli", action="a", outcome="done")
            return await audit_anchors.head(tx)
    finally:
        await store.close()


async def altered(paths: Paths) -> None:
    store = await Store.open(paths.register_url)
    try:
        async with store.write(STEP) as tx:
            await tx.exec_driver_sql("UPDATE audit SET identity = 'eve' WHERE key = 'one'")
    finally:
        await store.close()


def test_a_record_of_this_installation_matches(
    paths: Paths, forge: BareForge, capsys: pytest.CaptureFixture[str]
) -> None:
    key = SigningKey.at(paths.signing_key)
    assert verify(forge, "main") == 1
    assert "There is no record of it." in capsys.readouterr().out
    forge.publish(forge.folder / "first", forge.line("run-1", key=key))
    assert verify(forge, "main") == 0
    assert f"{forge.commit[:12]}: matches\n  written by 'coder0'" in capsys.readouterr().out
    assert verify(forge, "main~1..main", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["keys"]) == (True, [key.public])
    assert found["commits"][0]["records"][0]["record"]["run"] == "run-1"
    assert verify(forge, "main", "--key", OTHER.public) == 1
    assert f"signed by {key.public}, which is not trusted" in capsys.readouterr().out


def test_records_are_compared_with_the_audit(
    paths: Paths, forge: BareForge, capsys: pytest.CaptureFixture[str]
) -> None:
    key = SigningKey.at(paths.signing_key)
    digest = asyncio.run(audited(paths))
    forge.publish(forge.folder / "first", forge.line("run-1", key=key, audit=digest))
    assert verify(forge, "main", "--audit") == 0
    forge.publish(forge.folder / "first", forge.line("run-2", key=key, audit="ab" * 32))
    assert verify(forge, "main", "--audit") == 1
    assert "The audit log has no line that a record names." in capsys.readouterr().out
    asyncio.run(altered(paths))
    assert verify(forge, "main", "--audit", "--json") == 1
    codes = [fault["code"] for fault in json.loads(capsys.readouterr().out)["commits"][0]["faults"]]
    assert codes == ["audit_missing", "audit_altered"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "has no commits 'nowhere'"),
        (("main", "--key", "ed25519:abc"), "'ed25519:abc' is no public key"),
        (("main", "--repository", "/"), "No git repository begins in /"),
    ],
)
def test_what_cannot_be_checked_is_said(
    paths: Paths, forge: BareForge, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    SigningKey.at(paths.signing_key)
    assert verify(forge, *words) != 0
    assert said in capsys.readouterr().err


def test_an_installation_without_a_key_asks_for_one(
    paths: Paths, forge: BareForge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(forge, "main") != 0
    assert "This installation has no signing key. Name the key to trust with --key" in capsys.readouterr().err
    assert not paths.signing_key.exists()
