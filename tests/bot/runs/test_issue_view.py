"""Runs of issues in the answers of commands: what forges and agents wrote is shown, and is no Markdown of ours."""

from __future__ import annotations

from dataclasses import replace

from bot.read_models.runs import IssueFinding, IssueRound, IssueRunLine, RunsModel
from bot.runs.issue_view import issue_json, issue_text
from bot.runs.view import runs_json, runs_text

NOW = 1_800_000_000.0
RUN = IssueRunLine(
    id="5e7a1c90ab", reference="acme/shop#17", title="Raise the price", number=17,
    url="https://git.example.org/acme/shop/issues/17", pull_request=18,
    pull_url="https://git.example.org/acme/shop/pulls/18", pull_state="open", state="failed",
    detail="A secret was found.", round=2, role="coder", agent="coder17", sandboxes=("bubblewrap",), picked_by="ana",
    picked_how="muster:coder", connector="matrix", room="!fleet", branch="muster/issue-17", pushed_sha="ab" * 20,
    wakes=3, waiting_wakes=1, checks="unit, lint",
    findings=(IssueFinding(sentence="A token (shop.py, line 3)", mark="c0ffee"), IssueFinding(sentence="Too large")),
    operations=("posted a comment on #17", "refused a comment on #9: outside of its scope"), more_operations=4,
    rounds=(
        IssueRound(number=1, id="5e7a1c90ab-1", state="done", tokens=100.0, usd=0.5, created_at=NOW - 90,
                   ended_at=NOW - 80),
        IssueRound(number=2, id="5e7a1c90ab-2", state="failed", detail="no", created_at=NOW - 9, ended_at=NOW - 1),
    ),
    tokens=100.0, usd=0.5, created_at=NOW - 100, active_at=NOW - 1,
)  # fmt: skip


def plain(text: str) -> str:
    return text


def test_one_run_shows_where_it_stands_and_what_can_be_done() -> None:
    text = issue_text(RUN, NOW, plain)
    for words in (
        "[`acme/shop#17`](https://git.example.org/acme/shop/issues/17)",
        "[`#18`](https://git.example.org/acme/shop/pulls/18) (open)",
        "muster/issue-17", "abababababab", "unit, lint", "A token (shop.py, line 3)", "(mark `c0ffee`)", "Too large",
        "`5e7a1c90ab-1`", "posted a comment on #17", "refused a comment on #9", "4 earlier", "$0.50", "Woken 3 times",
        "1 of them", "runs retry 5e7a1c90ab", "runs allow 5e7a1c90ab c0ffee", "!fleet",
    ):  # fmt: skip
        assert words in text
    over = issue_text(replace(RUN, state="destroyed", ended_at=NOW), NOW, plain)
    assert "runs retry" not in over
    allowed = replace(RUN, findings=(IssueFinding(sentence="A token", mark="c0ffee", is_allowed=True),))
    assert "runs allow" not in issue_text(allowed, NOW, plain)


def test_the_table_and_the_objects_have_issues_before_other_runs() -> None:
    model = RunsModel(issues=(RUN,))
    table = runs_text(model, NOW, plain)
    assert "acme/shop#17" in table
    assert "Prompt" not in table
    found = runs_json(model, plain)
    assert found["runs"] == []
    (issue,) = found["issues"]
    assert issue["rounds"][0]["ended_at"].endswith("Z")
    assert issue["created_at"].endswith("Z")
    assert issue["findings"][0] == {"sentence": "A token (shop.py, line 3)", "mark": "c0ffee", "is_allowed": False}


def test_a_list_has_all_that_go_on_and_says_how_many_that_ended_it_leaves_out() -> None:
    going_on = tuple(replace(RUN, id=f"a{number}") for number in range(40))
    over = tuple(replace(RUN, id=f"b{number}", state="destroyed", ended_at=NOW) for number in range(20))
    text = runs_text(RunsModel(issues=(*going_on, *over)), NOW, plain)
    assert all(f"`{run.id}`" in text for run in (*going_on, *over[:15]))
    assert "`b15`" not in text
    assert "5 more that ended are left out here" in text
    assert len(runs_json(RunsModel(issues=over), plain)["issues"]) == 20


def test_titles_operations_and_addresses_of_others_stay_what_they_are() -> None:
    evil = "`](https://evil.example) **x** [y](javascript:1)\n# h"
    run = replace(
        RUN, title=evil, detail=evil, pull_url="javascript:alert(1)", url="https://a.example/) [x](https://evil",
        operations=(evil,), findings=(IssueFinding(sentence=evil),), checks=evil,
    )  # fmt: skip
    text = issue_text(run, NOW, plain)
    assert "(javascript:alert" not in text
    assert "](https://a.example" not in text
    assert "\n# h" not in text
    from bot.text.markdown import html

    page = html(text) + html(runs_text(RunsModel(issues=(run,)), NOW, plain))
    assert 'evil.example"' not in page
    assert "<strong>x" not in page


def test_secrets_are_masked() -> None:
    def masked(text: str) -> str:
        return text.replace("hunter2", "***")

    run = replace(RUN, title="hunter2", detail="hunter2", operations=("posted hunter2",))
    assert "hunter2" not in issue_text(run, NOW, masked)
    assert "hunter2" not in str(issue_json(run, masked))
