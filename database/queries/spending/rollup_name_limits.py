"""The number of names of models and tasks that an agent's sums of one day keep apart.

An agent may invent names. Beyond the first `MODELS` and `TASKS` of an agent's day (UTC, in the order of its ledger) the
sums go to `OTHER`, so that no agent makes as many sums as it makes requests.
"""

from __future__ import annotations

from typing import Any

#: A fleet uses a handful of models; a task takes minutes.
MODELS, TASKS = 20, 200
OTHER = "(other)"
HOURS_OF_DAY = 24


class KnownNames:
    """Which models and tasks an agent's day in a ledger knows by their names."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int, str], set[str]] = {}

    def know(self, of: tuple[str, str, int], **named: str) -> None:
        """Add names that the sums of a day have already."""
        for what, name in named.items():
            if name not in ("", OTHER):
                self._known.setdefault((*of, what), set()).add(name)

    def folded(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with its names if there is room for them, and with `OTHER` instead if not."""
        of = (row["ledger"], row["agent"], row["hour"] // HOURS_OF_DAY)
        made = dict(row)
        for what, most in (("model", MODELS), ("task", TASKS)):
            known = self._known.setdefault((*of, what), set())
            if row[what] in known or row[what] in ("", OTHER):
                continue
            if len(known) < most:
                known.add(row[what])
            else:
                made[what] = OTHER
        return made
