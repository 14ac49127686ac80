"""The page of runs: open ones first, each with its color as a word too, since not every terminal has colors."""

from __future__ import annotations

from bot.interfaces.tui.views.runs import RUNS, item_text, run_items, run_text
from bot.read_models.runs import RunLine, RunsModel
from tests.bot.runs.test_issue_view import RUN as ISSUE

NOW = 1_796_040_000.0
OPEN = RunLine(
    id="1a2b3c4d", agent="coder-2", role="coder", state="running", prompt="mend it", color="cyan", source="cli",
    asked_by="local:ana", created_at=NOW - 60, started_at=NOW - 50, deadline=NOW + 90,
)  # fmt: skip
OVER = RunLine(
    id="9f8e7d6c", agent="judge", role="judge", state="timed_out", detail="Its time was over.", prompt="look",
    answer="so far", source="github.com", reference="owner/repo#17", asked_by="local:ana", tokens=1200.0, usd=0.5,
    created_at=NOW - 600, started_at=NOW - 590, ended_at=NOW - 300,
)  # fmt: skip


def test_a_row_names_state_agent_and_color() -> None:
    assert run_items(RunsModel(open=(OPEN,), ended=(OVER,))) == (OPEN, OVER)
    cells = {column.title: column.cell(OPEN, NOW) for column in RUNS.columns}
    assert cells["AGENT"] == ("coder-2 [cyan]", "cyan")
    assert cells["STATE"] == ("running", "good")
    cells = {column.title: column.cell(OVER, NOW) for column in RUNS.columns}
    assert (cells["STATE"][0], cells["FROM"][0], cells["TOKENS"][0]) == ("timed out", "owner/repo#17", "1.2k")
    assert "owner/repo#17" in RUNS.words(OVER)


def test_the_whole_text_has_prompt_answer_and_reason() -> None:
    text = "\n".join(line.text for line in run_text(OVER, NOW))
    for words in ("timed out", "Its time was over.", "look", "Answer: so far", "$0.50"):
        assert words in text
    assert "ends in" in "\n".join(line.text for line in run_text(OPEN, NOW))


def test_an_issue_is_a_row_before_others_with_everything_in_its_text() -> None:
    assert run_items(RunsModel(open=(OPEN,), ended=(OVER,), issues=(ISSUE,))) == (ISSUE, OPEN, OVER)
    cells = {column.title: column.cell(ISSUE, NOW) for column in RUNS.columns}
    assert (cells["STATE"], cells["FROM"][0]) == (("failed", "bad"), "acme/shop#17")
    assert cells["PROMPT"][0] == "Raise the price"
    assert "acme/shop#17" in RUNS.words(ISSUE)
    text = "\n".join(line.text for line in item_text(ISSUE, NOW))
    for words in (ISSUE.url or "", ISSUE.pull_url or "", "c0ffee", "posted a comment on #17", "Round 1", "$0.50",
                  "unit, lint", "Key r goes on", "A allows a finding", "took 10 s"):  # fmt: skip
        assert words in text
    assert item_text(OVER, NOW) == run_text(OVER, NOW)
