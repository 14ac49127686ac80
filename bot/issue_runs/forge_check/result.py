"""The result of one check of the forge (pure)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bot.text import markdown


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeCheckResult:
    """One line of `muster forge check`."""

    tried: str
    state: Literal["ok", "note", "missing"]
    """note: it works, and there is something to know. missing: issues do not become pull requests so."""
    found: str
    todo: str = ""
    """What to do, if anything."""

    def to_json(self) -> dict[str, str]:
        """Return the result as ``--json`` prints it."""
        return dataclasses.asdict(self)


def exit_status(results: Sequence[ForgeCheckResult]) -> int:
    """Return 1 if something is missing, and 0 otherwise."""
    return 1 if any(each.state == "missing" for each in results) else 0


def text(results: Sequence[ForgeCheckResult]) -> str:
    """Return the results for a terminal. What a forge says in them is shown as it is safe to show."""
    marks = {"ok": "✓", "note": "-", "missing": "✗"}
    lines = []
    for each in results:
        lines.append(f"{marks[each.state]} {_shown(each.tried)}: {_shown(each.found)}")
        if each.todo:
            lines.append(f"    {_shown(each.todo)}")
    count = sum(each.state == "missing" for each in results)
    lines.append(f"\nWhat is marked ✗ is missing: {count}." if count else "\nNothing is missing.")
    return "\n".join(lines)


def _shown(text_: str) -> str:
    return " ".join(markdown.shown(text_).split())
