"""Whatever limits there are: `budget`, `pace` and the value behind them have the same numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.egress_client.settings_push import HeldLimit
from bot.pacing.window_inputs import Spender, WindowInputs, budgeted, windows_of
from bot.pacing.window_pace import paces_of
from bot.pacing.window_status import PaceSnapshot, stand
from bot.read_models.limits import LimitsModel
from bot.read_models.provenance import Provenance
from bot.spending import budget_view, pace_view
from bot.spending.limit_lines import lines_of, with_precedence
from bot.spending.overruled_limits import decide
from budget import amounts
from egress.settings import LimitSettings
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY

NOW = BEGINS + 2 * DAY + 6 * HOUR
AGENTS = ("coder0", "coder1")
ALLOWANCES = ("host", "agent:coder0", "agent:coder1", "profile:none")
POOLS = ("host", "role:coder", "account:main", "provider:anthropic")


@st.composite
def limits(draw: st.DrawFn) -> list[HeldLimit]:
    """Limits of any kind, at most one for each scope, unit and window."""
    found: dict[tuple[str, str, str, str | None], HeldLimit] = {}
    for _ in range(draw(st.integers(0, 8))):
        kind: Any = draw(st.sampled_from(("pool", "allowance")))
        scope = draw(st.sampled_from(POOLS if kind == "pool" else ALLOWANCES))
        unit: Any = draw(st.sampled_from(("tokens", "usd")))
        window = draw(st.sampled_from((None, "day", "week", "5h")))
        found[kind, scope, unit, window] = HeldLimit(
            kind=kind,
            scope=scope,
            amount=draw(st.integers(1, 10**9)),
            unit=unit,
            window=window,
            policy=draw(st.sampled_from(("cutoff", "freeze"))),
            set_at=draw(st.sampled_from((0.0, 5.0))),
        )
    return list(found.values())


@st.composite
def spenders(draw: st.DrawFn) -> dict[str, Spender]:
    """Agents, some of which were launched with a budget of their own."""
    return {
        name: Spender(
            name=name,
            role="coder",
            launch_id=f"l-{name}",
            profiles=("none",),
            budget=draw(st.sampled_from((None, 1_000.0))),
            raised_at=draw(st.sampled_from((None, 3.0))),
        )
        for name in AGENTS
    }


def at_the_gate(held: list[HeldLimit], spending: dict[str, Spender], draw: Any) -> dict[str, Any]:
    """What the egress counts of each limit, for the agent coder0, which alone runs."""
    governs = {each.key: each for each in budgeted(held, spending)}
    rows = []
    for limit in held:
        agent = "coder0" if limit.kind == "allowance" else None
        key = f"{'agent:coder0' if agent else limit.scope}/{limit.unit}/{limit.window}"
        if limit.window is not None and (key not in governs or governs[key].limit != limit):
            continue
        rows.append(
            {
                "agent": agent, "kind": limit.kind, "scope": limit.scope, "account": None, "unit": limit.unit,
                "limit": limit.amount, "used": draw(st.integers(0, 2 * 10**9)), "reserved": draw(st.integers(0, 10**6)),
                "window": limit.window, "lift": 0, "policy": limit.policy,
            }
        )  # fmt: skip
    return {"limits": rows}


@given(limits(), spenders(), st.booleans(), st.data())
def test_the_same_number_stands_in_budget_in_pace_and_in_the_value(
    held: list[HeldLimit], spending: dict[str, Spender], answers: bool, data: st.DataObject
) -> None:
    facts = WindowInputs(now=NOW, held=held, spenders=spending)
    standing = at_the_gate(held, spending, data.draw) if answers else None
    snapshot = PaceSnapshot(now=NOW, policy=POLICY, standings=stand(facts, {}, POLICY).standings)
    snapshot = snapshot.seen_at_the_gate(standing)
    windows = paces_of(snapshot)
    paces = {each.key: each for each in windows}
    assert set(paces) == {each.key for each in windows_of(facts)}
    set_ = [
        LimitSettings(kind=each.kind, scope=each.scope, amount=each.amount, unit=each.unit, window=each.window,
                      policy=each.policy, set_at=each.set_at)
        for each in held if each.unit != "share"
    ]  # fmt: skip
    overruled = decide(held, spending.values())
    lines = with_precedence(lines_of([each.model_dump() for each in set_], standing, paces, {}, NOW), overruled)
    model = LimitsModel(
        at=NOW,
        lines=tuple(lines),
        windows=tuple(windows),
        overruled=tuple(overruled),
        counted=Provenance(source="egress" if answers else "none"),
    )
    paced = {each["window"]: each for each in pace_view.paces_json(model)["windows"]}
    rows = budget_view.budget_json(model)
    said, paces_said = budget_view.budget_text(model), pace_view.pace_text(model)
    for row, line in zip(rows, model.lines, strict=True):
        assert (row["used"], row["limit"], row["remaining"]) == (line.used, line.limit, line.remaining)
        if line.used is not None:
            assert amounts.amount(line.used, line.unit) in said
        window = model.pace_of(line)
        if window is not None:
            shown = paced[window.key]
            assert line.used is not None
            assert shown["used"] == window.used
            assert shown["limit"] == window.limit == line.limit
            assert line.used == (int(window.used or 0) if line.unit == "tokens" else window.used)
            assert row["pace"].items() <= shown.items()
    # Every limit is shown, and each that does not govern somebody is named with the one that does.
    shown_scopes = {(each.scope, each.unit, each.window) for each in model.lines}
    assert {("agent" if (each.kind, each.scope) == ("allowance", "host") else each.scope, each.unit, each.window)
            for each in held} <= shown_scopes  # fmt: skip
    for each in overruled:
        for text in (said, paces_said):
            assert f"does not hold for {', '.join(each.by.agents)}" in text
        (of,) = {
            line.governed_by
            for line in model.lines
            if (line.kind, line.scope, line.unit, line.window) == ("allowance", each.scope, each.unit, each.window)
        }
        assert each.by in of
        assert all(
            line.state == "overruled"
            for line in model.lines
            if each.by.everybody
            and (line.kind, line.scope, line.unit, line.window) == ("allowance", each.scope, each.unit, each.window)
        )
