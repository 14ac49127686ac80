"""Texts about tasks for chat rooms, agents' threads and programs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from bot.commands.syntax import command_line
from bot.pacing import run_queue
from bot.pacing.wait_text import when
from bot.read_models.tasks import TaskLine, TasksModel
from bot.text import markdown, timestamps
from budget import amounts
from budget.dispatch import next_task
from budget.dispatch.next_task import TaskWait
from core.redaction import beginning
from database.queries.tasks import Task, TaskStep

#: Prefix of the identities of agents (bot.interfaces.mcp.server).
AGENT = next_task.AGENT
_GIST = 60
_WHOLE = 2000
_SUMMARY = 600
_MARKS = {
    "queued": "⏳",
    "dispatched": "📨",
    "running": "⚙️",
    "waiting": "❔",
    "done": "✅",
    "failed": "❌",
    "cancelled": "🚫",
}
#: Marks in titles of threads, which may change only rarely: a dispatched task already counts as running.
_TITLE_MARKS = {**_MARKS, "dispatched": "⚙️", "waiting": "✋"}
_SHAPE = (
    "id", "kind", "text", "state", "role", "agent", "assigned", "urgency", "operator", "why", "reason", "attempt",
    "retries", "parent", "estimate", "projected_tokens", "projected_usd", "used_tokens", "used_usd", "actual_tokens",
    "actual_usd", "summary", "runtime", "model", "account",
)  # fmt: skip
_TIMES = ("look_at", "deadline", "created_at", "dispatched_at", "started_at", "ended_at")


def cost(tokens: float | None, usd: float | None) -> str:
    """Return a cost like ``about 40k tokens ($0.12)``, without the price if it is unknown."""
    if tokens is None:
        return "unknown"
    money = "" if usd is None else f" ({amounts.money(usd)})"
    return f"{amounts.tokens(tokens)} tokens{money}"


def costs(task: Task) -> str:
    """Return the projected and the actual cost side by side."""
    estimated = cost(task.projected_tokens, task.projected_usd)
    return f"projected {estimated}, used {cost(task.actual_tokens, task.actual_usd)}"


def projected_otherwise(task: Task, projected: float | None) -> str | None:
    """Return why the projection differs from the estimate, or None if it does not.

    Args:
        task: a task that may have an estimate.
        projected: the projection (`budget.costs.task_cost`) in weighted tokens; None if unknown.
    """
    said = task.estimate
    if not said or projected is None or amounts.tokens(projected) == amounts.tokens(said):
        return None
    times = projected / said
    share = "half of such tasks used at least as much" if times > 1 else "four in five used no more of theirs"
    if task.operator.startswith(AGENT):
        share = "no more of an agent's estimate counts" if times < 1 else "such tasks mostly use that much"
    about = f"{times:,.1f}" if 0.1 <= times < 10 else f"{times:,.0f}" if times > 1 else "less than 0.1"
    return (
        f"You estimated {amounts.tokens(said)} tokens; {amounts.tokens(projected)} are projected, about {about} times "
        f"that, because {share}."
    )


def gist(task: Task, redact: Callable[[str], str], width: int = _GIST) -> str:
    """Return the beginning of the task's text, on one line and without secrets."""
    return markdown.gist(task.text, redact, width)


def named(task: Task, redact: Callable[[str], str]) -> str:
    """Return the task's id and the beginning of its text."""
    return f"{markdown.code(task.id)} ({gist(task, redact)})"


def target(task: Task | TaskLine) -> str:
    """Return the agent or the role that the task is for."""
    if task.assigned is not None and task.state != "queued":
        return task.assigned
    return task.agent or f"any {task.role}"


def waiting(task: Task, redact: Callable[[str], str], wait: TaskWait, now: float, zone: tzinfo) -> str:
    """Return the text about a waiting task, for the place where it was requested."""
    rest = when(wait, now, zone)
    return f"⏳ Task {named(task, redact)} waits. {markdown.shown(wait.text)} {rest}".rstrip()


def given(task: Task, redact: Callable[[str], str]) -> str:
    """Return the text in an agent's thread when it is given a task."""
    urgency = "" if task.urgency == "normal" else f", {task.urgency}"
    by = markdown.one_line(task.operator, 60)
    again = f" Attempt {task.attempt}." if task.attempt > 1 else ""
    projection = cost(task.projected_tokens, task.projected_usd)
    name, what = markdown.code(task.id), gist(task, redact, 300)
    return f"📨 Task {name} from {by}{urgency}: {what}\n\nProjected: {projection}.{again}"


def for_agent(task: Task, *, tools: bool = True) -> str:
    """Return the message that carries a task; without `tools`, the end of its turn ends the task."""
    by = f", asked for by {task.operator}" if task.operator.startswith(AGENT) else ""
    said = f"Task {task.id}{by}:\n\n{task.text}"
    if not tools:
        return f"{said}\n\nThe end of your turn ends this task. Close with a summary of a few sentences."
    return (
        f"{said}\n\n"
        "When it is finished, or you find that you cannot go on, call Muster's tool task_done with the status done, "
        "failed or blocked, and with a summary of a few sentences."
    )


def over(task: Task, redact: Callable[[str], str]) -> str:
    """Return the last text about a task."""
    words = {"done": "is done", "failed": "failed", "cancelled": "is cancelled"}.get(task.state, task.state)
    summary = ""
    if task.summary:
        said = redact(task.summary)
        summary = f" {markdown.shown(said[:_SUMMARY])}{'…' if len(said) > _SUMMARY else ''}"
    spent = f"\n\n{costs(task)[0].upper()}{costs(task)[1:]}." if task.attempt else ""
    return f"{_MARKS[task.state]} Task {markdown.code(task.id)} {words}.{summary}{spent}"


def title(task: Task, redact: Callable[[str], str], *, marked: bool) -> str:
    """Return the title of the task's thread: id and beginning of the text, with a mark of the state if `marked`."""
    name = f"{task.id} {gist(task, redact)}"
    return f"{_TITLE_MARKS[task.state]} {name}" if marked else name


def opened(task: Task, redact: Callable[[str], str]) -> str:
    """Return the message that opens the task's thread, as it reads until the task is over."""
    return f"{_MARKS['queued']} Task {markdown.code(task.id)} ({gist(task, redact)}) is in the queue."


def closed(task: Task, redact: Callable[[str], str]) -> str:
    """Return the opening message as it reads once the task is over."""
    words = {"done": "is done", "cancelled": "is cancelled"}.get(task.state, "failed")
    return f"{_MARKS[task.state]} Task {markdown.code(task.id)} {words}: {gist(task, redact)}"


# --- for commands ------------------------------------------------------------------------------------------------


def task_json(task: TaskLine) -> dict[str, Any]:
    """Return a task as ``tasks --json`` prints it."""
    times = {name: timestamps.timestamp(getattr(task, name)) for name in _TIMES}
    return {**{name: getattr(task, name) for name in _SHAPE}, **times}


def state(task: TaskLine, now: float, zone: tzinfo) -> str:
    """Return the task's state in a few words."""
    if task.state != "queued":
        return task.state
    if task.why is None:
        return "queued"
    until = f" until {timestamps.shown(task.look_at, zone, now)}" if task.look_at is not None else ""
    return f"queued: {task.why}{until}"


def queue_text(model: TasksModel, now: float, zone: tzinfo, *, ended: bool) -> str:
    """Return the answer of `tasks`.

    Args:
        model: the queue.
        now: seconds since the epoch.
        zone: the operator's time zone.
        ended: whether tasks that ended were asked for, too.
    """
    lines = (*model.open, *model.ended)
    if not lines:
        more = "" if ended else f" {command_line('tasks --all')} shows those that ended."
        return f"No task waits or is under way.{more}"
    more = "More tasks wait than are shown here." if model.more else ""
    return "\n\n".join(filter(None, (counted(model.counts), _table(lines, now, zone), _of_runs(lines), more)))


def _table(lines: Sequence[TaskLine], now: float, zone: tzinfo) -> str:
    rows = [
        (
            markdown.code(task.id),
            f"{_MARKS.get(task.state, '')} {state(task, now, zone)}",
            target(task),
            _about(task),
            "" if task.projected_tokens is None else amounts.tokens(task.projected_tokens),
            _used(task),
        )
        for task in lines
    ]
    return markdown.table(("task", "state", "for", "what", "projected", "used"), rows)


def _of_runs(lines: Sequence[TaskLine]) -> str:
    """Return which commands are about runs in the queue; empty if there are none."""
    found = next((line for line in lines if line.kind in run_queue.KINDS), None)
    if found is None:
        return ""
    show, now, stop = (command_line(f"runs {word}{found.id}") for word in ("", "now ", "stop "))
    return f"{found.id} is a run: {show} shows it, {now} begins it if it waits, and {stop} ends it or takes it off."


def _about(task: TaskLine) -> str:
    gist = markdown.gist(task.text, str, 40)
    # The titles of issues are strangers' words.
    return markdown.code(gist or "-") if task.kind in run_queue.KINDS else gist


def _used(task: TaskLine) -> str:
    if task.actual_tokens is not None:
        return amounts.tokens(task.actual_tokens)
    return "" if task.used_tokens is None else f"{amounts.tokens(task.used_tokens)} so far"


def whole(
    task: Task, redact: Callable[[str], str], steps: Sequence[TaskStep], behind: int, now: float, zone: tzinfo
) -> str:
    """Return one task with all details."""
    lines = [
        f"{_MARKS.get(task.state, '')} **{task.state}** {markdown.code(task.id)} for {target(task)}, "
        f"{task.urgency}, from {markdown.one_line(task.operator, 60)}",
        "",
        markdown.code_block(markdown.shown(beginning(task.text, redact)[:_WHOLE])),
        "",
    ]
    if task.state == "queued":
        lines.append(f"- {why_it_waits(task, behind, now, zone)}")
    if task.deadline is not None:
        lines.append(f"- deadline: {timestamps.shown(task.deadline, zone, now)}")
    if task.charged_to is not None:
        lines.append(f"- its turns count for {markdown.one_line(task.charged_to, 60)}")
    if task.parent is not None:
        lines.append(f"- part of {markdown.code(task.parent)}")
    lines.append(f"- {costs(task)}")
    if task.summary:
        lines.append(f"- summary: {markdown.shown(redact(task.summary)[:_SUMMARY])}")
    lines += [
        "",
        *(f"- {timestamps.shown(step.at, zone, now)} {step.state}{_because(step, redact)}" for step in steps[-12:]),
    ]
    return "\n".join(lines)


#: When a task begins that waits for no window, and what lets it begin now.
_FREE = {
    "busy": ("it begins once an agent is free", "another agent for it"),
    "concurrency": ("it begins once one of them ends", "a higher `at_once`"),
    "starting": ("it begins once the agent is ready", "nothing"),
    "nobody": ("it starts when such an agent runs", "starting one"),
    "retry": ("it begins", "nothing"),
}


def why_it_waits(task: Task, behind: int, now: float, zone: tzinfo) -> str:
    """Return one sentence: why a queued task waits, when it will likely begin, and what lets it begin now."""
    about = "" if task.look_at is None else f" at about {timestamps.shown(task.look_at, zone, now)} ({zone})"
    if behind or task.reason is None:
        first = f"{behind} more of its lane go first" if behind else "not looked at yet"
        return f"waits: {first}; it begins after them." if behind else f"waits: {first}."
    reason = markdown.shown(task.reason).rstrip(".")
    begins, helps = _FREE.get(task.why or "", ("", ""))
    if not begins:
        begins = f"it will likely begin{about}" if about else "when it begins is not known"
        helps = command_line(f"task now {task.id}")
    elif task.why == "retry":
        begins += about
    return f"waits ({task.why}): {reason}; {begins}, and {helps} lets it begin now."


def _because(step: TaskStep, redact: Callable[[str], str]) -> str:
    return f": {markdown.gist(step.reason, redact, 160)}" if step.reason else ""


def counted(counts: Mapping[str, int]) -> str:
    """Return counts like ``3 running, 2 waiting for you, 14 queued``; empty if there are no tasks."""
    words = (
        ("running", "running"),
        ("dispatched", "handed over"),
        ("waiting", "waiting for you"),
        ("queued", "queued"),
    )
    return ", ".join(f"{counts[name]} {word}" for name, word in words if counts.get(name))
