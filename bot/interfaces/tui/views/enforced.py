"""What was done to limits, and because of them."""

from __future__ import annotations

from typing import Final

from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.views.lists import moment
from bot.interfaces.tui.widgets.row_table import TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import Look, TextLine
from bot.read_models.limits import Enforcement, LimitsModel
from budget.scope_names import shown_scope

_LOOKS: Final[dict[str, Look]] = {
    "used_up": "bad", "cut_off": "bad", "killed": "bad", "estop": "bad", "refused": "bad", "frozen": "warn",
    "paused": "warn", "held_by_pace": "warn", "ran_alone": "warn", "restored": "good", "estop_over": "good",
    "authorized": "accent",
}  # fmt: skip


def enforced_items(model: LimitsModel) -> tuple[Enforcement, ...]:
    """Return the log, newest first."""
    return model.enforcements


def _what(entry: Enforcement) -> str:
    return entry.kind.replace("_", " ") + (f" ({entry.times:,})" if entry.times > 1 else "")


def _of(entry: Enforcement) -> str:
    scope = "" if entry.scope is None else shown_scope(entry.scope)
    return ", ".join(filter(None, (entry.agent, scope if scope != f"agent:{entry.agent}" else "")))


def _last(entry: Enforcement) -> float:
    return entry.at if entry.last_at is None else entry.last_at


ENFORCED: Final = TableShape[Enforcement](
    columns=(
        TableColumn(title="AGO", width=6, right=True, order=lambda e: (-_last(e),),
                    cell=lambda e, now: (ago(_last(e), now), "dim")),
        TableColumn(title="WHAT", width=16, order=lambda e: (e.kind,),
                    cell=lambda e, _: (_what(e), _LOOKS.get(e.kind, ""))),
        TableColumn(title="OF", width=14, grows=2, order=lambda e: (_of(e),), cell=lambda e, _: (_of(e), "")),
        TableColumn(title="BY", width=12, grows=1, order=lambda e: (e.by,), cell=lambda e, _: (e.by, "")),
        TableColumn(title="WHY", width=14, grows=4, rank=1, cell=lambda e, _: (e.why or "", "")),
    ),
    key=lambda e: f"{e.at} {e.kind} {e.agent} {e.scope}",
    words=lambda e: f"{_what(e)} {_of(e)} {e.by} {e.why or ''}".casefold(),
    empty="Nothing was enforced or changed in seven days.",
)  # fmt: skip


def enforced_text(entry: Enforcement, now: float) -> list[TextLine]:
    """Return an entry in full."""
    lines = [TextLine(f"{moment(entry.at)} · {_what(entry)} · {_of(entry) or 'everything'} · by {entry.by}", "strong")]
    if entry.last_at is not None and entry.last_at != entry.at:
        lines.append(TextLine(f"{entry.times:,} times, the last {ago(entry.last_at, now)} ago", "dim"))
    if entry.why:
        lines.append(TextLine(entry.why))
    return lines
