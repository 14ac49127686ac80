"""Texts of reports, in Markdown that fits on a phone: short lines, tables of few columns. Pure.

The text is complete without its picture. Texts of agents and operators are always quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.limits import UsageRow, WindowPace
from bot.reports.model import AgentFacts, BudgetLeft, Down, ProjectFacts, ReportFacts, TaskFacts
from bot.reports.threshold_alerts import Crossing
from bot.spending.limits_text import seen_words
from bot.text import markdown
from budget import amounts
from budget.amounts import Unit
from budget.scope_names import shown_scope
from budget.windows.window_key import WindowKey

#: Maximum rows of each table.
ROWS: Final = 12
#: Share of the window by which use must be ahead of the line to be marked.
_AHEAD: Final = 0.03

Why: TypeAlias = Literal["down", "away", "quiet", "missed"]
"""Why a report is late: Muster was down, could not post it, or there were quiet hours.

`missed` means that the report is in time, but earlier ones were missed.
"""

_TITLES = {"daily": "Daily report", "weekly": "Weekly report", "budget": "Budgets", "fleet": "The fleet"}
#: How topics end, in words.
ENDED: Final = {"merge": "merged", "keep": "kept", "discard": "discarded", "closed": "closed"}
_DOWN = {"silent": "did not answer", "failed": "was down", "stalled": "was stuck", "erring": "failed its turns"}
_STATES = {"provider": "", "user": "", "estimated": "≈ ", "unknown": "? "}


def report(facts: ReportFacts, *, note: str | None = None) -> str:
    """Return the whole text of a report."""
    parts = [_heading(facts), *([f"_{note}_"] if note else [])]
    match facts.kind:
        case "fleet":
            parts += [*_fleet(facts), *_downs(facts, "Down today"), *_pace(facts)]
        case "budget":
            parts += _pace(facts) or ["No window and no limit is known: nothing is paced."]
        case _:
            parts += [
                *_spent(facts),
                *_projects(facts),
                *_pace(facts),
                *_by_role(facts),
                *_waiting(facts),
                *_ended(facts),
                *_downs(facts, "Who was down"),
            ]
    if facts.behind:
        parts.append(f"⚠️ {facts.behind}")
    return "\n\n".join(parts)


def late(due_at: float, now: float, zone: ZoneInfo, why: Why, missed: int) -> str:
    """Return why the report is posted only now, and how many were missed before it."""
    due = _near(due_at, now, zone)
    posted = moment(now, zone, day=due != moment(due_at, zone))
    reason = {
        "down": f"Due {due}, posted {posted}, since Muster was down.",
        "away": f"Due {due}, posted {posted}, since Muster could not post it before.",
        "quiet": f"Due {due}, in quiet hours.",
        "missed": "",
    }[why]
    before = f"{missed:,} before it {'was' if missed == 1 else 'were'} missed." if missed else ""
    return f"{reason} {before}".strip()


def crossed(crossings: Sequence[Crossing], zone: ZoneInfo) -> str:
    """Return the alert about windows that passed shares."""
    lines = []
    for each in crossings[:ROWS]:
        window = each.window
        even = "" if window.line is None else f", line {_of(window, window.line)}"
        ends = "" if window.resets_at is None else f". It resets {_reset(window, zone)}"
        mark = "🔴" if each.share >= 0.95 else "🟠"
        lines.append(
            f"{mark} **{amounts.percent(each.share)}** of {markdown.code(window_name(window))} are used: "
            f"{_amount(window, window.used)} of {_amount(window, window.limit)}{even}{ends}."
        )
    if len(crossings) > ROWS:
        lines.append(f"{len(crossings) - ROWS:,} more windows, too.")
    scopes = dict.fromkeys(each.window.scope for each in crossings[:ROWS])
    leave = " or ".join(command_line(f"budget authorize {shown_scope(scope)} AMOUNT") for scope in scopes)
    pace = command_line("pace")
    return "\n".join([*lines, f"\n{pace} shows what waits for it; {leave} lets work go on beyond the pace."])


# --- parts ---------------------------------------------------------------------------------------------------------


def _heading(facts: ReportFacts) -> str:
    zone = facts.zone
    if facts.kind in ("fleet", "budget"):
        return f"📊 **{_TITLES[facts.kind]}**, {moment(facts.now, zone, day=True)}"
    first, last = (datetime.fromtimestamp(at, zone) for at in (facts.begin, facts.end - 1))
    days = f"{_date(first)}" if first.date() == last.date() else f"{_date(first)} to {_date(last)}"
    return f"📊 **{_TITLES[facts.kind]}**, {days}"


def _spent(facts: ReportFacts) -> Iterator[str]:
    total = facts.total
    if total is None or not total.requests:
        yield "**Spent**: nothing."
        return
    estimated = f" Of {total.estimated:,} it is an estimate." if total.estimated else ""
    yield (
        f"**Spent**: {amounts.tokens(total.tokens)} tokens, {amounts.money(total.usd)}, in {total.requests:,} "
        f"request{'' if total.requests == 1 else 's'}.{estimated}"
    )
    if facts.days:
        yield _spent_table("day", facts.days, [each.name for each in facts.days])
    yield _spent_table("agent", facts.agents, [markdown.one_line(each.name, 40) for each in facts.agents])
    if facts.tasks:
        names = dict(facts.names)
        shown = [_task_name(each.name, names.get(each.name)) for each in facts.tasks[:ROWS]]
        yield _spent_table("task", facts.tasks, shown)


def _projects(facts: ReportFacts) -> Iterator[str]:
    if not facts.projects:
        return
    lines = [_project(each) for each in facts.projects[:ROWS]]
    more = len(facts.projects) - len(lines)
    rest = f"\n- {more:,} more: {command_line('projects')}" if more > 0 else ""
    yield "**Projects**\n\n" + "\n".join(lines) + rest


def _project(project: ProjectFacts) -> str:
    spent = project.spent
    used = f"{amounts.tokens(spent.tokens)} tokens, {amounts.money(spent.usd)}" if spent.requests else "nothing spent"
    counts = [(project.opened, "opened"), *((project.ended.get(key, 0), words) for key, words in ENDED.items())]
    done = [f"{count:,} {words}" for count, words in (*counts, (project.waiting, "waiting now")) if count]
    topics = f" Topics: {', '.join(done)}." if done else ""
    budget = f" Left: {', '.join(map(_left, project.budget))}." if project.budget else ""
    return f"- **{markdown.one_line(project.name, 40)}**: {used}.{topics}{budget}"


def _left(budget: BudgetLeft) -> str:
    return f"{_figure(budget.left, budget.unit)} of {_figure(budget.limit, budget.unit)}{amounts.per(budget.window)}"


def _figure(amount: float | None, unit: Unit) -> str:
    """Return an amount in few letters: tokens are the unit of most limits."""
    return amounts.tokens(amount) if unit == "tokens" and amount is not None else amounts.amount(amount, unit)


def _task_name(task_id: str, text: str | None) -> str:
    code = markdown.code(markdown.one_line(task_id, 20))
    return code if text is None else f"{code} {markdown.code(text)}"


def _spent_table(key: str, spent: Sequence[UsageRow], names: Sequence[str]) -> str:
    rows = [
        (name, amounts.tokens(each.tokens), amounts.money(each.usd))
        for name, each in zip(names[:ROWS], spent[:ROWS], strict=True)
    ]
    rest = spent[ROWS:]
    more = f"\n\n{len(rest):,} more: {amounts.tokens(sum(each.tokens for each in rest))} tokens." if rest else ""
    return markdown.table((key, "tokens", "USD"), rows) + more


def _pace(facts: ReportFacts) -> list[str]:
    windows = facts.windows
    if not windows:
        return []
    rows = [
        (
            f"{_mark(each)} {window_name(each)}",
            _used(each),
            "-" if each.line is None else _of(each, each.line),
            _outcome(each, facts.zone),
        )
        for each in windows[:ROWS]
    ]
    more = f"\n\n{len(windows) - ROWS:,} more: {command_line('pace')}." if len(windows) > ROWS else ""
    table = markdown.table(("window", "used", "line", "at the reset"), rows)
    seen = [line for each in windows[:ROWS] if (line := _seen(each, facts.now)) is not None]
    unknown = "\n\n" + "\n".join(seen) if seen else ""
    return [f"**Pace**\n\n{table}{more}{unknown}"]


def _used(window: WindowPace) -> str:
    if window.used is None:
        return "?" if window.at_least is None else f"≥ {_of(window, window.at_least)}"
    return _of(window, window.used)


def _seen(window: WindowPace, now: float) -> str | None:
    """Return what is known of a window whose use is unknown, or None."""
    words = seen_words(window, now)
    return None if words is None else f"❔ {markdown.code(window_name(window))}: {words}."


def _by_role(facts: ReportFacts) -> Iterator[str]:
    for window in facts.windows:
        if by_role := () if window.projection is None else window.projection.by_role:
            shown = [
                f"{markdown.one_line(role or 'without a role', 40)} {_of(window, amount)}"
                for role, amount in by_role[:ROWS]
            ]
            yield f"Until {markdown.code(window_name(window))} resets, at this rate: {', '.join(shown)}."


def _mark(window: WindowPace) -> str:
    share = window.share
    if share is None:
        return "❔"
    if share >= 0.95:
        return "🔴"
    ahead = window.line is not None and window.used is not None and window.used > window.line + _AHEAD * window.limit
    return "🟠" if ahead or share >= 0.8 else "🟢"


def _outcome(window: WindowPace, zone: ZoneInfo) -> str:
    if window.resets_at is None:
        return "-"
    when = _reset(window, zone)
    if window.band is None or not window.limit:
        return when
    # A projection is not exact, so whole percents are enough.
    low, _, high = (round(100 * each / window.limit) for each in window.band)
    band = f"{low:,}%" if low == high else f"{low:,} to {high:,}%"
    return f"{band}, {when}"


def _reset(window: WindowPace, zone: ZoneInfo) -> str:
    assert window.resets_at is not None
    return f"{_STATES.get(window.certainty, '? ')}{moment(window.resets_at, zone, day=True)}"


def _waiting(facts: ReportFacts) -> Iterator[str]:
    count = facts.waiting_count + facts.waiting_runs
    if not count:
        return
    lines = [_waits(each, facts.now, facts.zone) for each in facts.waiting[:ROWS]]
    more = count - len(lines)
    rest = f"\n- {more:,} more: {command_line('tasks')}" if more > 0 else ""
    runs = f"{facts.waiting_runs:,} run{'' if facts.waiting_runs == 1 else 's'}" if facts.waiting_runs else ""
    what = ", ".join(filter(None, (_tasks(facts.waiting_count) if facts.waiting_count else "", runs)))
    yield f"**Waiting**: {what}\n\n" + "\n".join(lines) + rest


def _waits(task: TaskFacts, now: float, zone: ZoneInfo) -> str:
    why = f": {markdown.code(task.reason)}" if task.reason else ""
    again = "" if task.look_at is None else f" Next look {_near(task.look_at, now, zone)}."
    return (
        f"- `{task.id}` {markdown.code(task.text)} for {markdown.one_line(task.whose, 40)}, "
        f"{markdown.span(now - task.created_at)}{why}.{again}"
    )


def _ended(facts: ReportFacts) -> Iterator[str]:
    if not facts.ended_counts:
        return
    counts = ", ".join(f"{count:,} {state}" for state, count in facts.ended_counts)
    failed = [each for each in facts.ended if each.state == "failed"]
    lines = [
        f"- `{each.id}` {markdown.code(each.text)} of {markdown.one_line(each.whose, 40)} failed"
        for each in failed[:ROWS]
    ]
    yield f"**Tasks**: {counts}" + ("\n\n" + "\n".join(lines) if lines else "")


def _downs(facts: ReportFacts, title: str) -> Iterator[str]:
    if not facts.downs:
        return
    lines = [_down(each, facts.now, facts.zone) for each in facts.downs[:ROWS]]
    more = len(facts.downs) - len(lines)
    rest = f"\n- {more:,} more" if more > 0 else ""
    yield f"**{title}**\n\n" + "\n".join(lines) + rest


def _down(down: Down, now: float, zone: ZoneInfo) -> str:
    since = _near(down.since, now, zone)
    lasted = f"for {markdown.span((now if down.until is None else down.until) - down.since)}"
    still = ", still" if down.until is None else ""
    cause = f": {markdown.code(down.cause)}" if down.cause else ""
    name, how = markdown.one_line(down.agent, 40), _DOWN.get(down.kind, down.kind)
    return f"- **{name}** {how} from {since} {lasted}{still}{cause}"


def _fleet(facts: ReportFacts) -> Iterator[str]:
    if not facts.fleet_count:
        yield f"The fleet has no agents. {command_line('launch NAME')} starts an agent."
        return
    counts = ", ".join(f"{count:,} {state}" for state, count in facts.fleet_states)
    yield f"{facts.fleet_count:,} agent{'' if facts.fleet_count == 1 else 's'}: {counts}."
    shown = sorted(facts.fleet, key=lambda each: (each.state in ("stopped", "frozen"), each.name))[: 2 * ROWS]
    rows = [(each.name, _state(each, facts.now), f"{each.tasks_done:,}", _tokens(each)) for each in shown]
    more = facts.fleet_count - len(shown)
    rest = f"\n\n{more:,} more: {command_line('ps --all')}." if more > 0 else ""
    yield markdown.table(("agent", "state", "tasks done", "tokens today"), rows) + rest


def _state(agent: AgentFacts, now: float) -> str:
    age = "" if agent.evidence_at is None else f", {markdown.span(now - agent.evidence_at)}"
    return f"{agent.state} ({agent.evidence}{age})"


def _tokens(agent: AgentFacts) -> str:
    return "?" if agent.tokens is None else amounts.tokens(agent.tokens)


# --- words ---------------------------------------------------------------------------------------------------------


def window_name(window: WindowPace) -> str:
    """Return a short name of a window: ``main 7d``, ``host day``, ``coder of main 7d``."""
    key = WindowKey.parse(shown_scope(window.key))
    name = key.scope.partition(":")[2] or key.scope
    of = f" of {key.account}" if key.is_share else ""
    unit = " USD" if key.unit == "usd" else ""
    return markdown.one_line(f"{name}{of} {key.window}{unit}", 40)


def moment(at: float, zone: ZoneInfo, *, day: bool = False) -> str:
    """Return ``14:00``, or ``Fri 20 Nov 14:00``, in this zone."""
    local = datetime.fromtimestamp(at, zone)
    return f"{_date(local)} {local:%H:%M}" if day else f"{local:%H:%M}"


def _near(at: float, now: float, zone: ZoneInfo) -> str:
    """Return the time, with the day if it is not the day of `now`."""
    same = datetime.fromtimestamp(at, zone).date() == datetime.fromtimestamp(now, zone).date()
    return moment(at, zone, day=not same)


def _date(day: datetime) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _of(window: WindowPace, amount: float) -> str:
    return amounts.percent(amount / window.limit) if window.limit else amounts.UNKNOWN


def _amount(window: WindowPace, amount: float | None) -> str:
    return amounts.amount(amount, window.unit)


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
