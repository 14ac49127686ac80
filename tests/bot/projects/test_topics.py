"""Words in a project's room open a topic, in which an agent of its own answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bot.projects import ending, service
from connectors.memory import ALL_CAPABILITIES
from database.queries.chat.topics import Topic
from tests import waiting
from tests.bot.daily_limits import limit_of_a_day
from tests.bot.orchestrator import OPERATOR, ROOM, VIEWER
from tests.bot.projects.fleet_with_project import WEB, ask, fleet, git, thread_of, topic, until_state


async def test_words_in_a_projects_room_are_answered_in_a_thread_by_an_agent_of_its_own(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        event, thread = await ask(home, "[[say: hello from the topic]] fix the page")
        await home.heard(thread, "hello from the topic")
        await home.marks(event, "📥", "👀", "✅")
        row = await home.row("web-1")
        assert row.purpose == (await topic(home)).title
        assert row.workspace == str(repo)
        again = home.say("[[say: and again]]", thread)
        await home.heard(thread, "and again")
        await home.marks(again, "✅")
        _, second = await ask(home, "[[say: another one]]")
        await home.heard(second, "another one")
        assert second != thread
        # The fleet's main room goes on as it is, and a mention opens a topic there.
        assert "No agent here is the orchestrator" in await home.ask("hello")
        _, shared = await ask(home, "@web [[say: from the shared room]]", room=ROOM)
        await home.heard(shared, "from the shared room")
        # A topic is no agent of the roster.
        assert not home.paths.roster_yaml.exists()
        assert "not in the roster" not in await home.ask("!ps --all")
        assert "belongs to a topic" in await home.ask("!launch web-1")
        listed = await home.ask("!topics")
        assert [name in listed for name in ("web-1", "web-2", "web-3")] == [True] * 3
        assert "3 of 4" in await home.ask("!projects")


@pytest.fixture
def _news_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have topics looked at because of news alone."""
    monkeypatch.setattr(service, "LOOK_EVERY", 600.0)


async def test_only_operators_open_topics(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        event = home.chat.post("[[say: no]]", sender=VIEWER, conversation=WEB)
        assert "only operators talk to agents" in (await home.reply(event)).text
        _, thread = await ask(home, "[[say: yes]]", sender=OPERATOR)
        await home.heard(thread, "yes")
        event = home.chat.post("!project remove web", sender=OPERATOR)
        assert "admin" in (await home.reply(event)).text


@pytest.mark.usefixtures("_news_alone")
async def test_what_is_over_the_bounds_waits_in_order_and_says_so(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1") as (home, _), home.open():
        begun, first = await ask(home, "[[say: one]] [[wait: gate]]")
        await home.marks(begun, "👀")
        second_event, second = await ask(home, "[[say: two]]")
        await home.heard(WEB, "It waits, because as many topics run")
        third_event, third = await ask(home, "[[say: three]]")
        await home.heard(WEB, "1 topic is before it")
        more = home.say("[[say: two and a half]]", second)
        await home.heard(second, "reads this when it begins")
        assert "waiting, 1 before it" in await home.ask("!topics")
        assert await home.known("web-2") is None
        home.models.release("gate")
        await home.heard(first, "one")
        assert "web-1 ends when its turn has ended" in await home.ask("!topic close", conversation=first)
        await until_state(home, "web-1", "ended")
        await home.heard(second, "two and a half")
        await home.marks(second_event, "✅")
        await home.marks(more, "✅")
        assert (await topic(home, "web-3")).state == "waiting"
        assert "is taken back" in await home.ask("!done web-3")
        await home.heard(third, "Closed")
        assert home.chat.reactions(third_event) == []
        late = home.say("hello?", third)
        assert "This topic is over" in (await home.reply(late)).text


async def test_an_idle_topic_is_frozen_and_a_reply_wakes_it_in_its_conversation(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="idle: 1s") as (home, _):
        async with home.open():
            _, thread = await ask(home, "[[say: first]]")
            await home.heard(thread, "first")
            await until_state(home, "web-1", "idle")
            await home.heard(thread, "Write here to wake it")
            assert not any("resume web-1" in text for text in home.chat.texts(thread))
        async with home.open():  # another process
            event = home.say("[[say: second]]", thread)
            await home.marks(event, "✅")
            await home.heard(thread, "going on with its conversation")
            assert not any("is frozen; this and later" in text for text in home.chat.texts(thread))
            # Whom a person froze, words do not wake.
            await home.ask("!freeze web-1")
            await until_state(home, "web-1", "idle")
            home.say("[[say: third]]", thread)
            await home.heard(thread, "`!resume web-1` brings it back")


@pytest.mark.parametrize("how", ["merge", "keep", "discard"])
async def test_a_topic_ends_as_its_operator_chooses(tmp_path: Path, how: str) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: changed]]")
        await home.heard(thread, "changed")
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        assert place != repo
        (place / "page.html").write_text("<p>two</p>\n")
        git(place, "commit", "--quiet", "-am", "Two")
        command = home.chat.post("!done", conversation=thread, parent=WEB)
        asked = await home.heard(thread, "How does web-1 end")
        question = asked.partition("!answer ")[2].split()[0]
        assert "ends as you choose in its thread" in await home.ask("!done web-1")
        # The question was the answer; what is already asked is not asked again.
        assert "ends as you choose in its thread" in await home.ask("!done", conversation=thread)
        assert all(getattr(said.content, "reply_to", None) != command for said in home.chat.said)
        assert sum("How does web-1 end" in text for text in home.chat.texts(thread)) == 1
        await home.ask(f"!answer {question} {how}", conversation=thread)
        await until_state(home, "web-1", "ended")
        branches = git(repo, "branch", "--list", "muster/web-1")
        assert (repo / "page.html").read_text() == ("<p>two</p>\n" if how == "merge" else "<p>one</p>\n")
        assert bool(branches) == (how != "discard")
        assert not place.exists()
        assert git(repo, "status", "--porcelain") == ""
        assert (await home.row("web-1")).state == "stopped"
        listed = await home.ask("!topics --all")
        assert {"merge": "merged", "keep": "branch kept", "discard": "discarded"}[how] in listed


async def test_a_topic_with_conflicts_goes_on_and_says_which(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        for folder, text in ((place, "<p>theirs</p>\n"), (repo, "<p>ours</p>\n")):
            (folder / "page.html").write_text(text)
            git(folder, "commit", "--quiet", "-am", text)
        await home.ask("!done --how merge", conversation=thread)
        assert "page.html" in await home.heard(thread, "has conflicts in")
        assert (repo / "page.html").read_text() == "<p>ours</p>\n"
        event = home.say("[[say: mending it]]", thread)
        await home.marks(event, "✅")


async def test_a_topic_is_merged_only_into_the_branch_from_which_it_began(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        (place / "page.html").write_text("<p>two</p>\n")
        git(place, "commit", "--quiet", "-am", "Two")
        git(repo, "checkout", "--quiet", "-b", "release")
        await home.ask("!done --how merge", conversation=thread, sender=OPERATOR)
        told = await home.heard(thread, "web-1 is not over")
        assert "began from the branch `main`, but `release` is checked out" in told
        assert (repo / "page.html").read_text() == "<p>one</p>\n"
        git(repo, "checkout", "--quiet", "main")
        await home.ask("!done --how merge", conversation=thread, sender=OPERATOR)
        await home.heard(thread, "is merged into `main`")
        assert (repo / "page.html").read_text() == "<p>two</p>\n"


@pytest.mark.usefixtures("_news_alone")
async def test_titles_show_what_a_topic_is_about_and_how_it_stands(tmp_path: Path) -> None:
    can = dataclasses.replace(ALL_CAPABILITIES, titles=True)
    async with fleet(tmp_path, more="topics: 1", capabilities=can) as (home, _), home.open():
        _, first = await ask(home, "mend the page")
        await home.heard(first, "Ready")
        _, second = await ask(home, "paint the fence")
        opener = next(said for said in home.chat.said if said.text.startswith("🧵 **web-2**"))
        assert getattr(opener.content, "title", "") == "⏳ web-2 paint the fence"
        await home.ask("!topic close web-1")
        await home.chat.until(lambda: "branch kept" in str(home.chat.titles.get(first)), limit=30)
        assert home.chat.titles[first].archived
        await home.chat.until(lambda: "🟢 web-2" in str(home.chat.titles.get(second)), limit=30)


async def test_a_room_without_threads_opens_no_topic(tmp_path: Path) -> None:
    can = dataclasses.replace(ALL_CAPABILITIES, threads=False)
    async with fleet(tmp_path, capabilities=can) as (home, _), home.open():
        event = home.chat.post("hello", conversation=WEB)
        assert "has no threads" in (await home.reply(event)).text


async def test_a_thread_that_a_person_opened_in_a_projects_room_becomes_the_topics(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        event = home.chat.post("[[say: in the post]]", conversation="post-1", parent=WEB)
        await home.heard("post-1", "in the post")
        await home.marks(event, "✅")
        again = home.chat.post("[[say: below it]]", conversation="post-1", parent=WEB)
        await home.heard("post-1", "below it")
        await home.marks(again, "✅")
        assert await home.known("web-2") is None


async def test_a_topic_that_cannot_begin_says_why_and_holds_nobody_up(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        away = repo.rename(repo.with_name("away"))
        _, first = await ask(home, "[[say: hello]]")
        assert "is not there" in await home.heard(first, "has not begun")
        away.rename(repo)
        _, second = await ask(home, "[[say: hello again]]")
        await home.heard(second, "hello again")


async def test_the_agent_of_a_topic_gets_no_tasks_of_its_role(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        await home.heard_from("web-1")
        assert "No agent has the role coder" in await home.ask("!task add 'mend the fence' --role coder")
        await home.ask("!task add '[[say: by name]]' --agent web-1")
        await home.heard(thread, "by name")


async def test_topics_that_are_asked_for_at_the_same_time_have_names_of_their_own(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1") as (home, _), home.open():
        rooms = [WEB, ROOM, "hall", "attic"]
        events = [home.chat.post(f"@web [[say: {room}]]", conversation=room) for room in rooms]
        threads = [await thread_of(home, event) for event in events]
        assert len(set(threads)) == len(rooms)
        listed = await home.ask("!topics")
        assert [f"web-{number}" in listed for number in range(1, 5)] == [True] * 4


async def test_a_topic_whose_words_were_deleted_does_not_begin(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1") as (home, _), home.open():
        _, first = await ask(home, "[[say: one]]")
        await home.heard(first, "one")
        event, second = await ask(home, "[[say: two]]")
        home.chat.redact(event, conversation=WEB)
        await home.ask("!topic close web-1")
        await home.heard(second, "what it was asked was deleted")
        assert await home.known("web-2") is None


@pytest.mark.usefixtures("_news_alone")
async def test_a_topic_whose_agent_was_killed_makes_room_and_can_still_end(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1") as (home, _), home.open():
        _, first = await ask(home, "[[say: one]]")
        await home.heard(first, "one")
        _, second = await ask(home, "[[say: two]]")
        home.chat.post("!kill web-1", conversation=first, parent=WEB)
        await home.ask("!confirm", conversation=first)
        await home.heard(second, "two")
        late = home.say("hello?", first)
        assert "`!restart web-1`" in (await home.reply(late)).text
        await home.ask("!done --how discard", conversation=first)
        await home.heard(first, "Discarded")


async def test_a_topic_that_begins_while_it_is_taken_back_leaves_no_agent_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path) as (home, _), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        before = dataclasses.replace(await topic(home), state="waiting")

        async def find(*_: object) -> Topic:
            return before

        monkeypatch.setattr(ending, "find", find)
        assert "ends when its turn has ended" in await home.ask("!topic close web-1")
        await until_state(home, "web-1", "ended")
        assert (await home.row("web-1")).state == "stopped"


async def test_words_go_where_the_room_says(tmp_path: Path) -> None:
    settings = 'rooms:\n  "memory:help": {words: coder0}\n  "memory:both": {words: topic, project: web}\n'
    async with fleet(tmp_path, settings=settings) as (home, _), home.open():
        event = home.chat.post("hello", conversation="help")
        assert "No agent is called 'coder0'" in (await home.reply(event)).text
        await home.launch("coder0")
        event = home.chat.post("[[say: at your service]]", conversation="help")
        await home.marks(event, "✅")
        await home.heard("help", "at your service")
        _, thread = await ask(home, "[[say: a topic]]", room="both")
        await home.heard(thread, "a topic")


async def test_nothing_is_merged_while_something_is_not_committed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (home, repo), home.open():
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        place = home.orchestrator.services.planner.workspaces.place("web-1", repo)
        (place / "page.html").write_text("<p>two</p>\n")
        git(place, "commit", "--quiet", "-am", "Two")
        (place / "page.html").write_text("<p>three</p>\n")
        await home.ask("!done --how merge", conversation=thread)
        assert "`!done web-1 --how discard`" in await home.heard(thread, "web-1 is not over: its clone has")
        assert (repo / "page.html").read_text() == "<p>one</p>\n"
        assert (place / "page.html").read_text() == "<p>three</p>\n"
        event = home.say("[[say: I commit it]]", thread)
        await home.marks(event, "✅")


async def test_what_begins_ahead_of_the_pace_is_not_said_to_wait(tmp_path: Path) -> None:
    budget = f"budget: {limit_of_a_day(50_000)}"
    async with fleet(tmp_path, more=budget, settings="pacing: {burst: 0%}\n") as (home, _), home.open():
        event, _ = await ask(home, "[[cache: 0 40000]][[say: spent]]")
        await home.marks(event, "✅")
        pace = home.orchestrator.services.pace
        await waiting.until(
            pace.snapshot, lambda found: any(each.window.least_use >= 40000 for each in found.standings.values())
        )
        event, thread = await ask(home, "[[say: and this]]")
        await home.marks(event, "✅")
        told = [text for text in home.chat.texts(thread) if "pace" in text or "There is room" in text]
        assert [text.partition(" tokens ")[2] for text in told] == ["ahead of today's pace (`project:web`)."], told
