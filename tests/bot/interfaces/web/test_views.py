"""Lists of any length are shown in pages, and keys of views come from browsers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bot.interfaces.web.stream import part
from bot.interfaces.web.views import PAGE, NoSuchView, page_of, view_of, view_with
from bot.interfaces.web.visitor import Visitor
from bot.read_models.documents import Document
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.read_models.provenance import Provenance
from bot.read_models.runs import IssueRunLine, RunLine, RunsModel
from tests.bot.interfaces.web.test_hostile import CORPUS, filled, looked_at, templates, visitor
from tests.bot.runs.test_issue_view import RUN as ISSUE


def fleet(count: int) -> Document:
    agents = tuple(
        FleetAgent(
            name=f"coder{number:03}", role="coder", runtime="sim", wanted="running", seen=Provenance(),
            state="waiting" if number == count - 1 else "idle", sandbox="bubblewrap", workspace="/w", host="h",
            tenant_id="t",
        )
        for number in range(count)
    )  # fmt: skip
    return Document(name="fleet", revision=1, epoch="e", made_at=1.0, value=FleetModel(agents=agents))


def shown(count: int, **parameters: str) -> str:
    return part(templates(), view_of("fleet", parameters), {"fleet": fleet(count)}, visitor("ana"))


def test_a_thousand_agents_are_twenty_pages_and_those_that_wait_come_first() -> None:
    first, last = shown(1000), shown(1000, page="20")
    assert first.count("<tr data-key") == last.count("<tr data-key") == PAGE
    assert 'data-key="coder999"' in first
    assert "Page 1 of 20, 1000 in all" in first
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in last
    assert len(first) < 60_000
    assert "pager" not in shown(PAGE)


@pytest.mark.parametrize(
    ("wanted", "number"), [(None, 1), ("0", 1), ("2", 2), ("99", 3), ("-1", 1), ("x", 1), ("9" * 99, 1)]
)
def test_there_is_always_a_page(wanted: str | None, number: int) -> None:
    assert page_of(range(PAGE * 2 + 1), wanted).number == number
    assert page_of([], wanted).items == []


def test_a_view_is_known_by_its_key() -> None:
    for key in ("fleet", "fleet?all=1&page=2", "agent?name=coder0", "nav"):
        assert view_with(key).key == key
    assert view_with("agent?name=coder0").documents == ("agents/coder0", "waiting")


@pytest.mark.parametrize(
    "key",
    ["", "x", "fleet?x=1", "fleet?page=1&page=2&all=1&all=2&page=3", "agent", "agent?name=", "agent?name=../x",
     "agent?name=a/b", "agent?name=a%00", "fleet?page", "fleet?" + "page=1" * 99],
)  # fmt: skip
def test_other_keys_are_none(key: str) -> None:
    with pytest.raises(NoSuchView):
        view_with(key)


def test_a_run_shows_its_color_as_a_word_and_escapes_what_an_agent_said() -> None:
    run = RunLine(
        id="1a2b3c4d", agent="coder-2", role="coder", state="failed", prompt="<b>mend</b>", detail="<i>no</i>",
        color="bright-red", source="github.com", reference="owner/repo#17", asked_by="ana", created_at=1.0,
    )  # fmt: skip
    document = Document(name="runs", revision=1, epoch="e", made_at=1.0, value=RunsModel(ended=(run,)))
    page = part(templates(), view_of("runs"), {"runs": document}, visitor("ana"))
    assert 'class="mark color-bright-red">bright-red<' in page
    assert "owner/repo#17" in page
    assert "<b>" not in page
    assert "<i>" not in page


def issue_page(run: IssueRunLine, who: Visitor | None = None) -> str:
    document = Document(name="runs", revision=1, epoch="e", made_at=1.0, value=RunsModel(issues=(run,)))
    return part(templates(), view_of("issue", {"name": run.id}), {"runs": document}, who or visitor("ana"))


def test_an_issue_has_its_own_page_with_links_and_buttons() -> None:
    page = issue_page(ISSUE)
    for words in (
        f'href="{ISSUE.url}" rel="noopener noreferrer nofollow"', f'href="{ISSUE.pull_url}"', 'href="/agents/coder17"',
        'action="/commands/runs/retry"', 'action="/commands/runs/allow"', 'name="a.mark" value="c0ffee"',
        "posted a comment on #17", "Too large", "Round 2", "unit, lint",
    ):  # fmt: skip
        assert words in page
    assert 'action="/commands/runs/stop"' in issue_page(replace(ISSUE, state="running"))
    assert "<form" not in issue_page(replace(ISSUE, state="frozen"))
    watches = replace(visitor("ana"), session=replace(visitor("ana").session, control=False))
    assert "<form" not in issue_page(ISSUE, watches)
    gone = part(templates(), view_of("issue", {"name": "other"}), {"runs": runs_of(ISSUE)}, visitor("ana"))
    assert "does not exist any more" in gone


def runs_of(*issues: IssueRunLine) -> Document:
    return Document(name="runs", revision=1, epoch="e", made_at=1.0, value=RunsModel(issues=issues))


def test_issues_are_shown_in_pages_above_other_runs() -> None:
    many = runs_of(*(replace(ISSUE, id=f"{number:010}") for number in range(PAGE + 1)))
    first = part(templates(), view_of("runs"), {"runs": many}, visitor("ana"))
    assert first.count("<tr data-key") == PAGE
    assert 'href="/runs/issues/0000000000"' in first
    assert "Next issues" in first
    assert part(templates(), view_of("runs", {"issues": "2"}), {"runs": many}, visitor("ana")).count("<tr data") == 1


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_nobody_elses_words_get_out_of_an_issues_page(text: str) -> None:
    model = next(filled(RunsModel, text))
    for state in ("failed", "running", "frozen"):
        run = replace(model.issues[0], id="5e7a1c", state=state)
        found = looked_at(issue_page(run, visitor(text)))
        assert found.faults == []
        assert all(re.fullmatch(r"/commands/runs/[a-z]+", each) for each in found.forms)
