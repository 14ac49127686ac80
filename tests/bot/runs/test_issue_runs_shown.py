"""Runs of issues as operators meet them: in the answers of commands, in the document and in a browser."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.interfaces.tui.views.runs import issue_text
from bot.read_models.runs import RunsModel
from bot.runs.issue_view import issue_json
from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge import forge_sights, issue_runs
from database.queries.forge.forge_sights import ForgeSight
from database.queries.forge.issue_runs import IssueRun, IssueWake
from forge.model.values import CheckState, MergeState
from forge.pull_sight import PullSight
from tests.bot.interfaces.web.browser import browser, dashboard, event
from tests.bot.orchestrator import ADMIN, ROOM, House

STEP = declare("tests.issue_runs_shown")
#: Redaction masks it wherever it is.
SECRET = "ghp_" + "Zx9" * 12
RUN = IssueRun(
    id="5e7a1c90ab", forge="git.example.org", repository="acme/shop", number=17, title=f"Raise {SECRET}", body="",
    role="coder", sandboxes=["bubblewrap"], picked_by="ana", picked_how="muster:coder", branch="muster/issue-17",
    agent="coder17", connector="memory", room=ROOM, thread_key="o/issue-17", state="failed", round=2,
    findings=[
        {"kind": "secret", "sentence": "A token.", "path": "a.py", "line": 3, "commit": "c" * 40, "mark": "c0ffee"},
        {"kind": "size", "sentence": "Too large."},
    ],
    pull_request=18, pull_url="https://git.example.org/acme/shop/pulls/18", pull_state="open", pushed_sha="ab" * 20,
    operations=[f"read #{number}" for number in range(60)], created_at=1000.0, active_at=2000.0,
)  # fmt: skip


def work(number: int, **values: Any) -> AgentRun:
    made = AgentRun(
        id=f"{RUN.id}-{number}", source=RUN.forge, reference=f"acme/shop#17 round {number}", agent=RUN.agent,
        role="coder", prompt="p", settings={}, asked_by="forge:ana", connector="memory", room=ROOM, state="done",
        message=f"m{number}", tokens=100.0, usd=0.25, created_at=1000.0 + number, ended_at=1500.0 + number,
    )  # fmt: skip
    return dataclasses.replace(made, **values)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with dashboard(tmp_path) as made:
        yield made


async def stored(home: House, run: IssueRun, *works: AgentRun) -> None:
    wakes = [
        IssueWake(run=run.id, cause="checks/1", kind="checks", author="", is_member=True, text="unit", at=1.0, round=2),
        IssueWake(run=run.id, cause="comment/2", kind="comment", author="ana", is_member=True, text="x", at=2.0),
    ]
    async with home.orchestrator.store.write(STEP) as tx:
        await issue_runs.add(tx, run)
        for each in works:
            await runs.add(tx, each)
        for wake in wakes:
            await issue_runs.add_wake(tx, wake)


async def test_the_document_has_each_issue_with_its_rounds_once(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    other = dataclasses.replace(work(3), id="1a2b3c4d", reference=None, agent="judge")
    async with home.orchestrator.store.write(STEP) as tx:
        await runs.add(tx, other)
        over = dataclasses.replace(RUN, id="0000000001", number=3, agent="coder3", state="destroyed", pull_url=None)
        await issue_runs.add(tx, over)
    model = (await home.orchestrator.services.documents.get("runs")).value
    assert isinstance(model, RunsModel)
    assert [each.id for each in model.ended] == ["1a2b3c4d"]
    assert [each.id for each in model.issues] == [RUN.id, "0000000001"]
    line = model.issues[0]
    assert [each.number for each in line.rounds] == [1, 2]
    assert (line.tokens, line.usd, line.wakes, line.waiting_wakes, line.checks) == (200.0, 0.5, 2, 1, "unit")
    assert (line.url, line.pull_url) == (None, RUN.pull_url)
    assert SECRET not in repr(model)
    assert (len(line.operations), line.more_operations, line.operations[-1]) == (50, 10, "read #59")
    assert [(each.sentence, each.mark) for each in line.findings] == [
        ("A token. ('a.py', line 3, in commit cccccccccccc)", "c0ffee"), ("Too large.", None),
    ]  # fmt: skip


async def test_both_databases_list_runs_alike(register_url: str) -> None:
    store = await Store.open(register_url)
    try:
        async with store.write(STEP) as tx:
            for number, state in enumerate(("destroyed", "frozen", "destroyed", "queued")):
                given = {"id": f"a{number}", "number": number, "agent": f"c{number}", "state": state}
                row: dict[str, Any] = {
                    **RUN.columns(),
                    **given,
                    "body": "b",
                    "created_at": float(number),
                    "active_at": float(number),
                }
                await issue_runs.add(tx, IssueRun(**row))
            await runs.add(tx, work(1, id="a1-1", agent="c1"))
            await runs.add(tx, work(2, id="1a2b3c4d", agent="c1", reference=None))
            for cause, round_ in (("checks/1", 1), ("checks/2", None)):
                at = float(cause[-1])
                wake = IssueWake(
                    run="a1", cause=cause, kind="checks", author="", is_member=True, text=cause, at=at, round=round_
                )
                await issue_runs.add_wake(tx, wake)
        async with store.read() as tx:
            listed = await issue_runs.listed(tx, ended=1)
            assert [(each.id, each.body) for each in listed] == [("a1", ""), ("a3", ""), ("a2", "")]
            assert [each.id for each in await runs.rounds_of(tx, ["c1", "c2"])] == ["a1-1"]
            assert [each.id for each in await runs.last_ended(tx, limit=9, rounds=False)] == ["1a2b3c4d"]
            assert [each.id for each in await runs.begins_with(tx, "a1", limit=9, rounds=False)] == []
            assert await issue_runs.wake_counts(tx, ["a1", "a2"]) == {"a1": (2, 1)}
            assert await issue_runs.failed_checks(tx, ["a1", "a2"]) == {"a1": "checks/2"}
    finally:
        await store.close()


async def test_commands_take_an_issues_run_by_its_id(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    table = await home.ask("!runs")
    assert table.count("acme/shop#17") == 1
    assert f"{RUN.id}-1" not in table
    whole = await home.ask("!runs 5e7a")
    for words in ("c0ffee", "Too large", f"{RUN.id}-2", "$0.50", "runs allow", "pulls/18"):
        assert words in whole
    assert SECRET not in table + whole
    shown = await home.ask(f"!runs {RUN.id}-2")
    assert "Prompt" in shown, "a round is shown by its own id"
    assert f"`!runs {RUN.id}` shows all of it" in shown
    assert "--resume" not in shown, "a round goes on by what is said of its issue"
    assert "Did you mean '5e7a1c90ab'?" in await home.ask("!runs 5e7a1c9oab")
    refusal = await home.ask(f"!runs stop {RUN.id}")
    assert f"is not at work ({RUN.state})" in refusal
    assert "close #18" in refusal
    # Without a forge in muster.yaml nothing could go on with it.
    assert "names no forge" in await home.ask(f"!runs retry {RUN.id}")


async def test_an_issues_run_is_called_by_its_issue_and_its_pull_request_too(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    for name in ("acme/shop#17", "Acme/Shop#18", f"`{RUN.id}`", "5E7A"):
        assert "c0ffee" in await home.ask(f"!runs {name}")
    assert "No run is called 'acme/shop#19'" in await home.ask("!runs acme/shop#19")
    assert "names no forge" in await home.ask("!runs retry acme/shop#17")
    assert "no finding with the mark 'x'" in await home.ask("!runs allow acme/shop#18 x")


async def test_an_id_that_could_be_an_issues_run_or_another_is_never_guessed(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    async with home.orchestrator.store.write(STEP) as tx:
        await runs.add(tx, dataclasses.replace(work(3), id="5e7b0000", reference=None, agent="judge"))
    for command in ("runs", "runs retry", "runs stop", "runs allow"):
        said = await home.ask(f"!{command} 5e7{' c0ffee' if command == 'runs allow' else ''}")
        assert f"Several runs begin with '5e7': `{RUN.id}`, `5e7b0000`." in said
    assert "is of no issue" in await home.ask("!runs allow 5e7b c0ffee")


async def test_a_round_says_whose_it_is_and_only_the_last_operations_are_listed(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    said = await home.ask(f"!runs {RUN.id}-2")
    assert f"It is a round of an issue's run: `!runs {RUN.id}` shows all of it." in said
    assert "--resume" not in said
    whole = await home.ask(f"!runs {RUN.id}")
    assert "(45 earlier ones are left out)" in whole
    assert "read #59" in whole
    assert "`read #44`" not in whole


async def test_all_surfaces_show_the_checks_of_the_pull_request_and_whether_it_can_be_merged(home: House) -> None:
    await stored(home, dataclasses.replace(RUN, state="frozen", findings=None))
    assert RUN.pushed_sha is not None
    sight = PullSight(
        head=RUN.pushed_sha, merge=MergeState.CONFLICT, is_draft=False,
        checks=(("unit <b>", CheckState.FAILURE), (f"lint {SECRET}", CheckState.SUCCESS)), failed=1, pending=0,
        passed=1, since=1500.0, merge_since=1500.0, failed_since=1500.0,
    )  # fmt: skip
    row = ForgeSight(
        forge=RUN.forge, repository=RUN.repository, number=18, run=RUN.id, comments_after=0, comments_since=None,
        state=sight.to_json(),
    )  # fmt: skip
    async with home.orchestrator.store.write(STEP) as tx:
        await forge_sights.put(tx, row)
        await forge_sights.put(tx, dataclasses.replace(row, number=RUN.number, state={}))
    text = await home.ask(f"!runs {RUN.id}")
    assert "1 failed (unit <b>), 1 passed (lint" in text
    assert "It cannot be merged: it conflicts with its base." in text
    assert SECRET not in text
    document = (await home.orchestrator.services.documents.get("runs")).value
    assert isinstance(document, RunsModel)
    (line,) = document.issues
    shown = issue_json(line, lambda given: given)
    assert (shown["pull"]["merge"], shown["pull"]["failed"], shown["pull"]["since"]) == (
        "conflict", 1, "1970-01-01T00:25:00.000Z"
    )  # fmt: skip
    assert shown["pull"]["checks"][0] == {"name": "unit <b>", "state": "failure"}
    assert SECRET not in repr(document)
    assert any(each.text.endswith("conflicts with its base.") for each in issue_text(line, 2000.0))
    async with browser(home) as it:
        await it.log_in(ADMIN)
        page = await it.get(f"/runs/issues/{RUN.id}")
        assert "unit &lt;b&gt;" in page.text
        assert "It cannot be merged" in page.text
        assert SECRET not in page.text


async def test_a_run_that_ended_long_ago_is_still_found_by_its_id(home: House) -> None:
    over = dataclasses.replace(RUN, state="destroyed", ended_at=2000.0)
    await stored(home, over, work(1))
    async with home.orchestrator.store.write(STEP) as tx:
        for number in range(50):
            newer = dataclasses.replace(over, id=f"0{number}", number=number + 100, agent=f"c{number}", active_at=3e3)
            await issue_runs.add(tx, newer)
    assert RUN.id not in await home.ask("!runs")
    assert "c0ffee" in await home.ask(f"!runs {RUN.id}")
    async with browser(home) as it:
        await it.log_in(ADMIN)
        page = await it.get(f"/runs/issues/{RUN.id}")
        assert page.status == 200
        assert "c0ffee" in page.text
        assert SECRET not in page.text


async def test_a_run_that_has_no_round_at_work_is_not_stopped(home: House) -> None:
    await stored(home, dataclasses.replace(RUN, state="frozen", round=1))
    assert "is not at work (frozen); nothing was changed" in await home.ask(f"!runs stop {RUN.id}")


async def test_the_page_of_an_issue_that_waits_takes_it_off_and_puts_it_back(home: House) -> None:
    await stored(home, dataclasses.replace(RUN, state="queued", round=1))
    async with browser(home) as it:
        await it.log_in(ADMIN, control=True)
        page = await it.get(f"/runs/issues/{RUN.id}")
        assert 'action="/commands/runs/now"' in page.text
        sent = {"csrf": page.field("csrf"), "back": page.field("back"), "a.id": RUN.id}
        answer = await it.post("/commands/runs/stop", sent)
        assert answer.status < 400
        page = await it.get(f"/runs/issues/{RUN.id}")
        assert "took it off the queue" in page.text
        assert 'action="/commands/runs/retry"' in page.text
        assert 'action="/commands/runs/now"' not in page.text


async def test_the_page_of_an_issue_follows_it_and_its_buttons_are_commands(home: House) -> None:
    await stored(home, RUN, work(1), work(2))
    async with browser(home) as it:
        await it.log_in(ADMIN, control=True)
        shown = await it.get("/runs")
        assert f'href="/runs/issues/{RUN.id}"' in shown.text
        page = await it.get(f"/runs/issues/{RUN.id}")
        assert page.status == 200
        assert SECRET not in page.text
        assert 'action="/commands/runs/allow"' in page.text
        sent = {"csrf": page.field("csrf"), "back": page.field("back"), "a.id": RUN.id}
        answer = await it.post("/commands/runs/retry", sent)
        done = await it.get(answer.headers["Location"]) if answer.status == 303 else answer
        assert "names no forge" in done.text
        assert (await it.get("/runs/issues/ffff")).status == 404
        async with asyncio.timeout(30), it.stream(f"issue?name={RUN.id}") as stream:
            first = await event(stream)
            assert first is not None
            assert "failed" in first["html"]
            async with home.orchestrator.store.write(STEP) as tx:
                await issue_runs.change(tx, RUN.id, only=["failed"], state="frozen")
            then = await event(stream)
            assert then is not None
            assert "frozen" in then["html"]
            assert "<form" not in then["html"]
