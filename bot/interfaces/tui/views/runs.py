"""Runs as a table, each with its whole text."""

from __future__ import annotations

from typing import Final, TypeAlias

from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.widgets.row_table import TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import Look, TextLine, look_of
from bot.read_models.runs import IssueRound, IssueRunLine, RunLine, RunsModel
from bot.text.markdown import color_mark, span
from budget import amounts

_LOOKS: Final[dict[str, Look]] = {"running": "good", "queued": "accent", "done": "dim", "failed": "bad",
                                  "limit": "warn", "timed_out": "warn", "stopped": "dim"}  # fmt: skip


_ISSUE_LOOKS: Final[dict[str, Look]] = {"running": "good", "checking": "good", "queued": "accent", "frozen": "dim",
                                        "failed": "bad", "destroyed": "dim"}  # fmt: skip

RunItem: TypeAlias = RunLine | IssueRunLine


def run_items(model: RunsModel) -> tuple[RunItem, ...]:
    """Return the runs of issues, then the others that go on, then those that ended."""
    return (*model.issues, *model.open, *model.ended)


def _agent(run: RunItem) -> str:
    color = "" if isinstance(run, IssueRunLine) else color_mark(run.color)
    return f"{run.agent} {color}".rstrip()


def _state(run: RunItem) -> tuple[str, Look]:
    looks = _ISSUE_LOOKS if isinstance(run, IssueRunLine) else _LOOKS
    return run.state.replace("_", " "), looks.get(run.state, "")


def _about(run: RunItem) -> str:
    return run.title if isinstance(run, IssueRunLine) else run.prompt


def _why(run: RunItem) -> str:
    return run.detail or (run.waits if isinstance(run, IssueRunLine) else None) or ""


def _from(run: RunItem) -> str:
    return run.reference if isinstance(run, IssueRunLine) else run.reference or run.source


def _at(run: RunItem) -> float:
    began = run.active_at if isinstance(run, IssueRunLine) else run.started_at or run.created_at
    return run.ended_at or began


def _look(run: RunItem) -> Look:
    return "" if isinstance(run, IssueRunLine) else look_of(run.color)


RUNS: Final = TableShape[RunItem](
    columns=(
        TableColumn(title="RUN", width=10, order=lambda r: (r.id,), cell=lambda r, _: (r.id, "")),
        TableColumn(title="STATE", width=9, order=lambda r: (r.state, r.created_at), cell=lambda r, _: _state(r)),
        TableColumn(title="AGENT", width=11, grows=1, order=lambda r: (r.agent,),
                    cell=lambda r, _: (_agent(r), _look(r))),
        TableColumn(title="PROMPT", width=16, grows=4, cell=lambda r, _: (_about(r), "")),
        TableColumn(title="WHY", width=14, grows=2, rank=2, cell=lambda r, _: (_why(r), "warn")),
        TableColumn(title="FROM", width=8, rank=3, order=lambda r: (_from(r),),
                    cell=lambda r, _: (_from(r), "dim")),
        TableColumn(title="TOKENS", width=6, right=True, rank=1, order=lambda r: (-(r.tokens or 0.0),),
                    cell=lambda r, _: ("" if r.tokens is None else amounts.tokens(r.tokens), "")),
        TableColumn(title="AGE", width=6, right=True, order=lambda r: (-r.created_at,),
                    cell=lambda r, now: (ago(_at(r), now), "dim")),
    ),
    key=lambda r: r.id,
    words=lambda r: " ".join(filter(None, (r.id, r.agent, r.role, r.state, _about(r), _from(r)))).casefold(),
    empty="No run. :run ROLE --prompt TEXT begins one.",
)  # fmt: skip


def item_text(run: RunItem, now: float) -> list[TextLine]:
    """Return a run in full."""
    return issue_text(run, now) if isinstance(run, IssueRunLine) else run_text(run, now)


def issue_text(run: IssueRunLine, now: float) -> list[TextLine]:
    """Return the run of an issue in full."""
    lines = [TextLine(f"{run.id} · {run.state} · {run.reference} · {run.agent} · round {run.round}", "strong"),
             TextLine(run.title)]  # fmt: skip
    if why := _why(run):
        lines.append(TextLine(why, "warn"))
    lines.append(TextLine(f"Issue {run.reference}{f': {run.url}' if run.url else ''}"))
    if run.pull_request is not None:
        words = filter(None, (f"Pull request #{run.pull_request}", run.pull_state, run.pull_url))
        lines.append(TextLine(" · ".join(words)))
    if run.branch:
        lines.append(TextLine(f"Branch {run.branch}{f' at {run.pushed_sha[:12]}' if run.pushed_sha else ''}"))
    if run.pull is not None:
        lines.append(TextLine(run.pull.said, "warn" if run.pull.failed or run.pull.merge == "conflict" else ""))
    elif run.checks:
        lines.append(TextLine(f"Checks that failed last: {run.checks}", "warn"))
    for found in run.findings:
        mark = f" (mark {found.mark}{', allowed' if found.is_allowed else ''})" if found.mark else ""
        lines.append(TextLine(f"In the way: {found.sentence}{mark}", "bad"))
    if run.more_findings:
        lines.append(TextLine(f"{run.more_findings} more are in the way.", "bad"))
    lines += [TextLine(_round_text(each, now)) for each in run.rounds]
    if run.more_operations:
        lines.append(TextLine(f"{run.more_operations} earlier operations are not shown.", "dim"))
    lines += [TextLine(f"· {each}") for each in run.operations]
    lines.append(
        TextLine(
            f"Picked up {ago(run.created_at, now)} ago for {run.picked_by} ({run.picked_how}) · role {run.role} · "
            f"sandbox {', '.join(run.sandboxes) or 'none'} · thread in {run.room} ({run.connector})",
            "dim",
        )
    )
    waiting = f" ({run.waiting_wakes} wait)" if run.waiting_wakes else ""
    since = "active" if run.ended_at is None else "ended"
    lines.append(TextLine(f"woken {run.wakes} times{waiting}{_used(run)} · {since} {ago(_at(run), now)} ago", "dim"))
    if run.state == "failed":
        allow = ", A allows a finding" if run.open_findings else ""
        lines.append(TextLine(f"Key r goes on with what there is{allow}.", "accent"))
    elif run.is_held:
        lines.append(TextLine("Key r puts it back into the queue.", "accent"))
    elif run.state == "queued":
        lines.append(TextLine(f":runs now {run.id} begins it, key x takes it off the queue.", "accent"))
    elif run.state == "running":
        lines.append(TextLine("Key x ends the round.", "accent"))
    elif run.state == "checking":
        lines.append(TextLine("Key r tries at once what it waits for.", "accent"))
    return lines


def _round_text(each: IssueRound, now: float) -> str:
    began = each.started_at or each.created_at
    took = f" · took {span(each.ended_at - began)}" if each.ended_at is not None else f" · for {ago(began, now)}"
    detail = f" · {each.detail}" if each.detail else ""
    return f"Round {each.number} · {each.state.replace('_', ' ')}{took}{_used(each)}{detail}"


def _used(run: RunItem | IssueRound) -> str:
    tokens = f" · {amounts.tokens(run.tokens)} tokens" if run.tokens is not None else ""
    return tokens + (f" · {amounts.money(run.usd)}" if run.usd is not None else "")


def run_text(run: RunLine, now: float) -> list[TextLine]:
    """Return a run in full."""
    lines = [TextLine(f"{run.id} · {run.state.replace('_', ' ')} · {_agent(run)} · from {run.asked_by}", "strong")]
    if run.detail:
        lines.append(TextLine(run.detail, "warn"))
    lines.append(TextLine(run.prompt))
    if run.answer:
        lines.append(TextLine(f"Answer: {run.answer}"))
    left = f" · ends in {span(max(0.0, run.deadline - now))}" if run.deadline and run.ended_at is None else ""
    lines.append(TextLine(f"begun {ago(run.started_at or run.created_at, now)} ago{left}{_used(run)}", "dim"))
    lines.append(TextLine("Key x ends it." if run.ended_at is None else "Key r repeats it.", "accent"))
    return lines
