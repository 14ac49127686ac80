"""Operators merge and discard what an agent did, after they were told what that means."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from tests import waiting
from tests.bot.agents.review.test_service import KEY, Topic, answered, topic
from tests.bot.orchestrator import VIEWER
from tests.bot.projects.fleet_with_project import ask, git, until_state

__all__ = ["topic"]

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


def gate(repo: Path, text: str) -> None:
    """What the person's branch asks of merges."""
    (repo / ".muster").mkdir(exist_ok=True)
    (repo / ".muster" / "merge.yaml").write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "Ask for tests")


def work(topic: Topic, text: str = "<p>two</p>\n") -> str:
    """The agent commits. Returns the commit."""
    (topic.clone / "page.html").write_text(text)
    git(topic.clone, "commit", "--quiet", "-am", "Two")
    return git(topic.clone, "rev-parse", "HEAD")


async def test_a_branch_is_tested_shown_confirmed_and_merged(topic: Topic) -> None:
    gate(topic.repo, "test: cat page.html\n")
    tip = work(topic)
    (topic.clone / "more").write_text("not committed")
    asked = await topic.ask("!merge web-1")
    assert f"`!merge web-1 --commit={tip[:12]}` needs your confirmation." in asked
    assert f"It brings 1 commit of `muster/web-1`, up to `{tip[:10]}`, into `main` and changes 1 file there." in asked
    assert "The tests succeeded" in asked
    assert "`cat page.html`" in asked
    assert "1 file with changes that are not committed, which is not merged: `!diff web-1`." in asked
    assert (topic.repo / "page.html").read_text() == "<p>one</p>\n"
    done = await topic.ask("!confirm")
    assert "✅ `muster/web-1` is merged into `main`: 1 commit." in done
    assert (topic.repo / "page.html").read_text() == "<p>two</p>\n"
    assert git(topic.repo, "status", "--porcelain") == ""
    assert "has nothing that is not merged" in await topic.ask("!merge web-1")


async def test_what_an_agent_commits_after_the_question_is_not_merged(topic: Topic) -> None:
    first = work(topic)
    assert first[:10] in await topic.ask("!merge web-1")
    work(topic, "<p>three</p>\n")
    assert f"and not at {first[:12]}. Look at what is new" in await topic.ask("!confirm")
    assert (topic.repo / "page.html").read_text() == "<p>one</p>\n"


async def test_failed_tests_are_shown_without_secrets_and_nothing_is_asked(topic: Topic) -> None:
    gate(topic.repo, "test: cat page.html && exit 1\n")
    work(topic, f"key {KEY}\n\x1b]0;title\x07 @room\n")
    said = await topic.ask("!merge web-1")
    assert "the tests did not succeed" in said
    assert "key [redacted]\n␛]0;title␇ @room" in said
    assert "needs your confirmation" not in said
    assert "Nothing of yours waits" in await topic.ask("!confirm")


async def test_conflicts_protected_paths_and_strangers_are_refused(topic: Topic) -> None:
    home = topic.home
    assert "operator" in await home.ask("!merge web-1", sender=VIEWER)
    assert "operator" in await home.ask("!discard web-1", sender=VIEWER)
    assert "No agent is called" in await home.ask("!merge nobody")
    assert "at least 4 digits" in await home.ask("!merge web-1 --commit main")
    work(topic)
    (topic.repo / "page.html").write_text("<p>ours</p>\n")
    git(topic.repo, "commit", "--quiet", "-am", "Ours")
    assert "has conflicts in `page.html`" in await topic.ask("!merge web-1")
    gate(topic.repo, "protected: ['*.html']\n")
    git(topic.repo, "reset", "--quiet", "--hard", "HEAD~2")
    gate(topic.repo, "protected: ['*.html']\n")
    assert "changes `page.html`, which .muster/merge.yaml on `main` protects" in await topic.ask("!merge web-1")
    await home.launch("coder0")
    assert "coder0 has no clone of its own" in await home.ask("!merge coder0")


async def test_a_topics_end_asks_the_same_of_its_branch(topic: Topic) -> None:
    gate(topic.repo, "test: grep -q three page.html || { echo no three; exit 1; }\n")
    work(topic)
    await topic.ask("!done --how merge")
    said = await topic.home.heard(topic.thread, "web-1 is not over: the tests did not succeed")
    assert "no three" in said
    assert (topic.repo / "page.html").read_text() == "<p>one</p>\n"
    work(topic, "<p>three</p>\n")
    await topic.ask("!done --how merge")
    await topic.home.heard(topic.thread, "is merged into `main`: 2 commits. The tests succeeded")
    await until_state(topic.home, "web-1", "ended")
    assert (topic.repo / "page.html").read_text() == "<p>three</p>\n"


async def test_tests_that_take_long_hold_nobody_up_and_end_with_muster(tmp_path: Path) -> None:
    name = f"resting-{os.getpid()}"
    async with answered(tmp_path) as topic:
        gate(topic.repo, f"test: cp /bin/sleep {name} && exec ./{name} 100000\ntimeout: 1h\n")
        work(topic)
        await topic.ask("!done --how merge")
        await waiting.until(lambda: running(name), limit=60)
        _, thread = await ask(topic.home, "[[say: here I am, too]]")
        await topic.home.heard(thread, "here I am, too")
    await waiting.until(lambda: not running(name), limit=60)
    assert (topic.repo / "page.html").read_text() == "<p>one</p>\n"


def running(name: str) -> bool:
    """Whether a program of this name runs on this machine."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return any(line.startswith(f"./{name} ") for line in listed.splitlines())


async def test_a_topic_that_is_discarded_leaves_a_way_back(topic: Topic) -> None:
    tip = work(topic)
    assert "`!done web-1 --how discard` ends the topic" in await topic.ask("!discard web-1")
    await topic.ask("!done --how discard")
    said = await topic.home.heard(topic.thread, "Discarded, with its branch and its clone.")
    assert "is kept for 30 days as `refs/muster-discarded/web-1/" in said
    name = said.partition("git branch NAME ")[2].partition("`")[0]
    git(topic.repo, "branch", "back", name)
    assert git(topic.repo, "rev-parse", "back") == tip


async def test_a_stopped_agents_work_is_discarded_and_it_begins_again(tmp_path: Path) -> None:
    async with answered(tmp_path) as topic:
        home, repo = topic.home, topic.repo
        await home.ask(f"!launch coder0 --runtime sim --sandbox none --workspace {repo}")
        await home.heard_from("coder0")
        place = home.orchestrator.services.planner.workspaces.place("coder0", repo)
        assert place != repo
        assert "coder0 runs. `!stop coder0` stops it" in await home.ask("!discard coder0")
        await home.ask("!stop coder0")
        await home.becomes("stopped")
        (place / "page.html").write_text("<p>two</p>\n")
        git(place, "commit", "--quiet", "-am", "Two")
        (place / "more").write_text("x")
        asked = await home.ask("!discard coder0")
        assert "Gone for good: 1 file with changes that are not committed" in asked
        said = await home.ask("!confirm")
        assert "its clone and its branch are gone." in said
        assert not place.exists()
        assert git(repo, "branch", "--list", "muster/coder0") == ""
        name = said.partition("git branch NAME ")[2].partition("`")[0]
        assert git(repo, "show", f"{name}:page.html") == "<p>two</p>"


async def test_a_shell_says_yes_and_programs_learn_what_was_done(
    topic: Topic, capsys: pytest.CaptureFixture[str]
) -> None:
    work(topic)

    async def muster(*words: str) -> tuple[int, str]:
        client = Client(topic.home.paths.gateway_socket)
        capsys.readouterr()
        status = await asyncio.to_thread(cli.run, sections.load(), list(words), client=lambda: client)
        return status, capsys.readouterr().out

    status, _ = await muster("merge", "web-1", "--squash")
    assert status != 0
    assert (topic.repo / "page.html").read_text() == "<p>one</p>\n"
    status, said = await muster("merge", "web-1", "--squash", "--yes", "--json")
    assert status == 0
    found = json.loads(said)
    assert (found["merged"], found["into"], found["commits"], found["tested"]) == (True, "main", 1, False)
    assert found["commit"] == git(topic.repo, "rev-parse", "main")
    assert git(topic.repo, "log", "-1", "--format=%s").startswith("Squash muster/web-1: ")


async def test_a_gateway_client_learns_what_it_would_confirm(topic: Topic) -> None:
    tip = work(topic)
    answer = await asyncio.to_thread(Client(topic.home.paths.gateway_socket).run, "merge", {"name": "web-1"})
    assert isinstance(answer.body, dict)
    assert answer.body["reason"] == "confirm"
    assert answer.body["data"]["arguments"] == {"commit": tip[:12]}
    assert "It brings 1 commit" in answer.body["data"]["note"]
