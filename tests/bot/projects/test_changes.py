"""Projects are added and removed by command; muster.yaml keeps its comments, and what it says holds at once."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.auth.permission import ADMIN as ADMIN_PERMISSION
from bot.commands.executor import RunRequest
from bot.config.loader import load
from connectors.memory import ALL_CAPABILITIES
from tests.bot.orchestrator import ADMIN, House, house
from tests.bot.projects.fleet_with_project import WEB, ask, fleet, git, repository

COMMENT = "\n# Ana's own remark.\nretention:\n  journals: 64 MiB  # enough\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    repository(tmp_path / "repo")
    async with house(tmp_path / "house", settings=COMMENT) as made, made.open():
        yield made


async def test_a_project_is_added_and_works_at_once(home: House, tmp_path: Path) -> None:
    before = home.paths.muster_yaml.read_text()
    options = f"--repo {tmp_path / 'repo'} --runtime sim --sandbox none --approvals standard --budget 2M/day"
    told = await home.ask(f"!project add web {options} --room memory:{WEB}")
    assert "web is a project now" in told
    after = home.paths.muster_yaml.read_text()
    assert after.startswith(before.rstrip("\n"))
    assert (home.paths.muster_yaml.with_name("muster.yaml.bak")).read_text() == before
    project = load(home.paths).projects["web"]
    assert (project.approvals, project.budget[0].tokens, project.budget[0].window) == ("standard", 2_000_000, "day")
    _, thread = await ask(home, "[[say: at once]]")
    await home.heard(thread, "at once")
    assert "2M tokens a day" in await home.ask("!projects")
    presets = "Preset of `fleet`: careful. Preset of `project:web`: standard."
    assert presets in await home.ask("!approvals rule list")
    assert "project:web" in await home.ask("!budget")
    assert "`project:web`: 3M tokens" in await home.ask("!budget set project:web 3M")
    assert "There is no project 'wob'; there is web" in await home.ask("!budget set project:wob 3M")
    home.chat.post("!budget clear project:web")
    assert "`project:web`: taken back" in await home.ask("!confirm")
    assert "has topics: web-1" in await home.ask("!project remove web")
    unasked = RunRequest(
        id="test-unasked",
        name="project remove",
        arguments={"name": "web"},
        confirmed=True,
        identity="memory:@ana",
        permission=ADMIN_PERMISSION,
        door="gateway",
    )
    refused = await home.orchestrator.executor.run(unasked)
    assert (refused.state, refused.code) == ("refused", "project.has_topics")
    await home.ask("!done web-1 --how discard")
    await home.heard(thread, "Discarded")
    home.chat.post("!project remove web")
    assert "is no project any more" in await home.ask("!confirm")
    assert home.paths.muster_yaml.read_text() == before
    event = home.chat.post("hello", conversation=WEB)
    assert "No agent here is the orchestrator" in (await home.reply(event)).text


async def test_here_is_the_room_of_the_command(home: House, tmp_path: Path) -> None:
    event = home.chat.post(f"!project add web --repo {tmp_path / 'repo'} --room here", conversation="hall")
    assert "memory:hall" in (await home.reply(event)).text


async def test_an_existing_room_is_heard_at_once_or_refused_in_words(home: House, tmp_path: Path) -> None:
    home.chat.closed.add("attic")
    before = home.paths.muster_yaml.read_text()
    options = f"--repo {tmp_path / 'repo'} --runtime sim --sandbox none"
    told = await home.ask(f"!project add web {options} --room memory:attic")
    assert "memory:attic cannot be the room of a project: the bot is not in attic. Invite it." in told
    assert home.paths.muster_yaml.read_text() == before
    await home.ask(f"!project add web {options} --room memory:{WEB}")
    assert set(home.chat.heard) == {WEB}
    # A room that somebody wrote into the file is heard when the file is applied.
    written = home.paths.muster_yaml.read_text().replace(f"memory:{WEB}", "memory:attic")
    home.paths.muster_yaml.write_text(written)
    told = await home.ask("!roster apply")
    assert "the bot is not in attic. Invite it. When that is done, restart Muster" in told
    home.paths.muster_yaml.write_text(written.replace("memory:attic", "memory:hall"))
    await home.ask("!roster apply")
    assert home.chat.heard[-1] == "hall"


async def test_a_project_has_no_room_in_a_chat_system_without_threads(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    async with house(tmp_path / "house") as home:
        home.chat.capabilities = dataclasses.replace(ALL_CAPABILITIES, threads=False)
        async with home.open():
            told = await home.ask(f"!project add web --repo {repo} --room memory:{WEB}")
    assert "memory has no threads, and topics need them" in told


async def test_new_makes_a_room_and_invites_the_operators(home: House, tmp_path: Path) -> None:
    told = await home.ask(f"!project add web --repo {tmp_path / 'repo'} --runtime sim --sandbox none --room new")
    ((room, people),) = home.chat.made.items()
    assert f"memory:{room}" in told
    assert set(people) == {"@ana", "@otto"}
    event = home.chat.post("[[say: in its room]]", conversation=room)
    await home.marks(event, "✅")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--repo {repo}/nowhere", "is not there"),
        ("--repo {repo}/..", "is no git repository"),
        ("--repo relative", "expected an absolute path"),
        ("--repo {repo} --sandbox nope", "No sandbox is called 'nope'"),
        ("--repo {repo} --role orchestrator", "a topic has no orchestrator"),
        ("--repo {repo} --budget much", "expected 2M, 2M/day or 20usd/month"),
        ("--repo {repo} --room nowhere:x", "no connector is called 'nowhere'"),
        ("--repo ext::sh", "expected an absolute path"),
        ("--repo https://ana:secret@example.org/x.git", "has a password in it"),
        ("--repo {repo} --runtime emacs", "emacs"),
        ("--repo {repo} --approvals lenient", "lenient"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    home: House, tmp_path: Path, options: str, why: str
) -> None:
    before = home.paths.muster_yaml.read_text()
    words = options.format(repo=tmp_path / "repo") + ("" if "--room" in options else " --room new")
    assert why in await home.ask(f"!project add web {words}", sender=ADMIN)
    assert home.paths.muster_yaml.read_text() == before
    assert not home.chat.made, "no room is left behind"


async def test_a_url_is_cloned_once(home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot.projects import repositories

    monkeypatch.setenv("HOME", str(tmp_path / "ana"))
    monkeypatch.setattr(repositories, "ALLOWED", "file")
    url = f"file://{tmp_path / 'repo'}"
    folder = repositories.copy(url, "web")
    assert folder == tmp_path / "ana" / "muster" / "web"
    assert git(folder, "log", "--oneline").endswith("A page")
    assert repositories.copy(url, "web") == folder


async def test_a_topic_of_a_project_that_was_taken_out_of_the_file_is_closed_in_words(tmp_path: Path) -> None:
    async with fleet(tmp_path, more="topics: 1") as (home, _), home.open():
        begun, _first = await ask(home, "[[say: one]] [[wait: gate]]")
        await home.marks(begun, "👀")
        _, second = await ask(home, "[[say: two]]")
        await home.heard(WEB, "It waits, because as many topics run")
        home.paths.muster_yaml.write_text("{}\n")
        await home.ask("!roster apply")
        await home.heard(second, "the project web was removed")
        home.models.release("gate")
