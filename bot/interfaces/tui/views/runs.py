"""Runs as a table, each with its whole text."""

from __future__ import annotations

from typing import Final

from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.widgets.row_table import TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import Look, TextLine, look_of
from bot.read_models.runs import RunLine, RunsModel
from bot.text.markdown import color_mark, span
from budget import amounts

_LOOKS: Final[dict[str, Look]] = {"running": "good", "queued": "accent", "done": "dim", "failed": "bad",
                                  "limit": "warn", "timed_out": "warn", "stopped": "dim"}  # fmt: skip


def run_items(model: RunsModel) -> tuple[RunLine, ...]:
    """Return the runs that go on, then those that ended."""
    return (*model.open, *model.ended)


def _agent(run: RunLine) -> str:
    return f"{run.agent} {color_mark(run.color)}".rstrip()


RUNS: Final = TableShape[RunLine](
    columns=(
        TableColumn(title="RUN", width=8, order=lambda r: (r.id,), cell=lambda r, _: (r.id, "")),
        TableColumn(title="STATE", width=9, order=lambda r: (r.state, r.created_at),
                    cell=lambda r, _: (r.state.replace("_", " "), _LOOKS.get(r.state, ""))),
        TableColumn(title="AGENT", width=11, grows=1, order=lambda r: (r.agent,),
                    cell=lambda r, _: (_agent(r), look_of(r.color))),
        TableColumn(title="PROMPT", width=16, grows=4, cell=lambda r, _: (r.prompt, "")),
        TableColumn(title="WHY", width=14, grows=2, rank=2, cell=lambda r, _: (r.detail or "", "warn")),
        TableColumn(title="FROM", width=8, rank=3, order=lambda r: (r.source, r.reference or ""),
                    cell=lambda r, _: (r.reference or r.source, "dim")),
        TableColumn(title="TOKENS", width=6, right=True, rank=1, order=lambda r: (-(r.tokens or 0.0),),
                    cell=lambda r, _: ("" if r.tokens is None else amounts.tokens(r.tokens), "")),
        TableColumn(title="AGE", width=6, right=True, order=lambda r: (-r.created_at,),
                    cell=lambda r, now: (ago(r.ended_at or r.started_at or r.created_at, now), "dim")),
    ),
    key=lambda r: r.id,
    words=lambda r: " ".join(filter(None, (r.id, r.agent, r.role, r.state, r.prompt, r.reference))).casefold(),
    empty="No run. :run ROLE --prompt TEXT begins one.",
)  # fmt: skip


def run_text(run: RunLine, now: float) -> list[TextLine]:
    """Return a run in full."""
    lines = [TextLine(f"{run.id} · {run.state.replace('_', ' ')} · {_agent(run)} · from {run.asked_by}", "strong")]
    if run.detail:
        lines.append(TextLine(run.detail, "warn"))
    lines.append(TextLine(run.prompt))
    if run.answer:
        lines.append(TextLine(f"Answer: {run.answer}"))
    left = f" · ends in {span(max(0.0, run.deadline - now))}" if run.deadline and run.ended_at is None else ""
    dollars = f" · {amounts.money(run.usd)}" if run.usd is not None else ""
    lines.append(TextLine(f"begun {ago(run.started_at or run.created_at, now)} ago{left}{dollars}", "dim"))
    return lines
