"""What labels of an issue choose, the whole way: the agent, the sandboxes together, and in whose name it commits."""

from __future__ import annotations

from pathlib import Path

from database.queries.agents import agents
from tests.bot.issue_runs.forge_house import SHOP, forge_house

_AUTHORS = "{author: Fleet <fleet@acme.example>, authors: {painter: The painter <painter@acme.example>}}"
_PROFILES = """\
sandboxes:
  oak: {extends: bubblewrap, env: {SHELF: oak}}
  steel: {extends: bubblewrap, env: {TILL: steel}, memory: 1 GB}
"""
_ROSTER = "version: 1\npreset: minimal\ndefaults: {runtime: sim}\nagents:\n  - {name: painter, role: code-review}\n"
_WORK = '[[run: echo "$SHELF and $TILL" > made-of && git add made-of && git commit -qm "Say it"]] [[say: done]]'


async def test_labels_choose_agent_and_sandboxes_and_the_settings_its_author(tmp_path: Path) -> None:
    async with forge_house(tmp_path, pushes=_AUTHORS) as world:
        world.home.paths.roster_yaml.write_text(_ROSTER)
        file = world.home.paths.muster_yaml
        file.write_text(file.read_text() + _PROFILES)
        world.speak_in_room()
        sandboxes = ("muster-sandbox:steel", "muster-sandbox:oak")
        painted = world.forge.add_issue(
            SHOP, "Paint", body=_WORK, author="ana", labels=("muster:painter", *sandboxes), assignees=("ana",)
        )
        coded = world.forge.add_issue(
            SHOP,
            "Code",
            body="[[commit: a b]] [[say: x]]",
            author="ana",
            labels=("muster:coder",),
            assignees=("ana",),
        )
        async with world.home.open() as orchestrator:
            runs = [
                await world.until_of(each, lambda run: run.state in ("frozen", "failed")) for each in (painted, coded)
            ]
            assert [run.state for run in runs] == ["frozen", "frozen"], runs
            async with orchestrator.store.read() as tx:
                rows = [await agents.get(tx, run.agent) for run in runs]
            assert [(row.role, row.sandbox) for row in rows if row] == [
                ("code-review", "oak+steel"),
                ("coder", "bubblewrap"),
            ]
            git = world.forge.repository(SHOP).git
            assert git.run("show", f"{runs[0].pushed_sha}:made-of") == "oak and steel"
            written = [git.run("show", "-s", "--format=%an <%ae> %cn <%ce>", str(run.pushed_sha)) for run in runs]
            painter, fleet = "The painter <painter@acme.example>", "Fleet <fleet@acme.example>"
            assert written == [f"{painter} {painter}", f"{fleet} {fleet}"]
            (paint, _), _ = sorted(world.pulls(), key=lambda each: each[0].title, reverse=True)
            assert "oak" in paint.remarks[0].body
            assert "steel" in paint.remarks[0].body
