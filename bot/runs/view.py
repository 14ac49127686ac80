"""Runs as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from bot.commands.syntax import command_line
from bot.read_models.runs import RunLine, RunsModel
from bot.runs.issue_view import issue_json, issues_text
from bot.runs.text import MARKS, cost, projected, used
from bot.text import markdown
from bot.text.timestamps import timestamp

#: Runs of each kind that ended and are listed in an answer.
_ENDED: Final = 15
#: Characters of a prompt in a table.
_GIST: Final = 60


def runs_text(model: RunsModel, now: float, redact: Callable[[str], str]) -> str:
    """Return the tables of runs: all that go on, and the last that ended."""
    if not (model.issues or model.open or model.ended):
        example = command_line('run coder --prompt "Fix the build"')
        return f"There are no runs yet. {example} begins one."
    going_on = [each for each in model.issues if each.ended_at is None]
    over = [each for each in model.issues if each.ended_at is not None]
    parts = []
    if issues := [*going_on, *over[:_ENDED]]:
        parts.append(issues_text(issues, now, redact))
    if lines := [*model.open, *model.ended[:_ENDED]]:
        parts.append(_table(lines, now, redact))
    if left := len(over[_ENDED:]) + len(model.ended[_ENDED:]):
        parts.append(f"{left} more that ended are left out here; the dashboard and `--json` have them.")
    return "\n\n".join(parts)


def _table(lines: Sequence[RunLine], now: float, redact: Callable[[str], str]) -> str:
    rows = [
        [
            markdown.code(each.id),
            f"{MARKS[each.state]} {each.state.replace('_', ' ')}",
            f"{each.agent} {markdown.color_mark(each.color)}".rstrip(),
            _ages(each, now),
            cost(each),
            markdown.code(markdown.gist(each.prompt, redact, _GIST)),
        ]
        for each in lines
    ]
    return markdown.table(["Run", "State", "Agent", "Time", "Used", "Prompt"], rows)


def run_text(run: RunLine, now: float, redact: Callable[[str], str]) -> str:
    """Return everything about one run."""
    about = f" about {markdown.one_line(run.reference)}" if run.reference else ""
    lines = [
        f"{MARKS[run.state]} Run {markdown.code(run.id)}: **{run.state.replace('_', ' ')}**, "
        f"agent {run.agent} ({run.role}) {markdown.color_mark(run.color)}".rstrip(),
        f"Asked for by {markdown.code(markdown.one_line(run.asked_by))} ({run.source}{about}). "
        f"Time: {_ages(run, now)}.",
    ]
    if run.detail:
        lines.append(redact(run.detail))
    if expected := projected(run.projected_tokens, run.projected_usd):
        lines.append(f"Projected: {expected}.")
    if spent := used(run.tokens, run.usd):
        lines.append(f"It used {spent}.")
    lines.append(f"Prompt:\n\n{markdown.code_block(redact(run.prompt))}")
    if run.answer:
        lines.append(f"Answer:\n\n{redact(run.answer)}")
    issue, is_round, _ = run.id.rpartition("-")
    if run.ended_at is None:
        begin = f"{command_line(f'runs now {run.id}')} begins it now, and " if run.state == "queued" else ""
        lines.append(f"{begin}{command_line(f'runs stop {run.id}')} ends it.")
    elif is_round:
        lines.append(f"It is a round of an issue's run: {command_line(f'runs {issue}')} shows all of it.")
    else:
        again = command_line(f"runs retry {run.id}")
        resume = command_line(f"run --resume {run.agent} --prompt TEXT")
        lines.append(f"{again} repeats it, and {resume} goes on in its conversation.")
    return "\n\n".join(lines)


def _ages(run: RunLine, now: float) -> str:
    if run.ended_at is not None:
        took = markdown.span(run.ended_at - (run.started_at or run.created_at))
        return f"took {took}, ended {markdown.span(now - run.ended_at)} ago"
    left = f", ends in {markdown.span(max(0.0, run.deadline - now))}" if run.deadline is not None else ""
    return f"for {markdown.span(now - (run.started_at or run.created_at))}{left}"


def run_json(run: RunLine, redact: Callable[[str], str]) -> dict[str, Any]:
    """Return a run for programs."""
    times = ("created_at", "started_at", "deadline", "ended_at")
    texts = ("prompt", "answer", "detail")
    found: dict[str, Any] = {}
    for name in RunLine.__dataclass_fields__:
        value = getattr(run, name)
        if name in times:
            value = timestamp(value)
        elif name in texts and value is not None:
            value = redact(value)
        found[name] = value
    return found


def runs_json(model: RunsModel, redact: Callable[[str], str]) -> dict[str, list[dict[str, Any]]]:
    """Return runs of issues, and other runs, for programs."""
    return {
        "issues": [issue_json(each, redact) for each in model.issues],
        "runs": [run_json(each, redact) for each in (*model.open, *model.ended)],
    }
