"""The decision at the start of a session that meets a limit: a smaller model, the queue, or a refusal. Pure.

A rung of the ladder is a model of a runtime. A session steps down to the first lower rung that may run now: first
models of the same runtime, in the order of the chain, then other runtimes. This happens only at the start of a
session. A change of the model within a session would invalidate its cache and its signed thinking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from budget.windows.pace_admission import Leave

#: The parts of a model's name: ``claude-opus-4-1`` is of the family ``opus``.
_PARTS = re.compile(r"[-_./:@\[\]]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    runtime: str
    model: str | None
    """The runtime's name of the model; None for the runtime's default."""

    def __str__(self) -> str:
        return f"{self.runtime}:{self.model}" if self.model is not None else self.runtime


def parse(written: str, *, runtime: str, runtimes: Iterable[str]) -> Rung:
    """Parse a rung such as ``opus`` or ``codex:gpt-5-codex``.

    Args:
        written: the rung.
        runtime: the runtime of a rung that names none.
        runtimes: the existing runtimes. Any other prefix before a colon belongs to the model's name.
    """
    before, colon, after = written.partition(":")
    if colon and before in set(runtimes) and after:
        return Rung(runtime=before, model=after)
    return Rung(runtime=runtime, model=written)


def is_of(model: str | None, family: str) -> bool:
    """Return whether a rung or window names this model or its family: ``claude-opus-4-1`` is of ``opus``."""
    if model is None:
        return False
    name, wanted = model.casefold(), family.casefold()
    if name == wanted:
        return True
    parts, sought = _PARTS.split(name), _PARTS.split(wanted)
    return any(parts[at : at + len(sought)] == sought for at in range(len(parts) - len(sought) + 1))


def rungs(chain: Sequence[Rung], *, runtime: str, model: str | None) -> tuple[Rung, ...]:
    """Return the rungs below a model, in the order in which to try them.

    A model that the chain does not name is above the whole chain.
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
    """The reason why a session may not run now."""

    text: str
    """A sentence for people."""
    at: float | None
    """When it can run, in seconds since the epoch; None if unknown."""
    never: bool = False
    """Whether no reset of a window will let it run, so that a person must act."""
    leave: tuple[Leave, ...] = ()
    """The authorizations that would let it run now; empty if none would help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A rung that was tried."""

    rung: Rung
    held: HeldBack | None
    """The reason against it; None if it may run now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartAsWanted:
    """The session starts as requested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Downgrade:
    rung: Rung
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStart:
    at: float | None
    """When the session is expected to start; None if unknown."""
    why: str
    tried: tuple[Rung, ...] = ()
    """The lower rungs, which have no room either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseStart:
    why: str
    tried: tuple[Rung, ...] = ()
    """The lower rungs, which have no room either."""


Step: TypeAlias = StartAsWanted | Downgrade | QueueStart | RefuseStart


def step(
    wanted: HeldBack | None, below: Sequence[Tried] = (), *, deadline: float | None = None, may_refuse: bool = True
) -> Step:
    """Decide how a session starts: as requested, or else on a smaller model, or else later.

    It is refused only if it can never start, or only after its deadline.

    Args:
        wanted: why the requested model may not run; None if it may.
        below: the lower rungs in their order.
        deadline: when the work must have begun, in seconds since the epoch.
        may_refuse: whether a refusal is allowed.
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
