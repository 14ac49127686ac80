"""Runs of issues: one for each issue that was picked up, and why it goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Select, delete, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import forge_orders, issue_runs, issue_wakes

IssueRunState = Literal["queued", "running", "checking", "frozen", "destroyed", "failed"]
#: The kind of the question whether an agent is woken more often than it may be. Registers contain it.
USED_UP: Final = "issue wakes"
#: The kinds of reasons to go on that no person gave.
OF_THE_FORGE: Final = frozenset({"checks", "conflict"})
#: States in which a round goes on.
ACTIVE: Final[tuple[IssueRunState, ...]] = ("running", "checking")
#: States of a run that is not over.
ALIVE: Final[tuple[IssueRunState, ...]] = ("queued", "running", "checking", "frozen", "failed")
#: The cause of a wake begins so if a person declared that a finding is no secret; its mark follows.
ALLOWED: Final = "allow/"


@dataclass(frozen=True, kw_only=True, slots=True)
class IssueRun(Record):
    """The work on one issue.

    It is *queued* until a place is free, *running* while its agent works, *checking* from the agent's word until its
    commits are at the forge, *frozen* while its pull request waits for people, *failed* if a person has to decide, and
    *destroyed* once its pull request was closed and its agent's folder tidied up. A comment or a failed check begins a
    new round.
    """

    id: str
    forge: str
    repository: str
    number: int
    title: str
    body: str
    role: str
    sandboxes: Sequence[str]
    picked_by: str
    picked_how: str
    base_branch: str | None = None
    base_sha: str | None = None
    branch: str | None = None
    agent: str
    connector: str
    room: str
    thread_key: str
    state: IssueRunState
    detail: str | None = None
    round: int = 1
    signal: Mapping[str, Any] | None = None
    findings: Sequence[Mapping[str, Any]] | None = None
    #: marks of findings that operators declared to be no secrets
    allowed: Sequence[str] = ()
    pull_request: int | None = None
    pull_url: str | None = None
    pull_state: Literal["open", "merged", "closed"] | None = None
    pushed_sha: str | None = None
    operations: Sequence[str] = ()
    created_at: float
    active_at: float
    ended_at: float | None = None

    @property
    def is_done(self) -> bool:
        """Return whether its agent said in this round that all of its work is done."""
        return self.signal is not None and self.signal.get("status") == "done"

    @property
    def reference(self) -> str:
        """Return the issue's name, such as ``owner/repo#17``."""
        return f"{self.repository}#{self.number}"

    @property
    def next_round(self) -> int:
        """The number of the round with which it begins or goes on."""
        return self.round if self.state == "queued" else self.round + 1

    @property
    def is_held(self) -> bool:
        """Whether an operator took it off the queue. It has not begun, and its `detail` says who did."""
        return self.state == "queued" and self.detail is not None

    def waits(self, wakes: Mapping[str, Collection[str]]) -> bool:
        """Return whether a round of it begins once there is a place, as far as `wakes` tell (`woken`)."""
        if self.state in ("frozen", "failed"):
            # The forge says nothing new about a run for which a person has to decide.
            kinds = wakes.get(self.id, ())
            return any(self.state == "frozen" or kind not in OF_THE_FORGE for kind in kinds)
        return self.state == "queued" and not self.is_held


@dataclass(frozen=True, kw_only=True, slots=True)
class IssueWake(Record):
    """Why a run goes on: a comment, a check that failed, or what an operator decided.

    By *mend* the agent is to mend what the text says. By *retry* Muster is to publish again what there is.
    """

    run: str
    cause: str
    kind: Literal["comment", "checks", "conflict", "mend", "retry"]
    author: str
    is_member: bool
    text: str
    at: float
    round: int | None = None


async def add(tx: AsyncConnection, run: IssueRun) -> bool:
    """Add a run; False, and nothing is changed, if its issue has one."""
    return await insert_once(tx, issue_runs, **run.columns())


async def get(tx: AsyncConnection, run_id: str) -> IssueRun | None:
    return await IssueRun.one(tx, select(issue_runs).where(issue_runs.c.id == run_id))


async def begins_with(tx: AsyncConnection, prefix: str, *, limit: int) -> list[IssueRun]:
    """Return runs whose ids begin so, the newest first."""
    query = select(issue_runs).where(issue_runs.c.id.startswith(prefix, autoescape=True))
    return await IssueRun.every(tx, query.order_by(issue_runs.c.created_at.desc(), issue_runs.c.id).limit(limit))


async def of_issue(tx: AsyncConnection, forge: str, repository: str, number: int) -> IssueRun | None:
    """Return the run of an issue."""
    those = (issue_runs.c.forge == forge, issue_runs.c.repository == repository, issue_runs.c.number == number)
    return await IssueRun.one(tx, select(issue_runs).where(*those))


async def about(tx: AsyncConnection, repository: str, number: int) -> list[IssueRun]:
    """Return the runs of an issue or a pull request at any forge; names of repositories have no case."""
    numbers = or_(issue_runs.c.number == number, issue_runs.c.pull_request == number)
    query = select(issue_runs).where(func.lower(issue_runs.c.repository) == repository.lower(), numbers)
    return await IssueRun.every(tx, query.order_by(issue_runs.c.created_at.desc(), issue_runs.c.id))


async def of_pull_request(tx: AsyncConnection, forge: str, repository: str, number: int) -> IssueRun | None:
    """Return the run that opened a pull request."""
    those = (issue_runs.c.forge == forge, issue_runs.c.repository == repository, issue_runs.c.pull_request == number)
    return await IssueRun.one(tx, select(issue_runs).where(*those))


async def of_commit(tx: AsyncConnection, forge: str, repository: str, sha: str) -> IssueRun | None:
    """Return the run that pushed a commit."""
    those = (issue_runs.c.forge == forge, issue_runs.c.repository == repository, issue_runs.c.pushed_sha == sha)
    return await IssueRun.one(tx, select(issue_runs).where(*those).limit(1))


async def of_agent(tx: AsyncConnection, agent: str) -> IssueRun | None:
    """Return the run that an agent works on."""
    return await IssueRun.one(tx, select(issue_runs).where(issue_runs.c.agent == agent))


async def in_states(tx: AsyncConnection, states: Collection[IssueRunState]) -> list[IssueRun]:
    """Return runs in these states, the oldest first."""
    query = select(issue_runs).where(issue_runs.c.state.in_(states))
    return await _readable(tx, query.order_by(issue_runs.c.created_at, issue_runs.c.id))


async def _readable(tx: AsyncConnection, query: Select[Any]) -> list[IssueRun]:
    """Return the rows of a query, without those that cannot be read."""
    try:
        return await IssueRun.every(tx, query)
    except ValueError:
        return await IssueRun.every(tx, query.where(issue_runs.c.id.not_in(await unreadable(tx))))


async def unreadable(tx: AsyncConnection) -> list[str]:
    """Return the ids of rows that hold something else than they should, such as after the disk lost some of it."""
    found = []
    for run_id in list(await tx.scalars(select(issue_runs.c.id).order_by(issue_runs.c.id))):
        try:
            await get(tx, run_id)
        except ValueError:
            found.append(run_id)
    return found


async def newest(tx: AsyncConnection, *, limit: int) -> list[IssueRun]:
    """Return the runs that something happened to last, the newest first."""
    query = select(issue_runs).order_by(issue_runs.c.active_at.desc(), issue_runs.c.id)
    return await _readable(tx, query.limit(limit))


async def listed(tx: AsyncConnection, *, ended: int) -> list[IssueRun]:
    """Return the runs that are not over, the oldest first, and the last that ended, the newest first.

    They have no `body`: dashboards read them often, and texts of issues are long.
    """
    brief = (*(column for column in issue_runs.c if column.name != "body"), literal("").label("body"))
    alive = select(*brief).where(issue_runs.c.state.in_(ALIVE))
    over = select(*brief).where(issue_runs.c.state.not_in(ALIVE))
    return [
        *await _readable(tx, alive.order_by(issue_runs.c.created_at, issue_runs.c.id)),
        *await _readable(tx, over.order_by(issue_runs.c.active_at.desc(), issue_runs.c.id).limit(ended)),
    ]


async def change(tx: AsyncConnection, run_id: str, *, only: Collection[IssueRunState], **values: object) -> bool:
    """Set columns of a run in one of the states `only`; False if it is in none of them."""
    where = (issue_runs.c.id == run_id, issue_runs.c.state.in_(only))
    return (await tx.execute(update(issue_runs).where(*where).values(**values))).rowcount > 0


async def add_wake(tx: AsyncConnection, wake: IssueWake) -> bool:
    """Add a reason to go on; False if it was known."""
    return await insert_once(tx, issue_wakes, **wake.columns())


async def wakes(tx: AsyncConnection, run_id: str) -> list[IssueWake]:
    """Return all reasons why a run went on or is to go on, the oldest first."""
    query = select(issue_wakes).where(issue_wakes.c.run == run_id)
    return await IssueWake.every(tx, query.order_by(issue_wakes.c.at, issue_wakes.c.cause))


async def wake_counts(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many reasons to go on each of these runs had, and how many wait. Others' comments are no reasons."""
    found: dict[str, tuple[int, int]] = {}
    columns = (issue_wakes.c.run, func.count(), func.count(issue_wakes.c.round))
    for some in batches(ids):
        query = select(*columns).where(issue_wakes.c.run.in_(some), issue_wakes.c.is_member).group_by(issue_wakes.c.run)
        found |= {run: (every, every - taken) for run, every, taken in await tx.execute(query)}
    return found


async def failed_checks(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, str]:
    """Return what the newest failed checks of those of these runs were that had some."""
    found: dict[str, str] = {}
    for some in batches(ids):
        query = select(issue_wakes.c.run, issue_wakes.c.text).where(
            issue_wakes.c.run.in_(some), issue_wakes.c.kind == "checks"
        )
        found |= {run: text for run, text in await tx.execute(query.order_by(issue_wakes.c.at, issue_wakes.c.cause))}
    return found


async def woken(tx: AsyncConnection) -> dict[str, set[str]]:
    """Return the runs for which a reason to go on waits that counts, with their kinds: not only others' comments."""
    query = select(issue_wakes.c.run, issue_wakes.c.kind)
    found: dict[str, set[str]] = {}
    for run, kind in await tx.execute(query.where(issue_wakes.c.round.is_(None), issue_wakes.c.is_member).distinct()):
        found.setdefault(run, set()).add(kind)
    return found


async def take_wakes(tx: AsyncConnection, run_id: str, round_: int) -> int:
    """Give all reasons that wait to a round; return how many."""
    those = (issue_wakes.c.run == run_id, issue_wakes.c.round.is_(None))
    return (await tx.execute(update(issue_wakes).where(*those).values(round=round_))).rowcount


async def count(tx: AsyncConnection, states: Collection[IssueRunState]) -> int:
    """Return how many runs are in these states."""
    query = select(func.count()).select_from(issue_runs).where(issue_runs.c.state.in_(states))
    return await tx.scalar(query) or 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete some of the runs that ended before `before`, with all that belongs to them; return how many.

    What was seen of their issues stays: it tells that they had a run, so that they are not picked up again.
    """
    query = select(issue_runs.c.id).where(issue_runs.c.state == "destroyed", issue_runs.c.ended_at < before).limit(100)
    over = list(await tx.scalars(query))
    for part in (forge_orders.c.run, issue_wakes.c.run, issue_runs.c.id):
        await tx.execute(delete(part.table).where(part.in_(over)))
    return len(over)
