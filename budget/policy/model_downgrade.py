"""What is done with work that meets a limit where a session starts: a smaller model, the queue, or, last, a refusal.

A rung of the ladder is a model of a runtime. Whoever is on a rung steps down to the first one below it that may run
now: first models of the same runtime, in the order of the chain, then other runtimes. Only where a session starts: to
change the model in the middle of one would break its cache and its signed thoughts. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from budget.windows.pace_admission import Leave

#: The parts of a model's name: ``claude-opus-4-1`` is of the family ``opus``.
_PARTS = re.compile(r"[-_./:@\[\]]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    runtime: str
    model: str | None
    """As the runtime names it; None: the runtime's own default."""

    def __str__(self) -> str:
        return f"{self.runtime}:{self.model}" if self.model is not None else self.runtime


def parse(written: str, *, runtime: str, runtimes: Iterable[str]) -> Rung:
    """Return a rung as it is written: ``opus``, or ``codex:gpt-5-codex``.

    Args:
        written: the rung.
        runtime: whose model one is that names no runtime.
        runtimes: those that there are. What is before a colon and is none of them belongs to the model's name.
    """
    before, colon, after = written.partition(":")
    if colon and before in set(runtimes) and after:
        return Rung(runtime=before, model=after)
    return Rung(runtime=runtime, model=written)


def is_of(model: str | None, family: str) -> bool:
    """Return whether a model is the one, or of the family, that a rung or a window names: ``claude-opus-4-1`` is
    ``opus``."""
    if model is None:
        return False
    name, wanted = model.casefold(), family.casefold()
    if name == wanted:
        return True
    parts, sought = _PARTS.split(name), _PARTS.split(wanted)
    return any(parts[at : at + len(sought)] == sought for at in range(len(parts) - len(sought) + 1))


def rungs(chain: Sequence[Rung], *, runtime: str, model: str | None) -> tuple[Rung, ...]:
    """Return the rungs below a model, in the order in which they are tried.

    A model that the chain does not name stands above all of it.
    """
    standing = next(
        (
            place
            for place, rung in enumerate(chain)
            if rung.runtime == runtime and rung.model is not None and is_of(model, rung.model)
        ),
        -1,
    )
    below = [rung for rung in chain[standing + 1 :] if (rung.runtime, rung.model) != (runtime, model)]
    return tuple(sorted(below, key=lambda rung: rung.runtime != runtime))


# --- the decision ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldBack:
    """Why something may not run now."""

    text: str
    """For people; a sentence."""
    at: float | None
    """When it could, in seconds since the epoch; None: that is not known."""
    never: bool = False
    """No window that opens lets it run, ever: only a person changes that."""
    leave: tuple[Leave, ...] = ()
    """What would have to be authorized for it to run now; empty: that would not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A rung that was looked at."""

    rung: Rung
    held: HeldBack | None
    """None: it may run now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartAsWanted:
    """It starts as it was wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Downgrade:
    rung: Rung
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStart:
    at: float | None
    """When it is expected to run; None: that is not known."""
    why: str
    tried: tuple[Rung, ...] = ()
    """The rungs below it that have no room either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseStart:
    why: str
    tried: tuple[Rung, ...] = ()
    """As of `QueueStart`."""


Step: TypeAlias = StartAsWanted | Downgrade | QueueStart | RefuseStart


def step(
    wanted: HeldBack | None, below: Sequence[Tried] = (), *, deadline: float | None = None, may_refuse: bool = True
) -> Step:
    """Return what is done: it starts; else a smaller model; else it is queued; and only if that is in vain it is
    refused.

    Args:
        wanted: why what is wanted may not run; None: it may.
        below: the rungs below it, in their order.
        deadline: when the work must have begun, in seconds since the epoch.
        may_refuse: whether it can be refused at all.
    """
    if wanted is None:
        return StartAsWanted()
    for tried in below:
        if tried.held is None:
            return Downgrade(rung=tried.rung, why=wanted.text)
    rungs_tried = tuple(tried.rung for tried in below)
    helds = [wanted, *(tried.held for tried in below if tried.held is not None)]
    open_ones = [held for held in helds if not held.never]
    if may_refuse and not open_ones:
        return RefuseStart(why=wanted.text, tried=rungs_tried)
    times = [held.at for held in open_ones if held.at is not None]
    unknown = any(held.at is None for held in open_ones)
    if may_refuse and deadline is not None and times and not unknown and min(times) > deadline:
        return RefuseStart(why=f"{wanted.text} No window opens before its deadline.", tried=rungs_tried)
    return QueueStart(at=min(times) if times else None, why=wanted.text, tried=rungs_tried)
