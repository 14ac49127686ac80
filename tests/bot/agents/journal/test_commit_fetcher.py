"""Agents in repositories, as operators see them: a clone, its commits in the person's repository, its end."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import OPERATOR, ROOM, House, house
from tests.fleet.workspace.repository import Ground

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path).begin()


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path / "muster") as made, made.open():
        yield made


async def launch(home: House, ground: Ground, *options: str) -> str:
    """Launch an agent in the repository. Returns its thread."""
    await home.ask(" ".join(["!launch coder0 --runtime sim --workspace", str(ground.project), *options]))
    thread = await home.thread("coder0")
    await home.heard(thread, "Ready")
    return thread


async def run(home: House, thread: str, command: str) -> None:
    """Have the agent run a command, with permission."""
    event = home.say(f"[[run: {command}]]", thread)
    question = await home.heard(thread, "asks for permission", limit=60)
    assert command in question
    asked = next(said for said in home.chat.messages(thread) if said.text == question)
    home.chat.react(asked.event_id, "✅", conversation=thread)
    await home.marks(event, "✅")


async def kill(home: House, *options: str) -> str:
    event = home.chat.post(" ".join(["!kill coder0", *options]))
    home.chat.react((await home.reply(event)).event_id, "✅")
    return await home.heard(ROOM, "is killed")


async def test_the_thread_is_told_of_what_was_committed(home: House, ground: Ground) -> None:
    (ground.project / "draft").write_text("x")
    said = await home.ask(f"!launch coder0 --runtime sim --workspace {ground.project}")
    assert f"a clone of `{ground.project}`, on its branch `muster/coder0`" in said
    assert "1 file has changes that you have not committed; the agent does not see them." in said
    thread = await home.thread("coder0")
    await home.heard(thread, "Ready")
    await run(home, thread, "echo x > work; git add work; git commit -qm work")
    told = await home.heard(thread, "⇡", limit=60)
    assert told == f"⇡ 1 commit on `muster/coder0` in `{ground.project}`."
    assert ground.git("show", "muster/coder0:work") == "x"
    assert ground.git("status", "--porcelain") == "?? draft"
    # Nothing new, nothing said.
    await home.marks(home.say("[[say: done]]", thread), "✅")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")
    assert sum("⇡" in text for text in home.chat.texts(thread)) == 1


@pytest.mark.slow
async def test_what_was_committed_before_a_kill_is_taken_over_and_the_clone_goes_with_discard(
    home: House, ground: Ground
) -> None:
    await launch(home, ground)
    clone = home.paths.workspace("coder0")
    # A commit in the middle of a turn, or by what the agent left running.
    commit = ground.commit("late", "x", cwd=clone)
    assert f"Its workspace stays: `{clone}`" in await kill(home)
    await home.heard(await home.thread("coder0"), "1 commit on")
    assert ground.at("refs/heads/muster/coder0") == commit
    event = home.chat.post("!kill coder0 --discard")
    home.chat.react((await home.reply(event)).event_id, "✅")
    await home.heard(ROOM, "Its workspace is deleted")
    assert not clone.exists()
    assert ground.at("refs/heads/muster/coder0") == commit
    assert (ground.project / "read.me").exists()


@pytest.mark.slow
async def test_what_was_told_is_told_once_by_the_next_orchestrator(tmp_path: Path, ground: Ground) -> None:
    async with house(tmp_path / "muster") as home:
        async with home.open():
            thread = await launch(home, ground)
        ground.commit("meanwhile", "x", cwd=home.paths.workspace("coder0"))
        async with home.open():
            await home.heard(thread, "⇡")
        async with home.open():
            await home.marks(home.say("[[say: hello]]", thread), "✅")
        assert sum("⇡" in text for text in home.chat.texts(thread)) == 1


@pytest.mark.slow
async def test_what_hinders_taking_over_is_said_once(home: House, ground: Ground) -> None:
    thread = await launch(home, ground)
    objects = ground.project / ".git" / "objects"
    objects.rename(objects.with_name("real"))
    objects.symlink_to("real")
    ground.commit("work", "x", cwd=home.paths.workspace("coder0"))
    for word in ("one", "two"):
        await home.marks(home.say(f"[[say: {word}]]", thread), "✅")
    await home.heard(thread, "objects is a link")
    objects.unlink()
    objects.with_name("real").rename(objects)
    await home.marks(home.say("[[say: three]]", thread), "✅")
    await home.heard(thread, "⇡ 1 commit")
    assert sum("objects is a link" in text for text in home.chat.texts(thread)) == 1


async def test_another_folder_where_the_clone_belongs_is_told_before_anything_begins(
    home: House, ground: Ground
) -> None:
    place = home.paths.workspace("coder0")
    place.mkdir()
    (place / "file").write_text("mine")
    said = await home.ask(f"!launch coder0 --runtime sim --workspace {ground.project}")
    assert "something that is no clone of it" in said
    assert "delete it with `!kill coder0 --discard`" in said
    assert "No agent runs" in await home.ask("!ps")


@pytest.mark.slow
async def test_the_roster_lets_an_agent_work_right_in_the_repository(tmp_path: Path, ground: Ground) -> None:
    roster = f"agents:\n  - name: coder0\n    runtime: sim\n    workspace: {ground.project}\n    clone: false\n"
    async with house(tmp_path / "muster", roster=roster) as home, home.open():
        said = await home.ask("!launch coder0", sender=OPERATOR)
        assert f"in `{ground.project}`" in said
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        await run(home, thread, "echo x > here")
        assert (ground.project / "here").read_text() == "x\n"
        assert "delete it yourself" in await kill(home, "--discard")
        assert (ground.project / "here").exists()


@pytest.mark.slow
async def test_a_conversation_that_began_in_the_repository_goes_on_there_until_it_is_given_up(
    tmp_path: Path, ground: Ground
) -> None:
    """As it is with agents from before there were clones."""
    roster = "agents:\n  - name: coder0\n    runtime: sim\n    workspace: {}\n    clone: {}\n"
    async with house(tmp_path / "muster", roster=roster.format(ground.project, "false")) as home, home.open():
        await home.ask("!launch coder0")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        home.paths.roster_yaml.write_text(roster.format(ground.project, "true"))
        await home.ask("!stop coder0")
        await home.heard(thread, "Stopped")
        assert f"in `{ground.project}`" in await home.ask("!launch coder0")
        await home.heard(thread, "going on with its conversation")
        spec = home.paths.agent_folder("coder0") / host_lifecycle.SPEC
        assert json.loads(spec.read_text())["workspace"] == str(ground.project)
        await kill(home)
        await home.ask("!launch coder0")
        await home.chat.until(lambda: "in a new conversation" in home.chat.texts(thread)[-1], limit=30)
        assert json.loads(spec.read_text())["workspace"] == str(home.paths.workspace("coder0"))
