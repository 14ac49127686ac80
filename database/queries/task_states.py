"""The life of a task: its states, and every step between them. Pure.

    queued ----ASSIGN---> dispatched ----ACCEPT---> running
      ^                       |                        |
      |                       +--------ASK, BLOCK------+----> waiting (for an operator's answer)
      |                       |                        |          |
      +----------RETRY--------+------------------------+----------+
                              |
                              +---FINISH, FAIL, CANCEL---> done, failed, cancelled

A queued task can also be cancelled or refused. Ended tasks stay ended. `database.queries.tasks.change` writes no other
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: States of a task that an agent has or is being given.
LIVE = ("dispatched", "running", "waiting")
#: States of a task that is not over.
OPEN = ("queued", *LIVE)
#: States that a task ends in.
ENDED = ("done", "failed", "cancelled")


class TaskEvent(StrEnum):
    """What happens to a task."""

    ASSIGN = "assign"
    """The dispatcher gives it to an agent."""
    REFUSE = "refuse"
    """Nothing will ever let it start, such as a deadline that passed."""
    HOLD = "hold"
    """The reason why it waits in the queue changes."""
    EXPEDITE = "expedite"
    """An operator moves it to the front of the queue."""
    ACCEPT = "accept"
    """The agent's runtime reads its message."""
    ASK = "ask"
    """Its turn ended without a result, so an operator is asked for one."""
    BLOCK = "block"
    """The agent reports that it cannot go on."""
    REPLY = "reply"
    """An operator writes to the agent whose task waits for an answer."""
    RETRY = "retry"
    """An attempt failed or met a limit, and another one is due later."""
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    SETTLE = "settle"
    """What it used is known."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A legal step."""

    sources: tuple[str, ...]
    """The states in which the event can happen."""
    target: str | None = None
    """The state after it; None if the state stays."""


TRANSITIONS = {
    TaskEvent.ASSIGN: Transition(("queued",), "dispatched"),
    TaskEvent.REFUSE: Transition(("queued",), "failed"),
    TaskEvent.HOLD: Transition(("queued",)),
    TaskEvent.EXPEDITE: Transition(("queued",)),
    TaskEvent.ACCEPT: Transition(("dispatched",), "running"),
    TaskEvent.ASK: Transition(("dispatched", "running"), "waiting"),
    TaskEvent.BLOCK: Transition(LIVE, "waiting"),
    TaskEvent.REPLY: Transition(("waiting",)),
    TaskEvent.RETRY: Transition(LIVE, "queued"),
    TaskEvent.FINISH: Transition(LIVE, "done"),
    TaskEvent.FAIL: Transition(LIVE, "failed"),
    TaskEvent.CANCEL: Transition(OPEN, "cancelled"),
    TaskEvent.SETTLE: Transition(ENDED),
}
