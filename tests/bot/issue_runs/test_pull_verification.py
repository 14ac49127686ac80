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
from core.signing.signing_key import SigningKey
from fleet import workspace
from forge.provenance import git_notes
from forge.provenance.notes import note_line
from forge.provenance.posts import compose
from tests.forge.forge_server.server import ForgeServer
from tests.forge.provenance.records import PLAIN

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

    def note(self, commit: str, *, key: SigningKey | None = None, run_id: str = "5e7a1c/1") -> None:
        found = workspace.find(self.bare)
        assert found is not None
        line = note_line(replace(ROUND, run=run_id), commit, key or self.key)
        git_notes.publish(found, str(self.bare), commit, line)

    async def verify(self, *words: str) -> int:
        words = words or (f"{SHOP}#{self.number}",)
        return await asyncio.to_thread(run, sections.load(), ["provenance", "verify", *words])


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


async def test_an_address_elsewhere_and_a_missing_forge_are_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert await desk.verify("https://elsewhere.example/acme/shop/pulls/1") != 0
    assert "no pull request of the configured forge" in capsys.readouterr().err
    Paths.of({"MUSTER_HOME": str(tmp_path)}).muster_yaml.write_text("connectors: {terminal: {}}\n")
    assert await desk.verify() != 0
    assert "names no forge" in capsys.readouterr().err
