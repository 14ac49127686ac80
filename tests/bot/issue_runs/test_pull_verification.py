"""`muster provenance verify PR` reads a pull request from the forge and says what is not as Muster wrote it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.commands import sections
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine.store import Store
from database.queries.operations import audit_anchors, audit_log
from fleet import workspace
from forge.provenance import git_notes
from forge.provenance.notes import note_line
from forge.provenance.posts import compose
from tests.forge.forge_server.server import ForgeServer
from tests.forge.provenance.records import PLAIN

STEP = declare("tests.pull_verification")
SHOP = "acme/shop"
OTHER = SigningKey(b"o" * 32)
ROUND = replace(PLAIN, run="5e7a1c/1", audit=None)


@dataclass
class Desk:
    """A pull request of two commits by an agent."""

    forge: ForgeServer
    key: SigningKey
    first: str
    last: str
    number: int

    @property
    def bare(self) -> Path:
        return self.forge.repository(SHOP).git.path

    def note(
        self, commit: str, *, key: SigningKey | None = None, run_id: str = "5e7a1c/1", audit: str | None = None
    ) -> None:
        found = workspace.find(self.bare)
        assert found is not None
        line = note_line(replace(ROUND, run=run_id, audit=audit), commit, key or self.key)
        git_notes.publish(found, str(self.bare), commit, line)

    async def verify(self, *words: str) -> int:
        words = words or (f"{SHOP}#{self.number}",)
        return await asyncio.to_thread(run, sections.load(), ["provenance", "verify", *words])


@dataclass
class Audit:
    """The audit log of the installation; its lines are a day apart, and the round was between the first two."""

    store: Store
    key: SigningKey

    async def lines(self, *days: int) -> str:
        """Write a line on each of these days after the round, and return the digest of the last."""
        async with self.store.write(STEP) as tx:
            for day in days:
                at = ROUND.started.timestamp() + 86_400 * day
                await audit_log.add(tx, key=f"{day}", at=at, identity="i", door="cli", action="a", outcome="done")
            return await audit_anchors.head(tx)

    async def run(self, statement: str) -> None:
        """Change the log past Muster."""
        async with self.store.write(STEP) as tx:
            await tx.exec_driver_sql(statement)

    async def expire(self, *, before: int) -> None:
        """Delete the lines of days before one, as the retention job does."""
        until = ROUND.started.timestamp() + 86_400 * before
        async with self.store.write(STEP) as tx:
            await audit_anchors.forget(tx, until, signer=self.key, now=until + 86_400 * 365)


@pytest.fixture
async def audit(desk: Desk, tmp_path: Path) -> AsyncIterator[Audit]:
    store = await Store.open(Paths.of({"MUSTER_HOME": str(tmp_path)}).register_url)
    yield Audit(store, desk.key)
    await store.close()


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    paths.prepare()
    key = SigningKey.at(paths.signing_key)
    async with ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "muster"))
        git = forge.add_repository(SHOP, files={"shop.py": "1\n"}).git
        monkeypatch.setenv("TOKEN", forge.add_token("muster"))
        paths.muster_yaml.write_text(
            "connectors: {terminal: {}}\n"
            f"forge: {{kind: gitea, url: '{forge.url}', token: 'env:TOKEN', organization: acme, "
            f"repositories: [{SHOP}]}}\n"
        )
        first = git.commit("muster/issue-1", {"shop.py": "2\n"}, "one", author="coder1", start="refs/heads/main")
        last = git.commit("muster/issue-1", {"shop.py": "3\n"}, "two", author="coder1")
        body = compose("It is done.", ROUND, key="5e7a1c.1.propose", secret=b"s", ours="Closes #1")
        opened = forge.open_pull(SHOP, title="x", body=body, head="muster/issue-1", base="main", by="muster")
        yield Desk(forge, key, first, last, opened.number)


async def test_a_pull_request_as_muster_made_it_matches(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.note(desk.last)
    assert await desk.verify() == 0
    said = capsys.readouterr().out
    assert f"{desk.last[:12]}: matches\n  written by 'coder0'" in said
    assert f"{desk.first[:12]}: matches\n  note: It was pushed together with {desk.last[:12]}" in said
    assert "description: shows a record of the same run" in said
    assert await desk.verify(f"{desk.forge.url}/{SHOP}/pulls/{desk.number}", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["pull_request"]) == (True, f"{SHOP}#{desk.number}")
    # Of a second round, the description still shows the first.
    desk.note(desk.last, run_id="5e7a1c/2")
    assert await desk.verify() == 0


async def test_a_missing_note_and_another_key_are_found(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert await desk.verify() == 1
    said = capsys.readouterr().out
    assert said.count("There is no record of it.") == 2
    assert "no record of a commit that matches is of it" in said
    desk.note(desk.last, key=OTHER)
    assert await desk.verify() == 1
    assert f"signed by {OTHER.public}, which is not trusted" in capsys.readouterr().out
    assert await desk.verify(f"{SHOP}#{desk.number}", "--key", OTHER.public) == 0


async def test_an_altered_note_is_found(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.note(desk.last)
    git = desk.forge.repository(SHOP).git
    note = git.run("notes", "--ref=muster", "show", desk.last)
    who = ("-c", "user.name=eve", "-c", "user.email=eve@example.org")
    altered = note.replace('"coder0"', '"coder1"')
    git.run(*who, "notes", "--ref=muster", "add", "--force", "-m", altered, desk.last)
    assert await desk.verify() == 1
    assert "A record was altered" in capsys.readouterr().out


async def test_a_commit_that_somebody_else_added_is_found(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.note(desk.last)
    added = desk.forge.commit(SHOP, "muster/issue-1", {"shop.py": "4\n"})
    assert await desk.verify() == 1
    said = capsys.readouterr().out
    assert f"{added[:12]}: does not match\n  fault: There is no record of it." in said
    assert f"{desk.last[:12]}: matches" in said


async def test_a_description_of_another_run_or_without_a_record_is_found(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.note(desk.last)
    other = compose("Mine.", replace(ROUND, run="ffffff/1"), key="ffffff.1.propose", secret=b"s")
    for body, said in ((other, "'ffffff/1'"), ("Nothing.", "shows no record of Muster's"), (None, "no record")):
        desk.forge.edit(SHOP, desk.number, body=body or "", by="ana")
        assert await desk.verify() == 1
        assert said in capsys.readouterr().out


async def test_a_merged_pull_request_is_checked_at_its_last_commit(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.note(desk.last)
    desk.forge.merge(SHOP, desk.number, by="ana")
    assert await desk.verify() == 0
    assert "only the last one is checked" in capsys.readouterr().out


async def test_a_record_is_compared_with_the_audit(
    desk: Desk, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.note(desk.last, audit=await audit.lines(-1))
    await audit.lines(1, 2)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit") == 0
    said = capsys.readouterr().out
    assert f"{desk.last[:12]}: matches" in said
    assert "audit log: as Muster wrote it" in said
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit", "--key", desk.key.public, "--json") == 0


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE audit SET identity = 'eve' WHERE key = '-1'", "audit_altered"),
        ("UPDATE audit SET identity = 'eve' WHERE key = '2'", "audit_altered"),
        ("DELETE FROM audit WHERE key = '1'", "audit_altered"),
        ("DELETE FROM audit WHERE key = '-1'", "audit_missing"),
        ("DELETE FROM audit", "audit_missing"),
    ],
)
async def test_a_changed_or_missing_row_of_the_audit_is_found(
    desk: Desk, audit: Audit, capsys: pytest.CaptureFixture[str], statement: str, code: str
) -> None:
    desk.note(desk.last, audit=await audit.lines(-1))
    await audit.lines(1, 2)
    await audit.run(statement)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit", "--json") == 1
    last = json.loads(capsys.readouterr().out)["commits"][0]
    assert code in [fault["code"] for fault in last["faults"]]
    assert await desk.verify() == 0, "without --audit the log is not read"


async def test_only_a_row_that_can_have_expired_may_be_missing(
    desk: Desk, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = await audit.lines(-3, -1)
    await audit.lines(1, 2)
    desk.note(desk.last, audit=digest)
    await audit.expire(before=-2)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit") == 0
    assert "expired" not in capsys.readouterr().out, "its line is the first that is left"
    await audit.expire(before=2)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit") == 0
    assert "The line of the audit log that a record names may have expired." in capsys.readouterr().out


async def test_a_row_of_a_time_that_the_audit_covers_may_not_be_missing(
    desk: Desk, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    await audit.lines(-3, -1, 1)
    desk.note(desk.last, audit="ab" * 32)
    await audit.expire(before=-2)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit") == 1
    assert "The audit log has no line that a record names." in capsys.readouterr().out


async def test_without_a_register_the_audit_is_no_file_that_is_made(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    desk.note(desk.last, audit="ab" * 32)
    assert await desk.verify(f"{SHOP}#{desk.number}", "--audit") == 1
    assert "There is no audit log here" in capsys.readouterr().err
    assert not list(tmp_path.rglob("register.db*"))
    assert await desk.verify() == 0, "records are checked without one"


async def test_a_machine_without_a_key_asks_for_one_and_a_wrong_one_matches_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    desk.note(desk.last)
    Paths.of({"MUSTER_HOME": str(tmp_path)}).signing_key.unlink()
    assert await desk.verify() == 1
    assert "Name the key to trust with --key" in capsys.readouterr().err
    assert await desk.verify(f"{SHOP}#{desk.number}", "--key", desk.key.public) == 0
    assert await desk.verify(f"{SHOP}#{desk.number}", "--key", "ed25519:abc") == 1
    assert "'ed25519:abc' is no public key" in capsys.readouterr().err
    assert await desk.verify(f"{SHOP}#{desk.number}", "--key", OTHER.public) == 1
    said = capsys.readouterr().out
    assert f"signed by {desk.key.public}, which is not trusted" in said
    assert "are named with --key" in said


async def test_an_address_elsewhere_and_a_missing_forge_are_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert await desk.verify("https://elsewhere.example/acme/shop/pulls/1") != 0
    assert "no pull request of the configured forge" in capsys.readouterr().err
    Paths.of({"MUSTER_HOME": str(tmp_path)}).muster_yaml.write_text("connectors: {terminal: {}}\n")
    assert await desk.verify() != 0
    assert "names no forge" in capsys.readouterr().err
