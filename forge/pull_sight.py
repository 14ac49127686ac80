"""What the forge shows of the open pull request of a run: its commit, its checks, whether it can be merged (pure).

Forges find out bit by bit: checks begin some seconds after a push, GitHub says nothing of conflicts until it has
looked, and Gitea says meanwhile that a pull request cannot be merged. So people are told, and a conflict is believed,
once nothing has changed for a minute.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from forge.model.values import CheckState, CommitCheck, MergeState, PullRequest

#: Seconds without a change after which people are told, and a conflict counts.
SETTLED_S: Final = 60.0
#: Seconds for which a check that has not ended holds back what is said of the others.
CHECKS_WAIT_S: Final = 1_800.0
#: Seconds for which a forge that does not say whether there is a conflict is asked again, and how often.
UNKNOWN_S: Final = 600.0
_ASK_AGAIN_S: Final = 15.0
_LEAST_S: Final = 1.0
#: How many checks are kept by name.
MOST_CHECKS: Final = 50
#: How often people are told of one commit.
_MOST_TOLD: Final = 20
#: The most failed checks that an agent is given, and the characters of a name and of a description.
_NAMED: Final = 20
_NAME: Final = 200
_DESCRIPTION: Final = 500
_ORDER: Final = (CheckState.FAILURE, CheckState.PENDING, CheckState.SUCCESS)


@dataclass(frozen=True, slots=True)
class PullSight:
    """A pull request as it was seen last. Times are ours, in seconds since the epoch."""

    head: str
    """Its newest commit."""
    merge: MergeState
    is_draft: bool
    checks: tuple[tuple[str, CheckState], ...]
    """Names and states; failed ones first, and no more than `MOST_CHECKS`."""
    failed: int
    pending: int
    passed: int
    since: float
    """Since when all of this is so."""
    merge_since: float
    """Since when the forge says of this commit whether it can be merged."""
    failed_since: float | None
    """Since when a check of this commit has failed; None: none has."""
    told: str = ""
    """A digest of what people were told last."""
    times: int = 0
    """How often they were told of this commit."""

    @classmethod
    def of(cls, pull: PullRequest, checks: Iterable[CommitCheck], now: float) -> PullSight:
        """Return what is seen now for the first time."""
        ordered = sorted(checks, key=lambda each: (_ORDER.index(each.state), each.name))
        counts = Counter(each.state for each in ordered)
        return cls(
            head=pull.head_sha,
            merge=pull.merge,
            is_draft=pull.is_draft,
            checks=tuple((each.name[:_NAME], each.state) for each in ordered[:MOST_CHECKS]),
            failed=counts[CheckState.FAILURE],
            pending=counts[CheckState.PENDING],
            passed=counts[CheckState.SUCCESS],
            since=now,
            merge_since=now,
            failed_since=now if counts[CheckState.FAILURE] else None,
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> PullSight | None:
        """Read what `to_json` wrote; None if nothing was, or nothing that this version knows."""
        try:
            checks = tuple((str(name), CheckState(word)) for name, word in state["checks"])
            known = {name: state[name] for name in cls.__dataclass_fields__ if name in state}
            return cls(**{**known, "merge": MergeState(state["merge"]), "checks": checks})
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return it for the register."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "merge": self.merge.value, "checks": [[name, word.value] for name, word in self.checks]}

    @property
    def digest(self) -> str:
        """Tell apart what can be seen, whenever it was seen."""
        shown = (self.head, self.merge, self.is_draft, self.checks, self.failed, self.pending, self.passed)
        return hashlib.blake2s(repr(shown).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class PullNews:
    """What follows from a look at a pull request."""

    sight: PullSight
    is_told: bool
    """Whether people are to be told of it now."""
    failed: tuple[CommitCheck, ...]
    """The failed checks that wake the agent."""
    has_conflict: bool
    """Whether the forge has said for long enough that git cannot merge it."""
    again_s: float | None
    """Seconds after which it has to be looked at again, although nothing changes; None: it need not."""


def pull_news(before: PullSight | None, pull: PullRequest, checks: Sequence[CommitCheck], now: float) -> PullNews:
    """Return what is seen of an open pull request, and what follows.

    Args:
        before: what was seen last.
        pull: the pull request now.
        checks: of the commit that Muster pushed.
        now: seconds since the epoch.
    """
    seen = _seen(before, PullSight.of(pull, checks, now), now)
    age, merge_age = now - seen.since, now - seen.merge_since
    is_unknown = seen.merge is MergeState.UNKNOWN and not seen.is_draft
    # All of this has to be over before people are told; seconds from now.
    waits = [SETTLED_S - age]
    if seen.pending:
        waits.append(CHECKS_WAIT_S - age)
    if is_unknown:
        waits.append(UNKNOWN_S - merge_age)
    is_news = seen.digest != seen.told and seen.times < _MOST_TOLD
    is_told = is_news and max(waits) <= 0
    again = [max(waits)] if is_news and not is_told else []
    if is_unknown and merge_age < UNKNOWN_S:
        again.append(_ASK_AGAIN_S)
    has_conflict = seen.merge is MergeState.CONFLICT and merge_age >= SETTLED_S
    if seen.merge is MergeState.CONFLICT and not has_conflict:
        again.append(SETTLED_S - merge_age)
    failed: tuple[CommitCheck, ...] = ()
    if seen.failed_since is not None:
        late = seen.failed_since + CHECKS_WAIT_S - now
        if seen.pending and late > 0:
            again.append(late)
        else:
            failed = tuple(each for each in checks if each.state is CheckState.FAILURE)
    if is_told:
        seen = replace(seen, told=seen.digest, times=seen.times + 1)
    again_s = max(_LEAST_S, min(again)) if again else None
    return PullNews(seen, is_told, failed, has_conflict, again_s)


def _seen(before: PullSight | None, now_seen: PullSight, now: float) -> PullSight:
    """Return what is seen, with the times since when it is so. A clock that was set back makes nothing older."""
    if before is None or before.head != now_seen.head:
        # The digest names the commit, so people are told of a new one.
        return now_seen if before is None else replace(now_seen, told=before.told)
    failed_since = now_seen.failed_since
    if failed_since is not None and before.failed_since is not None:
        failed_since = min(before.failed_since, now)
    return replace(
        now_seen,
        since=min(before.since, now) if before.digest == now_seen.digest else now,
        merge_since=min(before.merge_since, now) if before.merge is now_seen.merge else now,
        failed_since=failed_since,
        told=before.told,
        times=before.times,
    )


def failed_text(failed: Sequence[CommitCheck]) -> str:
    """Return failed checks for an agent: their names, and what they say of themselves."""
    lines = [f"{each.name[:_NAME]}: {each.description[:_DESCRIPTION]}".rstrip(": ") for each in failed[:_NAMED]]
    if len(failed) > _NAMED:
        lines.append(f"and {len(failed) - _NAMED} more")
    return "\n".join(lines)
