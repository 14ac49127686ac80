"""Topics that ended long ago are forgotten with their agents, and nothing is lost that is nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bot.projects.forgetting import Forgetting
from connectors.memory import Said
from database.queries.chat import topics
from tests import waiting
from tests.bot.orchestrator import House
from tests.bot.projects.fleet_with_project import ask, fleet, git, topic, until_state

DAY = 86_400.0


async def after(home: House, days: float) -> None:
    """Forget what is old, as it would be that many days later."""
    services = home.orchestrator.services
    kept = services.settings.retention.topics - days * DAY
    retention = services.settings.retention.model_copy(update={"topics": kept})
    await Forgetting(replace(services, settings=replace(services.settings, retention=retention))).sweep()


async def stopped(home: House, agent: str = "web-1") -> None:
    """Wait until the register has an agent stopped."""
    await waiting.until(lambda: home.known(agent), lambda row: row is not None and row.state == "stopped")


async def state(home: House, agent: str = "web-1") -> str:
    async with home.orchestrator.store.read() as tx:
        found = await topics.of_agent(tx, agent)
    assert found is not None
    return found.state


async def answer(home: House, text: str, thread: str) -> str:
    said: Said = await home.reply(home.say(text, thread))
    return said.text


async def test_a_topic_that_ended_long_ago_is_forgotten_with_its_agent(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: changed]] fix the page")
        await home.heard(thread, "changed")
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        (place / "page.html").write_text("<p>two</p>\n")
        git(place, "commit", "--quiet", "-am", "Two")
        await home.ask("!done --how keep", conversation=thread)
        await until_state(home, "web-1", "ended")
        await stopped(home)
        folder = home.paths.agent_folder("web-1")
        await after(home, 29)
        assert await home.known("web-1") is not None
        assert folder.exists()
        await after(home, 31)
        assert await home.known("web-1") is None
        assert not folder.exists()
        assert "web-1" not in await home.ask("!ps --all")
        assert "There are no topics" in await home.ask("!topics --all")
        forgotten = await topic(home)
        assert (forgotten.state, forgotten.outcome, forgotten.title, forgotten.asked_by) == (
            "forgotten",
            "keep",
            "",
            "",
        )
        # What it did stays with the person.
        assert git(repo, "show", "muster/web-1:page.html") == "<p>two</p>"
        # Its thread answers, and its name is nobody else's.
        assert "This topic is over (branch kept)" in await answer(home, "and now?", thread)
        assert "is over already" in await home.ask("!done web-1")
        assert "is the name of a topic" in await home.ask("!launch web-1 --runtime sim --sandbox none")
        _, second = await ask(home, "[[say: another]]")
        await home.heard(second, "another")
        assert (await topic(home, "web-2")).state == "open"
        await after(home, 62)
        assert not folder.exists(), "nothing makes it again"


async def test_work_that_is_nowhere_else_is_kept_until_it_is_given_up(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        await home.ask("!done --how keep", conversation=thread)
        await until_state(home, "web-1", "ended")
        await stopped(home)
        # Somebody brings its agent back, and it works on.
        await home.ask("!restart web-1")
        await home.heard_from("web-1")
        await after(home, 31)
        assert await state(home) == "ended", "its agent runs"
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        (place / "page.html").write_text("<p>only here</p>\n")
        await home.ask("!stop web-1")
        await stopped(home)
        await after(home, 31)
        assert (place / "page.html").read_text() == "<p>only here</p>\n"
        assert "kept: its clone has 1 file with changes that are not committed" in await home.ask("!topics --all")
        assert "kept: its clone has 1 file" in str(await home.known("web-1"))
        note = await home.ask("!topics")
        assert "web-1 ended long ago, but cannot be forgotten" in note
        assert "`!kill web-1 --discard`" in note
        event = home.chat.post("!kill web-1 --discard", conversation=thread, parent="web-room")
        await home.reply(event)
        await home.ask("!confirm", conversation=thread)
        await waiting.until(lambda: not place.exists())
        await after(home, 31)
        assert await state(home) == "forgotten"
        assert "cannot be forgotten" not in await home.ask("!topics")


async def test_a_topic_for_whose_agent_a_task_waits_is_kept(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        await home.ask("!topic close", conversation=thread)
        await until_state(home, "web-1", "ended")
        await stopped(home)
        await home.ask("!task add 'mend the fence' --agent web-1")
        await after(home, 31)
        assert await home.known("web-1") is not None
        assert "kept: task" in await home.ask("!topics --all")


async def test_a_clone_in_which_another_agent_works_is_kept(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        await home.ask("!topic close", conversation=thread)
        await until_state(home, "web-1", "ended")
        await stopped(home)
        shared = home.paths.workspace("web-1")
        shared.mkdir(parents=True)
        await home.launch("reviewer", "--workspace", str(shared))
        await after(home, 31)
        assert shared.exists()
        assert "kept: reviewer works in its clone" in await home.ask("!topics --all")


async def test_a_topic_that_never_began_is_forgotten(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1", settings="retention: {topics: 2d}\n") as (home, _), home.open():
        _, first = await ask(home, "[[say: one]]")
        await home.heard(first, "one")
        _, second = await ask(home, "[[say: two]]")
        await home.ask("!done web-2")
        await after(home, 1)
        assert await state(home, "web-2") == "ended"
        await after(home, 3)
        assert await state(home, "web-2") == "forgotten"
        assert "This topic is over (closed)" in await answer(home, "hello?", second)
