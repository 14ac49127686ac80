"""Operators look at what an agent changed, from its thread or by its name."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from connectors.contract.messages import Capabilities, File
from connectors.memory import ALL_CAPABILITIES
from tests.bot.orchestrator import OPERATOR, VIEWER, House
from tests.bot.projects.fleet_with_project import WEB, ask, fleet, git

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)

KEY = "sk-ant-api03-" + "x" * 40


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic whose agent web-1 has answered."""

    home: House
    repo: Path
    thread: str
    clone: Path

    async def ask(self, command: str) -> str:
        """Write a command into the topic's thread."""
        event = self.home.chat.post(command, sender=OPERATOR, conversation=self.thread, parent=WEB)
        return (await self.home.reply(event)).text

    def files(self) -> list[File]:
        return [each.content for each in self.home.chat.said if isinstance(each.content, File)]

    async def file(self) -> str:
        """The content of the one file that was attached."""
        await self.home.chat.until(self.files, limit=30)
        [found] = self.files()
        assert found.name == "web-1.diff"
        return Path(found.path).read_text()


@contextlib.asynccontextmanager
async def answered(folder: Path, *, capabilities: Capabilities = ALL_CAPABILITIES) -> AsyncIterator[Topic]:
    async with fleet(folder, capabilities=capabilities) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: here I am]]")
        await home.heard(thread, "here I am")
        yield Topic(home, repo, thread, home.orchestrator.services.planner.workspaces.place("web-1", repo))


@pytest.fixture
async def topic(tmp_path: Path) -> AsyncIterator[Topic]:
    async with answered(tmp_path) as found:
        yield found


async def test_a_small_change_is_shown_at_once_and_a_long_one_as_a_file(topic: Topic) -> None:
    assert "web-1 changed nothing since" in await topic.ask("!diff")
    assert "has no commits since" in await topic.ask("!commits")
    (topic.clone / "page.html").write_text("<p>two</p>\n")
    said = await topic.ask("!diff")
    assert "web-1 changed 1 file since" in said
    assert "+1 -1 lines. 1 file has changes that are not committed." in said
    assert "-<p>one</p>\n+<p>two</p>" in said
    git(topic.clone, "commit", "--quiet", "-am", "Two")
    (topic.clone / "log").write_text("".join(f"line {number}\n" for number in range(50)))
    said = await topic.ask("!diff")
    assert "web-1 changed 2 files since" in said
    assert "<p>two</p>" not in said
    assert "+line 49\n" in await topic.file()
    listed = await topic.ask("!commits")
    assert "`muster/web-1` has 1 commit since" in listed
    assert "| `Two` | 1 | +1 | -1 |" in listed
    assert "1 file has changes that are not committed. `!diff web-1` shows them." in listed
    # By its name from elsewhere, and since a commit.
    head = git(topic.clone, "rev-parse", "HEAD")
    said = await topic.home.ask(f"!diff web-1 --since {head[:8]}")
    assert f"web-1 changed 1 file since `{head[:10]}`: +50 -0 lines." in said


async def test_what_leaves_is_masked_and_shown_but_not_obeyed(topic: Topic) -> None:
    (topic.clone / "settings").write_text(f"key = {KEY}\n" + "\x1b]0;title\x07 a\u202eb\n" * 20)
    (topic.clone / "esc\x1b[2J\n@room").write_text("x\n")
    said = await topic.ask("!diff")
    assert "`esc␛[2J␊@room`" in said
    text = await topic.file()
    assert KEY not in text
    assert "key = [redacted]" in text
    assert "␛]0;title␇ a⟨U+202E⟩b" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text + said)


async def test_a_list_is_a_screenful_and_a_diff_has_an_end(topic: Topic) -> None:
    for number in range(30):
        (topic.clone / f"file-{number:02}").write_text("0123456789abcdef\n" * 1000)
    said = await topic.ask("!diff")
    assert "web-1 changed 30 files since" in said
    assert "The diff is too long, so only its beginning is shown." in said
    assert "`file-19`" in said
    assert "`file-20`" not in said
    assert "and 10 more." in said
    text = await topic.file()
    assert len(text) < 300_000
    assert text.endswith("\n")


async def test_a_chat_system_without_files_shows_the_beginning(tmp_path: Path) -> None:
    async with answered(tmp_path, capabilities=dataclasses.replace(ALL_CAPABILITIES, files=False)) as topic:
        (topic.clone / "log").write_text("".join(f"line {number}\n" for number in range(500)))
        said = await topic.ask("!diff")
        assert "386 more lines: `!diff web-1` in a shell." in said
        assert "+line 100\n" in said
        assert topic.files() == []


async def test_only_operators_look_and_only_at_clones(topic: Topic) -> None:
    home = topic.home
    assert "operator" in await home.ask("!diff web-1", sender=VIEWER)
    assert "operator" in await home.ask("!commits web-1", sender=VIEWER)
    assert "No agent is called" in await home.ask("!diff nobody")
    assert "This is no agent's thread. Name the agent" in await home.ask("!diff")
    assert "expected base, or at least 4 digits" in await home.ask("!diff web-1 --since main")
    unknown = await home.ask("!diff web-1 --since abcdef0123")
    assert "has no commit abcdef0123" in unknown
    assert "`!commits web-1`" in unknown
    await home.launch("coder0")
    plain = await home.ask("!diff coder0")
    assert "coder0 has no clone of its own, so Muster cannot tell what it changed." in plain
    assert "which is no clone that was made for it" in plain
    await topic.ask("!done --how discard")
    await home.heard(topic.thread, "Discarded")
    assert "its clone was removed when it was over" in await home.ask("!commits web-1")


async def test_an_agent_of_another_host_is_not_looked_at(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic.home.orchestrator.agents.context, "is_ours", lambda _: False)
    assert "web-1 belongs to the Muster on" in await topic.ask("!diff")
    assert "web-1 belongs to the Muster on" in await topic.ask("!commits")


async def test_a_shell_prints_the_diff_and_programs_get_it(topic: Topic, capsys: pytest.CaptureFixture[str]) -> None:
    base = git(topic.repo, "rev-parse", "HEAD")
    git(topic.clone, "mv", "page.html", "index.html")
    (topic.clone / "key").write_text(f"{KEY}\n")

    async def muster(*words: str) -> str:
        client = Client(topic.home.paths.gateway_socket)
        capsys.readouterr()
        assert await asyncio.to_thread(cli.run, sections.load(), list(words), client=lambda: client) == 0
        return capsys.readouterr().out

    printed = await muster("diff", "web-1")
    assert "web-1 changed 2 files since" in printed
    assert "rename from page.html\nrename to index.html\n" in printed
    assert "+[redacted]\n" in printed
    assert "\x1b" not in printed
    found = json.loads(await muster("diff", "web-1", "--json"))
    assert {key: found[key] for key in ("base", "head", "dirty", "truncated", "on_branch")} == {
        "base": base,
        "head": base,
        "dirty": True,
        "truncated": False,
        "on_branch": True,
    }
    assert [(each["path"], each["was"], each["status"], each["added"], each["removed"]) for each in found["files"]] == [
        ("index.html", "page.html", "renamed", 0, 0),
        ("key", None, "added", 1, 0),
    ]
    assert "+[redacted]\n" in found["diff"]
    git(topic.clone, "commit", "--quiet", "-am", f"Use {KEY}")
    listed = json.loads(await muster("commits", "web-1", "--json"))
    assert [(each["subject"], each["files"]) for each in listed["commits"]] == [("Use [redacted]", 1)]
    assert topic.files() == []
