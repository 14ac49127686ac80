"""What waits to be said through one connector, and which of it goes next. No I/O; the clock is handed in.

Rows of one lane go out in order, one at a time; a lane that waits (for its back-off, for a thread to be opened, for the
message that it changes) holds up no other. Among lanes whose first row may go, the most urgent goes first, then the
oldest; how many go is the `Pace`'s to say. Along the way rows that something newer makes needless are left out
(`connectors.delivery.coalescing`); of receipts on one message this is done only while the budget is scarce.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

from connectors.contract.messages import Capabilities, File, Priority, Replace, Retitle, Sent
from connectors.delivery.capability_fallbacks import adapt, signed
from connectors.delivery.coalescing import ProgressGaps, is_change, is_receipt, last_word, merged, newer_name
from connectors.delivery.lane import Backoff, Lane
from connectors.delivery.outbox import OutboxRowState, Row
from connectors.delivery.outbox_dependencies import OutboxDependencies, referred_to
from connectors.delivery.send_decision import Attempt, SendDecision
from connectors.delivery.send_rate_limiter import SendRateLimiter


class Lanes:
    """The lanes of one connector."""

    def __init__(
        self,
        capabilities: Capabilities,
        pace: SendRateLimiter,
        *,
        backoff: Backoff | None = None,
        rng: Callable[[], float] = random.random,
        uploads_at_once: int = 3,
    ) -> None:
        self.capabilities = capabilities
        self.pace = pace
        self._backoff = backoff or Backoff()
        self._rng = rng
        self._uploads_at_once = uploads_at_once
        self._uploading: set[str] = set()
        #: Lanes whose next row is a file, while as many as may be are under way.
        self._held: set[str] = set()
        self._lanes: dict[str, Lane] = {}
        #: The lane in which each waiting key is.
        self._where: dict[str, str] = {}
        self._standings = OutboxDependencies()
        #: Lanes of which it must be found out again what they wait for.
        self._dirty: dict[str, None] = {}
        self._ready: list[tuple[int, float, int, str, int]] = []
        self._timed: list[tuple[float, str, int]] = []
        self._gaps = ProgressGaps()
        #: Lanes that failed since anything was taken.
        self._failing: set[str] = set()
        #: For each lane: those of threads' names that wait until nothing is left in it.
        self._behind: dict[str, set[str]] = {}
        self._notes = SendDecision()
        self._closing: set[str] = set()
        self._versions = itertools.count(1)
        self._latest = 0.0
        self.in_flight = 0
        """How many rows are being sent."""

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: str) -> bool:
        """Return whether it waits, is under way, or is about to be closed by what `choose` returns next."""
        return key in self._where or key in self._closing

    # --- rows come ---------------------------------------------------------------------------------------------

    def add(self, row: Row, now: float) -> None:
        """A row waits to be said."""
        if row.key in self:
            return
        self._standings.forget(row.key)
        content = row.outbound.content
        if isinstance(content, Replace) and not self._coalesce(row, content):
            return
        self._enter(row)
        self._press(row)
        # What had given up hope of a retried row, or asked for it before it was here, may have to wait for it again.
        self._look_at(self._standings.release(row.key))
        self._settle(now)

    def unknown(self) -> set[str]:
        """Keys that something waits for and of which nothing is known here: look them up, then `learn`."""
        return self._standings.unknown()

    def learn(self, key: str, standing: OutboxRowState, now: float) -> None:
        """What happened to a row that is not waiting here."""
        if key not in self._where:
            self._learn(key, standing)
            self._settle(now)

    # --- rows go -----------------------------------------------------------------------------------------------

    def choose(self, now: float, *, room: int, scope: str) -> SendDecision:
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
            if isinstance(first.outbound.content, File) and len(self._uploading) >= self._uploads_at_once:
                self._held.add(lane.name)
                continue
            if self.pace.scarce(now):
                self._thin(lane)
            self._attempt(lane, now, scope)
            room -= 1
        return self.take()

    def take(self) -> SendDecision:
        """Return what is to be written down so far, without choosing anything to send."""
        notes, self._notes = self._notes, SendDecision()
        self._closing.clear()
        return notes

    def expire(self, now: float) -> SendDecision:
        """Give up what is too old, without sending anything: for a connector that is away."""
        for lane in list(self._lanes.values()):
            for row in lane.waiting():
                if self._expired(row, now):
                    self._give_up(lane, row)
        self._settle(now)
        return self.take()

    def next_at(self, now: float) -> float | None:
        """Return when time alone lets something happen; None when only an event can."""
        moments = []
        while self._timed and not self._current(self._timed[0][1], self._timed[0][2]):
            heapq.heappop(self._timed)
        if self._timed:
            moments.append(self._timed[0][0])
        if (found := self._first_ready()) is not None:
            moments.append(self.pace.next_at(found[0], now))
        return min(moments, default=None)

    # --- what happened to an attempt -----------------------------------------------------------------------------

    def sent(self, key: str, sent: Sent, now: float) -> None:
        """The chat system has it."""
        lane = self._land(key)
        lane.recovered()
        self.pace.taken(now)
        self._learn(
            key,
            OutboxRowState(
                state="sent",
                event_id=sent.event_id,
                conversation=lane.conversation,
                made_conversation=sent.conversation,
            ),
        )
        others, self._failing = self._failing - {lane.name}, set()
        if len(others) > 1:  # several lanes failed and none succeeded: it was the connection, and it is back
            self._hurry(others)
        self._settle(now)

    def later(self, key: str, now: float, *, after: float | None, limited: bool, detail: str) -> float:
        """It was not taken this time. Returns when it may be tried again."""
        lane = self._returned(key)
        row = replace(lane.rows[0], detail=detail)
        lane.substitute(row)
        self._dirty[lane.name] = None
        newer = next((other for other in lane.rows[1:] if is_change(other)), None)
        if is_change(row) and newer is not None:
            self._supersede(row, f"{newer.key} is newer")
            self._drop(lane, row)
        if limited:
            self.pace.refused(now, after)
            self._settle(now)
            return self.pace.paused_until
        if after is None:  # where the chat system said when, being back is no reason to ask it sooner
            self._failing.add(lane.name)
        until = lane.failed(now, after, backoff=self._backoff, jitter=self._rng())
        self._settle(now)
        return until

    def restamped(self, key: str, *, scope: str, now: float) -> None:
        """No earlier attempt stands: the chat system knows the key from now on, under `scope`."""
        lane = self._lanes[self._where[key]]
        lane.substitute(replace(lane.get(key), first_attempt_at=now, attempt_scope=scope))

    def died(self, key: str, now: float) -> None:
        """It was refused for good, which has been written down."""
        lane = self._land(key)
        lane.recovered()
        self._learn(key, OutboxRowState(state="dead", conversation=lane.conversation))
        self._settle(now)

    def hurry(self, now: float) -> None:
        """The connection is back: what failed may go at once."""
        failing, self._failing = self._failing, set()
        self._hurry(failing)
        self._settle(now)

    def _set_back(self, now: float) -> None:
        """The clock was set back: nothing waits for the time that it showed before."""
        self._gaps.clear()
        for lane in self._lanes.values():
            lane.not_before = min(lane.not_before, now + self._backoff.longest)
            self._dirty[lane.name] = None

    # --- which lane --------------------------------------------------------------------------------------------

    def _enter(self, row: Row) -> None:
        name = self._standings.lane(row)
        self._lanes.setdefault(name, Lane(name=name)).insert(row)
        self._where[row.key] = name
        self._dirty[name] = None

    def _drop(self, lane: Lane, row: Row) -> None:
        lane.remove(row.key)
        self._where.pop(row.key)
        self._dirty[lane.name] = None

    def _returned(self, key: str) -> Lane:
        """Return the lane whose first row is no longer under way."""
        lane = self._lanes[self._where[key]]
        lane.in_flight = False
        self.in_flight -= 1
        if key in self._uploading:
            self._uploading.remove(key)
            held, self._held = self._held, set()
            for name in held:
                if (other := self._lanes.get(name)) is not None:
                    self._queue(other)
        return lane

    def _land(self, key: str) -> Lane:
        lane = self._returned(key)
        self._closing.add(key)
        self._drop(lane, lane.rows[0])
        return lane

    # --- what something newer makes needless -------------------------------------------------------------------

    def _coalesce(self, row: Row, content: Replace) -> bool:
        """Leave out the older changes of that message. False: it is the new one that is left out."""
        lane = self._lanes.get(self._standings.lane(row))
        if lane is not None:
            if (last := last_word(lane.rows, row, content)) is not None:
                self._supersede(row, f"{last.key} has the last word")
                return False
            for other in lane.waiting():
                if is_change(other):
                    self._supersede(other, f"{row.key} is newer")
                    self._drop(lane, other)
        return not self._merge(row, content)

    def _merge(self, row: Row, content: Replace) -> bool:
        """Say it from the beginning, when the message that it changes was never tried."""
        name = self._where.get(content.target)
        if name is None:
            return False
        lane = self._lanes[name]
        target = lane.get(content.target)
        if (rewritten := merged(target, content, row.outbound.priority)) is None:
            return False
        lane.substitute(rewritten)
        self._notes.rewritten.append(rewritten)
        self._supersede(row, f"{target.key} says it from the beginning")
        if content.final and (marks := self._lanes.get(f"marks {target.key}")) is not None:
            # They were the answers to what is no longer asked.
            for mark in [each for each in marks.waiting() if each.seq < row.seq]:
                self._supersede(mark, f"{row.key} has the last word")
                self._drop(marks, mark)
        self._queue(lane)
        return True

    def _thin(self, lane: Lane) -> None:
        """Of receipts on one message keep the newest."""
        newest = lane.rows[-1]
        if all(is_receipt(row) for row in lane.rows):
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

    def _examine(self, lane: Lane, now: float) -> None:
        lane.version = next(self._versions)
        lane.ready = False
        while lane.rows:
            row = lane.rows[0]
            if self._expired(row, now):
                self._give_up(lane, row)
            elif adapt(row.outbound.content, self.capabilities) is None:
                self._supersede(row, "this chat system cannot show it")
                self._drop(lane, row)
            elif (key := self._standings.open_question(row)) is not None:
                self._standings.wait(lane.name, key, ask=key not in self._where)
                return
            elif (reason := self._standings.hopeless(row)) is not None:
                self._let_go(lane, row, reason, progress=reason)
            elif self._standings.lane(row) != lane.name:
                # The thread has opened: what waited for it joins what is said there.
                self._drop(lane, row)
                self._enter(row)
            elif (newer := newer_name(lane.rows)) is not None:
                self._supersede(row, f"{newer.key} is newer")
                self._drop(lane, row)
            elif (busy := self._standings.still_said(row, self._lanes.values())) is not None:
                self._behind.setdefault(busy, set()).add(lane.name)
                return
            else:
                self._line_up(lane, row, now)
                return
        del self._lanes[lane.name]
        self._look_at(self._behind.pop(lane.name, ()))

    def _line_up(self, lane: Lane, row: Row, now: float) -> None:
        when = max(lane.not_before, self._gaps.earliest(row))
        if when > now:
            heapq.heappush(self._timed, (when, lane.name, lane.version))
            return
        lane.conversation = self._standings.conversation(row) or ""
        lane.target = self._standings.target(row)
        lane.ready = True
        self._queue(lane)

    def _press(self, row: Row) -> None:
        """What others wait for is as urgent as they are."""
        for key in referred_to(row):
            if (name := self._where.get(key)) is None:
                continue
            lane = self._lanes[name]
            other = lane.get(key)
            if other.outbound.priority > row.outbound.priority:
                lane.substitute(replace(other, outbound=replace(other.outbound, priority=row.outbound.priority)))
                self._queue(lane)

    def _learn(self, key: str, standing: OutboxRowState) -> None:
        self._look_at(self._standings.learn(key, standing))

    def _look_at(self, lanes: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(lanes))

    def _hurry(self, names: set[str]) -> None:
        for name in names:
            if (lane := self._lanes.get(name)) is not None:
                lane.not_before = 0.0
                self._dirty[name] = None

    # --- giving up ---------------------------------------------------------------------------------------------

    def _expired(self, row: Row, now: float) -> bool:
        return now - row.created_at > self._backoff.give_up_after

    def _give_up(self, lane: Lane, row: Row) -> None:
        hours = self._backoff.give_up_after / 3600
        reason = f"given up after {hours:g} h" + (f": {row.detail}" if row.detail else "")
        self._let_go(lane, row, reason, progress="it is too old to be of interest")

    def _let_go(self, lane: Lane, row: Row, reason: str, *, progress: str) -> None:
        """It will not be said: a dead letter, or, of mere progress, needless (for the reason `progress`)."""
        needless = row.outbound.priority is Priority.PROGRESS or isinstance(row.outbound.content, Retitle)
        if needless:
            self._supersede(row, progress)
        else:
            self._notes.dead.append((row, reason))
            self._closing.add(row.key)
        self._drop(lane, row)
        state: Literal["superseded", "dead"] = "superseded" if needless else "dead"
        self._learn(row.key, OutboxRowState(state=state, conversation=self._standings.conversation(row)))

    def _supersede(self, row: Row, reason: str) -> None:
        self._notes.superseded.append((row, reason))
        self._closing.add(row.key)

    # --- going -------------------------------------------------------------------------------------------------

    def _attempt(self, lane: Lane, now: float, scope: str) -> None:
        before = lane.rows[0]
        content = adapt(before.outbound.content, self.capabilities)
        assert content is not None, "what cannot be shown is never ready"
        if isinstance(content, Replace) and self._standings.stands_alone(before):
            content = content.message
        if self._standings.threadless(before):
            content = signed(content)
        self._gaps.shown(before, now)
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
        if isinstance(row.outbound.content, File):
            self._uploading.add(row.key)
        self.pace.spend(now)
        self._notes.attempts.append(
            Attempt(
                row=row,
                outbound=replace(row.outbound, content=content),
                conversation=lane.conversation,
                target=lane.target,
                look_first=before.attempts > 0 and self._forgotten(before, now, scope),
                scope=scope,
            )
        )

    def _forgotten(self, row: Row, now: float, scope: str) -> bool:
        """Return whether the chat system would not recognise the key of an earlier attempt."""
        remembered = self.capabilities.remembers_keys
        if remembered is None or row.first_attempt_at is None or row.attempt_scope != scope:
            return True
        age = now - row.first_attempt_at
        return age < 0 or age + self._backoff.key_margin > remembered

    def _queue(self, lane: Lane) -> None:
        """Among the ready lanes: by the most urgent of its rows, then by age."""
        if lane.ready:
            first = lane.rows[0]
            heapq.heappush(self._ready, (lane.priority(), first.created_at, first.seq, lane.name, lane.version))

    def _first_ready(self) -> tuple[Priority, Lane] | None:
        while self._ready:
            priority, _, _, name, version = self._ready[0]
            if self._current(name, version):
                return Priority(priority), self._lanes[name]
            heapq.heappop(self._ready)
        return None

    def _current(self, name: str, version: int) -> bool:
        lane = self._lanes.get(name)
        return lane is not None and lane.version == version
