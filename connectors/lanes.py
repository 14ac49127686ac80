"""What waits to be said through one connector, and which of it goes next. No I/O; the clock is handed in.

Rows of one lane go out in order, one at a time; a lane that waits (for its back-off, for a thread to be opened, for the
message that it changes) holds up no other. Among lanes whose first row may go, the most urgent goes first, then the
oldest; how many go is the `Pace`'s to say. Along the way rows that something newer makes needless are left out:

- of the changes of one message only the newest is kept; that of a message which was never tried is folded into it;
- changes that show progress are at least `PROGRESS_GAP` apart;
- while the budget is scarce, only the newest receipt on a message goes out.
"""

from __future__ import annotations

import heapq
import itertools
import random
from bisect import insort
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from connectors.adapting import adapt
from connectors.messages import Message, OpenThread, Priority, React, Replace
from connectors.outbox import Row, Standing, lane_of, own_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.messages import Capabilities, Outbound, Sent
    from connectors.pace import Pace

#: Seconds between two changes of one message that show progress.
PROGRESS_GAP: Final = 1.0

_FACTS_KEPT = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A row to be sent now."""

    row: Row
    outbound: Outbound
    """What to hand to the connector, made to fit what it can do."""
    conversation: str
    target: str | None
    look_first: bool
    """Whether it may stand already, and the chat system would not recognise its key."""


@dataclass(kw_only=True, slots=True)
class Choice:
    """What to write down, and then what to send."""

    attempts: list[Attempt] = field(default_factory=list)
    superseded: list[tuple[Row, str]] = field(default_factory=list)
    dead: list[tuple[Row, str]] = field(default_factory=list)
    rewritten: list[Row] = field(default_factory=list)
    """Rows with new content, in the order in which they are to be written."""

    def __bool__(self) -> bool:
        return bool(self.attempts or self.superseded or self.dead or self.rewritten)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How long a lane waits after a failure, in seconds, and when its rows are given up."""

    first: float = 1.0
    """After the first failure; twice as long after each further one."""
    longest: float = 60.0
    give_up_after: float = 24 * 3600.0
    key_margin: float = 60.0
    """A key is taken for forgotten this much before the chat system says that it forgets: a send takes time."""


@dataclass(kw_only=True, slots=True)
class _Lane:
    name: str
    rows: list[Row] = field(default_factory=list)
    in_flight: bool = False
    """The first row is being sent."""
    ready: bool = False
    """Nothing but the pace keeps the first row from being sent; `conversation` and `target` are where it goes."""
    conversation: str = ""
    target: str | None = None
    not_before: float = 0.0
    failures: int = 0
    version: int = 0
    """Entries of the heaps that carry another version are out of date."""
    urgency: list[int] = field(default_factory=lambda: [0] * len(Priority))
    """How many rows of each priority there are."""

    def insert(self, row: Row) -> None:
        insort(self.rows, row, lo=1 if self.in_flight else 0, key=lambda other: other.seq)
        self.urgency[row.outbound.priority] += 1

    def remove(self, key: str) -> None:
        place = self.place(key)
        self.urgency[self.rows[place].outbound.priority] -= 1
        del self.rows[place]

    def substitute(self, row: Row) -> None:
        place = self.place(row.key)
        self.urgency[self.rows[place].outbound.priority] -= 1
        self.urgency[row.outbound.priority] += 1
        self.rows[place] = row

    def place(self, key: str) -> int:
        return next(place for place, row in enumerate(self.rows) if row.key == key)

    def get(self, key: str) -> Row:
        return self.rows[self.place(key)]

    def waiting(self) -> list[Row]:
        return self.rows[1:] if self.in_flight else self.rows[:]

    def priority(self) -> int:
        return next(priority for priority, count in enumerate(self.urgency) if count)


class Lanes:
    """The lanes of one connector."""

    def __init__(
        self,
        capabilities: Capabilities,
        pace: Pace,
        *,
        backoff: Backoff | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.capabilities = capabilities
        self.pace = pace
        self._backoff = backoff or Backoff()
        self._rng = rng
        self._lanes: dict[str, _Lane] = {}
        #: The lane in which each waiting key is.
        self._where: dict[str, str] = {}
        self._facts: OrderedDict[str, Standing] = OrderedDict()
        #: For each key that something waits for: the lanes that wait.
        self._blocked: dict[str, set[str]] = {}
        self._unknown: set[str] = set()
        #: Lanes of which it must be found out anew what they wait for.
        self._dirty: dict[str, None] = {}
        self._ready: list[tuple[int, float, int, str, int]] = []
        self._timed: list[tuple[float, str, int]] = []
        #: When progress was last shown in each message.
        self._shown: dict[str, float] = {}
        #: Lanes that failed since anything was taken.
        self._failing: set[str] = set()
        self._notes = Choice()
        self._closing: set[str] = set()
        self._versions = itertools.count(1)
        self._latest = 0.0
        self.in_flight = 0
        """How many rows are being sent."""

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        """Whether it waits, is under way, or is about to be closed by what `choose` returns next."""
        return key in self._where or key in self._closing

    # --- rows come ---------------------------------------------------------------------------------------------

    def add(self, row: Row, now: float) -> None:
        """A row waits to be said."""
        if row.key in self:
            return
        self._facts.pop(row.key, None)
        content = row.outbound.content
        if isinstance(content, Replace) and not self._coalesce(row, content):
            return
        self._enter(row)
        self._press(row)
        # What had given up hope of a retried row, or asked for it before it was here, may have to wait for it again.
        self._release(row.key)
        self._unknown.discard(row.key)
        self._settle(now)

    def unknown(self) -> set[str]:
        """Keys that something waits for and of which nothing is known here: look them up, then `learn`."""
        return set(self._unknown)

    def learn(self, key: str, standing: Standing, now: float) -> None:
        """What became of a row that is not waiting here."""
        if key not in self._where:
            self._learn(key, standing)
            self._settle(now)

    # --- rows go -----------------------------------------------------------------------------------------------

    def choose(self, now: float, *, room: int, scope: str) -> Choice:
        """At most `room` rows to send now under the connector's `scope`, and what is not to be sent at all."""
        if now < self._latest:
            self._set_back(now)
        self._latest = now
        while self._timed and self._timed[0][0] <= now:
            _, name, version = heapq.heappop(self._timed)
            if self._current(name, version):
                self._dirty[name] = None
        self._settle(now)
        while room > 0 and (found := self._first_ready()) is not None:
            priority, lane = found
            if not self.pace.allows(priority, now):
                break
            heapq.heappop(self._ready)
            first = lane.rows[0]
            if self._expired(first, now) or adapt(first.outbound.content, self.capabilities) is None:
                self._dirty[lane.name] = None
                self._settle(now)
                continue
            if self.pace.scarce(now):
                self._thin(lane)
            self._attempt(lane, now, scope)
            room -= 1
        return self.take()

    def take(self) -> Choice:
        """What is to be written down so far, without choosing anything to send."""
        notes, self._notes = self._notes, Choice()
        self._closing.clear()
        return notes

    def expire(self, now: float) -> Choice:
        """Give up what is too old, without sending anything: for a connector that is away."""
        for lane in list(self._lanes.values()):
            for row in lane.waiting():
                if self._expired(row, now):
                    self._give_up(lane, row)
        self._settle(now)
        return self.take()

    def next_at(self, now: float) -> float | None:
        """When time alone lets something happen; None when only an event can."""
        moments = []
        while self._timed and not self._current(self._timed[0][1], self._timed[0][2]):
            heapq.heappop(self._timed)
        if self._timed:
            moments.append(self._timed[0][0])
        if (found := self._first_ready()) is not None:
            moments.append(self.pace.next_at(found[0], now))
        return min(moments, default=None)

    # --- what became of an attempt -----------------------------------------------------------------------------

    def sent(self, key: str, sent: Sent, now: float) -> None:
        """The chat system has it."""
        lane = self._land(key)
        lane.failures, lane.not_before = 0, 0.0
        self.pace.taken(now)
        self._learn(
            key,
            Standing(
                state="sent",
                event_id=sent.event_id,
                conversation=lane.conversation,
                made_conversation=sent.conversation,
            ),
        )
        others, self._failing = self._failing - {lane.name}, set()
        if len(others) > 1:  # several lanes failed and none succeeded: it was the line, and it is back
            self._hurry(others)
        self._settle(now)

    def later(self, key: str, now: float, *, after: float | None, limited: bool, detail: str) -> float:
        """It was not taken this time. Returns when it may be tried again."""
        lane = self._lanes[self._where[key]]
        lane.in_flight = False
        self.in_flight -= 1
        row = replace(lane.rows[0], detail=detail)
        lane.substitute(row)
        self._dirty[lane.name] = None
        newer = next((other for other in lane.rows[1:] if isinstance(other.outbound.content, Replace)), None)
        if isinstance(row.outbound.content, Replace) and newer is not None:
            self._supersede(row, f"{newer.key} is newer")
            self._drop(lane, row)
        if limited:
            self.pace.refused(now, after)
            self._settle(now)
            return self.pace.paused_until
        self._failing.add(lane.name)
        lane.failures += 1
        wait = min(self._backoff.longest, self._backoff.first * 2.0 ** min(lane.failures - 1, 30))
        lane.not_before = now + max(wait * (0.75 + 0.5 * self._rng()), min(after or 0.0, 3600.0))
        until = lane.not_before
        self._settle(now)
        return until

    def restamped(self, key: str, *, scope: str, now: float) -> None:
        """No earlier attempt stands: the chat system knows the key from now on, under `scope`."""
        lane = self._lanes[self._where[key]]
        lane.substitute(replace(lane.get(key), first_attempt_at=now, attempt_scope=scope))

    def died(self, key: str, now: float) -> None:
        """It was refused for good, which has been written down."""
        lane = self._land(key)
        lane.failures, lane.not_before = 0, 0.0
        self._learn(key, Standing(state="dead", conversation=lane.conversation))
        self._settle(now)

    def hurry(self, now: float) -> None:
        """The line is back: what failed may go at once."""
        failing, self._failing = self._failing, set()
        self._hurry(failing)
        self._settle(now)

    def _set_back(self, now: float) -> None:
        """The clock was set back: nothing waits for the time that it showed before."""
        self._shown.clear()
        for lane in self._lanes.values():
            lane.not_before = min(lane.not_before, now + self._backoff.longest)
            self._dirty[lane.name] = None

    # --- which lane --------------------------------------------------------------------------------------------

    def _lane_name(self, row: Row) -> str:
        place = self._conversation(row)
        if row.outbound.thread_of is None or place is None:
            return lane_of(row.outbound)
        return lane_of(replace(row.outbound, conversation=place, thread_of=None))

    def _conversation(self, row: Row) -> str | None:
        """Where a row goes, as far as that is known; a thread that never opened falls back to its opener's place."""
        if row.outbound.thread_of is None:
            return row.outbound.conversation
        opener = self._facts.get(row.outbound.thread_of)
        return None if opener is None else opener.made_conversation or opener.conversation

    def _enter(self, row: Row) -> None:
        name = self._lane_name(row)
        self._lanes.setdefault(name, _Lane(name=name)).insert(row)
        self._where[row.key] = name
        self._dirty[name] = None

    def _drop(self, lane: _Lane, row: Row) -> None:
        lane.remove(row.key)
        self._where.pop(row.key)
        self._dirty[lane.name] = None

    def _land(self, key: str) -> _Lane:
        lane = self._lanes[self._where[key]]
        lane.in_flight = False
        self.in_flight -= 1
        self._closing.add(key)
        self._drop(lane, lane.rows[0])
        return lane

    # --- what something newer makes needless -------------------------------------------------------------------

    def _coalesce(self, row: Row, content: Replace) -> bool:
        """Leave out the older changes of that message. False: it is the new one that is left out."""
        lane = self._lanes.get(self._lane_name(row))
        if lane is not None:
            changes = [(other, change) for other in lane.rows if isinstance(change := other.outbound.content, Replace)]
            for other, change in changes:
                if (change.final and not content.final) or other.seq > row.seq:
                    self._supersede(row, f"{other.key} has the last word")
                    return False
            for other, _ in changes:
                if not (lane.in_flight and other is lane.rows[0]):
                    self._supersede(other, f"{row.key} is newer")
                    self._drop(lane, other)
        return not self._fold(row, content)

    def _fold(self, row: Row, content: Replace) -> bool:
        """Say it from the beginning, when the message that it changes was never tried."""
        name = self._where.get(content.target)
        if name is None:
            return False
        lane = self._lanes[name]
        target = lane.get(content.target)
        merged = _merged(target, content, row.outbound.priority)
        if target.attempts or merged is None:
            return False
        lane.substitute(merged)
        self._notes.rewritten.append(merged)
        self._supersede(row, f"{target.key} says it from the beginning")
        self._queue(lane)
        return True

    def _thin(self, lane: _Lane) -> None:
        """Of receipts on one message keep the newest."""
        newest = lane.rows[-1]
        if all(_is_receipt(row) for row in lane.rows):
            for row in lane.rows[:-1]:
                self._supersede(row, f"{newest.key} is newer")
                lane.remove(row.key)
                self._where.pop(row.key)

    # --- what a lane waits for ---------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        while self._dirty:
            name, _ = self._dirty.popitem()
            if (lane := self._lanes.get(name)) is not None and not lane.in_flight:
                self._examine(lane, now)

    def _examine(self, lane: _Lane, now: float) -> None:
        lane.version = next(self._versions)
        lane.ready = False
        while lane.rows:
            row = lane.rows[0]
            if self._expired(row, now):
                self._give_up(lane, row)
            elif adapt(row.outbound.content, self.capabilities) is None:
                self._supersede(row, "this chat system cannot show it")
                self._drop(lane, row)
            elif (key := self._open_question(row)) is not None:
                self._blocked.setdefault(key, set()).add(lane.name)
                if key not in self._where:
                    self._unknown.add(key)
                return
            elif (reason := self._hopeless(row)) is not None:
                self._bury(lane, row, reason)
            elif self._lane_name(row) != lane.name:
                # The thread has opened: what waited for it joins what is said there.
                self._drop(lane, row)
                self._enter(row)
            else:
                self._line_up(lane, row, now)
                return
        del self._lanes[lane.name]

    def _line_up(self, lane: _Lane, row: Row, now: float) -> None:
        when = max(lane.not_before, self._after_gap(row))
        if when > now:
            heapq.heappush(self._timed, (when, lane.name, lane.version))
            return
        content = row.outbound.content
        lane.conversation = self._conversation(row) or ""
        key = own_target(content)
        if key is not None:
            lane.target = self._facts[key].event_id
        else:
            lane.target = content.target if isinstance(content, React) else None
        lane.ready = True
        self._queue(lane)

    def _open_question(self, row: Row) -> str | None:
        """A key that must be dealt with before this row can go."""
        return next((key for key in _needs(row) if key not in self._facts), None)

    def _hopeless(self, row: Row) -> str | None:
        """Why this row can never go."""
        if self._conversation(row) is None:
            return f"its thread was to be opened by {row.outbound.thread_of}, which is not there"
        target = own_target(row.outbound.content)
        if target is not None and self._facts[target].state != "sent":
            return f"it is about {target}, which was not delivered"
        return None

    def _press(self, row: Row) -> None:
        """What others wait for is as urgent as they are."""
        for key in _needs(row):
            if (name := self._where.get(key)) is None:
                continue
            lane = self._lanes[name]
            other = lane.get(key)
            if other.outbound.priority > row.outbound.priority:
                lane.substitute(replace(other, outbound=replace(other.outbound, priority=row.outbound.priority)))
                self._queue(lane)

    def _learn(self, key: str, standing: Standing) -> None:
        self._unknown.discard(key)
        self._facts[key] = standing
        self._facts.move_to_end(key)
        while len(self._facts) > _FACTS_KEPT:  # whoever needs it again asks again
            self._facts.popitem(last=False)
        self._release(key)

    def _release(self, key: str) -> None:
        self._dirty.update(dict.fromkeys(self._blocked.pop(key, ())))

    def _hurry(self, names: set[str]) -> None:
        for name in names:
            if (lane := self._lanes.get(name)) is not None:
                lane.not_before = 0.0
                self._dirty[name] = None

    def _after_gap(self, row: Row) -> float:
        content = row.outbound.content
        if isinstance(content, Replace) and row.outbound.priority is Priority.PROGRESS:
            return self._shown.get(content.target, -PROGRESS_GAP) + PROGRESS_GAP
        return 0.0

    # --- giving up ---------------------------------------------------------------------------------------------

    def _expired(self, row: Row, now: float) -> bool:
        return now - row.created_at > self._backoff.give_up_after

    def _give_up(self, lane: _Lane, row: Row) -> None:
        if row.outbound.priority is Priority.PROGRESS:
            self._supersede(row, "it is too old to be of interest")
            self._drop(lane, row)
            self._learn(row.key, Standing(state="superseded", conversation=self._conversation(row)))
            return
        hours = self._backoff.give_up_after / 3600
        self._bury(lane, row, f"given up after {hours:g} h" + (f": {row.detail}" if row.detail else ""))

    def _supersede(self, row: Row, reason: str) -> None:
        self._notes.superseded.append((row, reason))
        self._closing.add(row.key)

    def _bury(self, lane: _Lane, row: Row, reason: str) -> None:
        self._notes.dead.append((row, reason))
        self._closing.add(row.key)
        self._drop(lane, row)
        self._learn(row.key, Standing(state="dead", conversation=self._conversation(row)))

    # --- going -------------------------------------------------------------------------------------------------

    def _attempt(self, lane: _Lane, now: float, scope: str) -> None:
        before = lane.rows[0]
        content = adapt(before.outbound.content, self.capabilities)
        assert content is not None, "what cannot be shown is never ready"
        if isinstance(before.outbound.content, Replace) and before.outbound.priority is Priority.PROGRESS:
            self._show(before.outbound.content.target, now)
        row = replace(
            before,
            attempts=before.attempts + 1,
            first_attempt_at=now if before.first_attempt_at is None else before.first_attempt_at,
            attempt_scope=scope if before.attempt_scope is None else before.attempt_scope,
        )
        lane.substitute(row)
        lane.in_flight, lane.ready = True, False
        lane.version = next(self._versions)
        self.in_flight += 1
        self.pace.spend(now)
        self._notes.attempts.append(
            Attempt(
                row=row,
                outbound=replace(row.outbound, content=content),
                conversation=lane.conversation,
                target=lane.target,
                look_first=before.attempts > 0 and self._forgotten(before, now, scope),
            )
        )

    def _forgotten(self, row: Row, now: float, scope: str) -> bool:
        """Whether the chat system would not recognise the key of an earlier attempt."""
        remembered = self.capabilities.remembers_keys
        if remembered is None or row.first_attempt_at is None or row.attempt_scope != scope:
            return True
        age = now - row.first_attempt_at
        return age < 0 or age + self._backoff.key_margin > remembered

    def _show(self, target: str, now: float) -> None:
        self._shown[target] = now
        if len(self._shown) > 1000:
            self._shown = {key: when for key, when in self._shown.items() if now - when < PROGRESS_GAP}

    def _queue(self, lane: _Lane) -> None:
        """Among the ready lanes: by the most urgent of its rows, then by age."""
        if lane.ready:
            first = lane.rows[0]
            heapq.heappush(self._ready, (lane.priority(), first.created_at, first.seq, lane.name, lane.version))

    def _first_ready(self) -> tuple[Priority, _Lane] | None:
        while self._ready:
            priority, _, _, name, version = self._ready[0]
            if self._current(name, version):
                return Priority(priority), self._lanes[name]
            heapq.heappop(self._ready)
        return None

    def _current(self, name: str, version: int) -> bool:
        lane = self._lanes.get(name)
        return lane is not None and lane.version == version


def _needs(row: Row) -> list[str]:
    """Keys that must have been dealt with before this row can go."""
    needs = (row.outbound.thread_of, own_target(row.outbound.content))
    return [key for key in needs if key is not None]


def _is_receipt(row: Row) -> bool:
    content = row.outbound.content
    return row.outbound.priority is Priority.RECEIPT and isinstance(content, React) and not content.own


def _merged(target: Row, change: Replace, priority: Priority) -> Row | None:
    """`target` as it reads after `change`; None when it cannot be changed."""
    match target.outbound.content:
        case Message() as old:
            content: Message | OpenThread = replace(change.message, reply_to=old.reply_to or change.message.reply_to)
        case OpenThread(title=title, message=old):
            content = OpenThread(
                title=title, message=replace(change.message, reply_to=old.reply_to or change.message.reply_to)
            )
        case _:
            return None
    urgency = min(target.outbound.priority, priority)
    return replace(target, outbound=replace(target.outbound, content=content, priority=urgency))
