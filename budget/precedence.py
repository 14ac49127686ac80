"""Who lets whom go first, though there is room: what has waited for long is not overtaken for ever. Pure; times are
seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from budget import pacing, saving
from budget.lines import next_turn
from budget.work import AGENT, Assign, Head, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from budget.lines import Window
    from budget.pacing import Standing
    from budget.work import Start, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A task that has waited for so long for a window that others let it go first there."""

    head: Head
    wait: Wait

    @property
    def kind(self) -> tuple[bool, bool]:
        """Of those of one kind only the earliest counts. Of two kinds the earlier does not stand for the other: before
        it others go on with what they would not have before the other."""
        return self.is_modest, self.head.urgency == "critical"

    @property
    def is_modest(self) -> bool:
        """Whether an agent asked for it and it saves up: that may last for ever, where others use all that they may."""
        return self.head.operator.startswith(AGENT) and self.wait.large

    def is_near(self, window: Window, now: float) -> bool:
        """Whether it begins before the line is drawn anew once more, if nothing else does before it. That long all
        others wait, but not for what an agent says is large."""
        by_person = not self.head.operator.startswith(AGENT)
        return by_person and self.wait.look_at is not None and self.wait.look_at - now <= saving.turn_s(window)


#: By window and kind the earliest.
Holders: TypeAlias = "dict[tuple[str, tuple[bool, bool]], Holder]"
_KINDS = tuple((modest, critical) for modest in (False, True) for critical in (True, False))


def hold(holders: Holders, holder: Holder) -> None:
    """Have others let it go first in the windows in which they take room from it."""
    for window in holder.wait.keeps:
        key = window, holder.kind
        if key not in holders or holder.head.seq < holders[key].head.seq:
            holders[key] = holder


def kept(found: pacing.Waits, standings: Sequence[Standing]) -> tuple[str, ...]:
    """The windows in which what begins before it could takes room from it: not those that begin anew by then. Where
    nobody knows when that is, nothing is gained by keeping others waiting."""
    if found.at is None:
        return ()
    resets = {standing.window.key: standing.line.resets_at for standing in standings}

    def lasts(key: str) -> bool:
        reset = resets[key]
        return reset is None or reset > found.at  # type: ignore[operator]

    return tuple(key for key in (found.window, *found.also) if lasts(key))


def behind(
    head: Head, step: Assign | Start, view: View, holders: Holders, wanted: set[str] | frozenset[str]
) -> Wait | None:
    """That it lets others go first, though it could begin."""
    if not holders and not wanted:
        return None
    agent = next(agent for agent in view.agents if agent.name == step.agent)
    for standing in view.draw(agent):
        key = standing.window.key
        for kind in _KINDS:
            holder = holders.get((key, kind))
            if holder is None or holder.head.seq >= head.seq:
                continue
            # What people say is critical is not kept waiting, for days perhaps, by what they did not say so of.
            if head.urgency == "critical" and holder.head.urgency != "critical":
                continue
            held = _held(head, step, view, holder, standing)
            if held is not None:
                return held
        if key in wanted:
            return Wait(task=head.id, why="fairness", text=f"What is more urgent waits for {key}.", windows=(key,))
    return None


def _held(head: Head, step: Assign | Start, view: View, holder: Holder, standing: Standing) -> Wait | None:
    """That it lets one go first which has waited for longer: wholly, or where that one has to save up for long, as far
    as the pace has nothing for it besides."""
    window, now = standing.window, view.now
    wait = holder.wait
    kept = None if wait.cost is None else pacing.need(window, wait.cost)
    if not wait.large or wait.cost is None or kept is None or holder.is_near(window, now):
        text = f"Task {holder.head.id} has waited longer for {window.key}, and goes first."
        return Wait(task=head.id, why="fairness", text=text, windows=(window.key,))
    kept += pacing.margin(standing, wait.cost, kept, now)
    whole = not holder.head.operator.startswith(AGENT)
    cost = step.cost if isinstance(step, Assign) else view.cost(head, None)
    needs = pacing.need(window, cost) or 0.0
    asked = window.least_use + standing.held + needs
    if holder.is_modest and head.waited(now) >= view.policy.aging_s and _outgrows(head, standing, needs):
        return None
    if asked <= saving.beside(standing, kept, now, whole=whole) + pacing.LEAST * window.known_limit:
        return None
    at = saving.beside_at(standing, kept, asked, whole=whole)
    turn = next_turn(window, standing.line, now, view.pacing)
    times = [each for each in (at, turn) if each is not None and each > now]
    part = saving.part(standing, kept, whole=whole)
    text = (
        f"Task {holder.head.id} saves up for {window.key}; until it begins, others have {part:.0%} of the pace there."
    )
    return Wait(task=head.id, why="fairness", text=text, windows=(window.key,), look_at=min(times, default=None))


def _outgrows(head: Head, standing: Standing, needs: float) -> bool:
    """Whether it would wait as long as that which an agent asked for, and so for ever perhaps: what a person asked for
    does not, nor what part of the pace does not reach for."""
    return not head.operator.startswith(AGENT) or saving.is_large(standing, needs / saving.BESIDE)
