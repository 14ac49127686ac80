"""Words in a project's room open a topic, in which an agent of its own answers."""

from __future__ import annotations

from pathlib import Path

from tests.bot.orchestrator import ROOM
from tests.bot.projects.fleet_with_project import ask, fleet, topic


async def test_words_in_a_projects_room_are_answered_in_a_thread_by_an_agent_of_its_own(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        event, thread = await ask(home, "[[say: hello from the topic]] fix the page")
        await home.heard(thread, "hello from the topic")
        await home.marks(event, "📥", "👀", "✅")
        row = await home.row("web-1")
        assert row.topic == (await topic(home)).title
        assert row.workspace == str(repo)
        again = home.say("[[say: and again]]", thread)
        await home.heard(thread, "and again")
        await home.marks(again, "✅")
        other, second = await ask(home, "[[say: another one]]")
        await home.heard(second, "another one")
        assert second != thread
        assert (await home.row("web-2")).state != "failed"
        # The fleet's main room goes on as it is.
        assert "No agent here is the orchestrator" in await home.ask("hello")
        _, shared = await ask(home, "@web [[say: from the shared room]]", room=ROOM)
        await home.heard(shared, "from the shared room")
        assert "web-1" not in home.paths.roster_yaml.read_text() if home.paths.roster_yaml.exists() else True
        del other
