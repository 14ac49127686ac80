"""What windows stand, how they are spread, and what of it the egress is told: from what was found at one moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.egress_client.settings_push import HeldLimit
from bot.pacing.egress_limits import enforced
from bot.pacing.window_inputs import Quota, Spender, UnderWay, UsedSince, WindowInputs, starts
from bot.pacing.window_status import Drawn, PaceSnapshot, stand
from budget.limits.scopes import amount_of
from budget.windows import window_boundaries
from budget.windows.even_spread_line import EvenSpreadLine, PacePolicy, line_at
from budget.windows.pace_admission import admissible
from budget.windows.provider_quota import WindowReading
from budget.windows.running_task_reserve import Reserve
from budget.windows.work_draw import WorkDraw
from database.queries.spending.pacing_windows import AuthorizationRow
from egress.settings import LimitSettings

POLICY = PacePolicy(zone=ZoneInfo("UTC"))
DAY, WEEK = 86_400.0, 7 * 86_400.0
#: A Monday at midnight, and the middle of that day.
MONDAY = 1_795_996_800.0
NOON = MONDAY + DAY / 2

CODER = Spender(name="coder0", role="coder", launch_id="l0", profiles=("strict", "base"))
OTHER = Spender(name="coder1", role="coder", launch_id="l1", profiles=("bubblewrap",))


def held(scope: str, amount: float, unit: Any = "tokens", window: str | None = "day", **others: Any) -> HeldLimit:
    kind: Any = others.pop("kind", "allowance" if scope.startswith("agent:") else "pool")
    return HeldLimit(kind=kind, scope=scope, amount=amount, unit=unit, window=window, policy="cutoff", **others)


def quota(used: float | None = 0.3, per_token: float | None = 1e-6, **others: Any) -> Quota:
    reading: dict[str, Any] = {
        "used": used,
        "used_at": NOON,
        "at_least": None,
        "begins_at": MONDAY - DAY,
        "resets_at": MONDAY - DAY + WEEK,
        "length_s": WEEK,
        "certainty": "provider",
    }
    return Quota(account="main", name="7d", reading=WindowReading(**reading | others), per_token=per_token)


def authorization(scope: str, amount: float, unit: str = "tokens", **others: Any) -> AuthorizationRow:
    given: dict[str, Any] = {"id": "a1", "granted_by": "ana", "granted_at": NOON - 60, "until": NOON + 3600}
    return AuthorizationRow(scope=scope, unit=unit, amount=amount, **given | others)


def facts(*limits: HeldLimit, used: float = 0.0, usd: float = 0.0, **others: Any) -> WindowInputs:
    spenders = {each.name: each for each in (CODER, OTHER)}
    quotas = others.pop("quotas", ())
    now = others.pop("now", NOON)
    counted = {start: UsedSince(tokens=used, usd=usd) for start in starts(limits, spenders, quotas, now)}
    return WindowInputs(now=now, held=limits, spenders=spenders, quotas=quotas, used=counted, **others)


def drawn_at(found: WindowInputs, at: float, used: float = 0.0) -> dict[str, EvenSpreadLine]:
    """The lines as they were drawn then, with so much used."""
    keys = stand(found, {}, POLICY).standings
    return {
        key: EvenSpreadLine(
            window=key,
            drawn_at=at,
            drawn_used=used,
            limit=each.window.known_limit,
            resets_at=each.window.resets_at,
            cause="first",
        )
        for key, each in keys.items()
    }


def only(drawn: Drawn) -> Any:
    (found,) = drawn.standings.values()
    return found


# --- which windows there are ------------------------------------------------------------------------------------


def test_a_pool_is_a_window_and_an_allowance_one_for_each_agent_that_it_governs() -> None:
    found = facts(
        held("host", 24e6),
        held("role:coder", 5.0, "usd", "month"),
        held("host", 1e6, kind="allowance"),
        held("agent:coder0", 3e6),
        held("agent:coder1", 9e6, window=None),
    )
    standings = stand(found, {}, POLICY).standings
    assert {key: each.window.known_limit for key, each in standings.items()} == {
        "host/tokens/day": 24e6,
        "role:coder/usd/month": 5.0,
        # Coder1's own is a launch's, of which the egress keeps count, and governs instead of the other.
        "agent:coder0/tokens/day": 3e6,
    }


def test_of_the_same_limit_twice_the_lower_one_holds() -> None:
    assert only(stand(facts(held("host", 5e6), held("host", 4e6)), {}, POLICY)).window.limit == 4e6


def test_all_of_an_accounts_window_is_no_limit_of_its_own() -> None:
    whole = held("account:main", 1.0, "share", "7d", of="main", reset_at=NOON + 5)
    assert list(stand(facts(whole, quotas=[quota()]), {}, POLICY).standings) == ["account:main/7d"]


def test_a_share_of_a_window_is_what_its_scope_used_of_it() -> None:
    found = facts(held("agent:coder0", 0.2, "share", "7d", of="main"), quotas=[quota()], used=50_000)
    share = stand(found, {}, POLICY).standings["agent:coder0/share/account:main/7d"].window
    assert share.used == pytest.approx(0.05)
    assert (share.limit, share.resets_at) == (0.2, MONDAY - DAY + WEEK)


@pytest.mark.parametrize(("used", "known"), [(0, 0.0), (50_000, None)])
def test_what_a_share_comes_to_is_unknown_until_it_was_learned_what_a_token_is(used: int, known: float | None) -> None:
    found = facts(held("role:coder", 0.2, "share", "7d", of="main"), quotas=[quota(per_token=None)], used=used)
    share = stand(found, {}, POLICY).standings["role:coder/share/account:main/7d"]
    assert share.window.used == known


def test_work_counts_on_its_own_windows_alone() -> None:
    limits = [held("host", 1e6), held("role:coder", 1e6), held("agent:coder1", 1e6), held("profile:base", 1e6)]
    limits += [held("account:spare", 1e6), held("provider:anthropic", 1e6)]
    limits += [held("agent:coder0", 0.1, "share", "7d", of="main")]
    found = facts(*limits, quotas=[quota()])
    snapshot = PaceSnapshot(now=NOON, policy=POLICY, standings=stand(found, {}, POLICY).standings)

    def keys(**draw: Any) -> set[str]:
        return {each.window.key for each in snapshot.for_draw(WorkDraw(**draw))}

    whole = {"agent": "coder0", "role": "coder", "profiles": ("strict", "base"), "provider": "anthropic"}
    assert keys(**whole, account="main") == {
        "host/tokens/day",
        "role:coder/tokens/day",
        "profile:base/tokens/day",
        "provider:anthropic/tokens/day",
        "account:main/7d",
        "agent:coder0/share/account:main/7d",
    }
    # The share is of one account, and on another it bounds nothing.
    assert "agent:coder0/share/account:main/7d" not in keys(**whole, account="spare")
    assert keys(role="coder") == {"host/tokens/day", "role:coder/tokens/day"}
    assert keys(host=False) == set()


def test_a_window_of_a_family_of_models_counts_for_these_alone() -> None:
    found = facts(quotas=[quota(), Quota(account="main", name="7d_opus", reading=quota().reading, per_token=None)])
    snapshot = PaceSnapshot(now=NOON, policy=POLICY, standings=stand(found, {}, POLICY).standings)

    def keys(model: str | None) -> list[str]:
        return [each.window.key for each in snapshot.for_draw(WorkDraw(account="main", model=model))]

    assert keys("claude-opus-4-5") == keys(None) == ["account:main/7d", "account:main/7d_opus"]
    assert keys("claude-haiku-4-5") == ["account:main/7d"]


# --- lines ------------------------------------------------------------------------------------------------------


def test_a_line_runs_from_what_is_used_to_the_limit_at_the_end() -> None:
    drawn = stand(facts(held("host", 24e6), used=6e6, now=MONDAY + 6 * 3600), {}, POLICY)
    (line,) = drawn.fresh
    assert (line.cause, line.drawn_used, line.resets_at) == ("first", 6e6, MONDAY + DAY)
    assert line_at(line, MONDAY + 15 * 3600) == pytest.approx(15e6)


def test_without_a_spread_all_of_a_limit_may_be_used_at_any_time() -> None:
    found = facts(held("host", 24e6), used=6e6)
    drawn = stand(found, drawn_at(found, MONDAY), POLICY, spread=False)
    assert admissible(only(drawn), "low", NOON, POLICY) == 18e6


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_a_line_from_the_future_is_dropped_and_told_as_the_clocks_fault(hours: int) -> None:
    found = facts(held("host", 24e6), used=6e6)
    drawn = stand(found, drawn_at(found, NOON + hours * 3600, used=20e6), POLICY)
    (line,) = drawn.fresh
    assert [each.window for each in drawn.skewed] == ["host/tokens/day"]
    assert (line.drawn_at, line.drawn_used) == (NOON, 6e6)


def test_what_was_used_beyond_a_limit_is_not_given_again_when_the_clock_goes_back() -> None:
    rows = [authorization("host", 5e6)]
    lines = drawn_at(facts(held("host", 24e6)), NOON + 3600, used=24e6)
    found = facts(held("host", 24e6), used=28e6, authorizations=rows)
    drawn = stand(found, lines, POLICY)
    assert drawn.drawn == {"a1": pytest.approx(4e6)}
    (limit,) = enforced([HOST], found, drawn.standings, POLICY)
    assert limit.lift == pytest.approx(5e6)


def test_a_clock_that_jumps_a_year_ahead_draws_the_lines_of_the_windows_of_then() -> None:
    found = facts(held("host", 24e6), used=1e6, now=NOON + 365 * DAY)
    drawn = stand(found, drawn_at(facts(held("host", 24e6)), MONDAY), POLICY)
    (line,) = drawn.fresh
    assert line.cause == "reset"
    assert line.drawn_at < (line.resets_at or 0) <= line.drawn_at + DAY


def test_the_line_of_a_window_that_is_no_more_is_forgotten() -> None:
    gone = drawn_at(facts(held("host", 24e6)), MONDAY)
    assert stand(facts(held("host", 300, "usd")), gone, POLICY).gone == ("host/tokens/day",)


def test_what_live_tasks_may_still_use_is_reserved_where_they_draw() -> None:
    task = UnderWay(
        agent="coder0",
        role="coder",
        model=None,
        account="main",
        provider="anthropic",
        tokens=Reserve(projected=2e5, high=4e5),
        usd=Reserve(projected=0.7, high=1.0),
    )
    limits = [held("host", 24e6), held("role:coder", 9, "usd"), held("agent:coder1", 1e6)]
    standings = stand(facts(*limits, quotas=[quota()], under_way=[task]), {}, POLICY).standings
    assert {key: (each.reserved, each.under_way) for key, each in standings.items()} == {
        "host/tokens/day": (2e5, 1),
        "role:coder/usd/day": (0.7, 1),
        "agent:coder1/tokens/day": (0, 0),
        "account:main/7d": (pytest.approx(0.2), 1),
    }


# --- authorizations ---------------------------------------------------------------------------------------------


def test_what_is_authorized_holds_for_its_scope_while_it_lasts() -> None:
    limits = [held("host", 24e6), held("role:coder", 1e6)]
    for until, counts in ((NOON + 60, 1), (NOON, 0)):
        rows = [authorization("host", 2e6, until=until)]
        standings = stand(facts(*limits, authorizations=rows), {}, POLICY).standings
        assert [len(each.authorizations) for each in standings.values()] == [counts, 0]


def test_an_authorization_is_used_up_once_though_several_windows_count_it() -> None:
    limits = [held("host", 24e6), held("host", 168e6, window="week")]
    found = facts(*limits, used=14e6, authorizations=[authorization("host", 2e6, granted_at=MONDAY)])
    lines = drawn_at(found, MONDAY)
    first = stand(found, lines, POLICY)
    # A day's line allows 12M by noon and a burst; the week's, which began with the day, 12M and a larger burst.
    assert 1e6 < first.drawn["a1"] <= 2e6
    again = {line.window: line for line in first.fresh}
    assert set(again) == {"host/tokens/day", "host/tokens/week"}
    later = facts(
        *limits, used=14e6, authorizations=[authorization("host", 2e6, granted_at=MONDAY, drawn=first.drawn["a1"])]
    )
    second = stand(later, lines | again, POLICY)
    assert second.drawn == {}, "nothing was spent since"


def test_what_was_beyond_the_line_when_it_was_granted_is_not_taken_from_it() -> None:
    found = facts(held("host", 24e6), used=20e6, authorizations=[authorization("host", 2e6)])
    drawn = stand(found, drawn_at(found, MONDAY), POLICY)
    assert (drawn.drawn, drawn.used_up) == ({}, ())
    (now_at,) = drawn.standings.values()
    assert 2e6 <= admissible(now_at, "normal", NOON, POLICY) < 2.5e6
    # From then on it is used up by what is spent.
    lines = {line.window: line for line in drawn.fresh}
    later = stand(replace(found, used={start: UsedSince(tokens=21.5e6) for start in found.used}), lines, POLICY)
    assert 1e6 < later.drawn["a1"] <= 1.5e6


def test_of_one_that_is_used_up_nothing_is_left() -> None:
    found = facts(held("host", 24e6), used=20e6, authorizations=[authorization("host", 2e6, granted_at=MONDAY)])
    drawn = stand(found, drawn_at(found, MONDAY), POLICY)
    assert drawn.used_up == ("a1",)
    assert drawn.drawn["a1"] == pytest.approx(2e6)


# --- the egress -------------------------------------------------------------------------------------------------


def told(found: WindowInputs, *limits: LimitSettings, at: float = MONDAY, used: float = 0.0) -> list[LimitSettings]:
    drawn = stand(found, drawn_at(found, at, used), POLICY)
    return list(enforced(limits, found, drawn.standings, POLICY))


HOST = LimitSettings(kind="pool", scope="host", amount=24e6, window="day")
EACH = LimitSettings(kind="allowance", scope="host", amount=24e6, window="day")


def test_the_egress_lifts_a_limit_by_what_is_left_of_an_authorization_and_no_longer_than_its_window() -> None:
    for until, ends in ((NOON + 3600, NOON + 3600), (NOON + 30 * DAY, MONDAY + DAY)):
        leave = authorization("host", 15e6, granted_at=MONDAY, until=until)
        found = facts(held("host", 24e6), used=24e6, authorizations=[leave])
        (limit,) = told(found, HOST)
        # By noon 12M and the burst were paced; what was used beyond them is used up of the 15M, and is not given again.
        assert limit.amount == 24e6
        assert 3e6 <= limit.lift <= 3.4e6
        assert limit.lift_until == ends


def test_a_limit_is_not_lifted_while_less_is_used_than_the_authorization_leaves_of_it() -> None:
    found = facts(held("host", 24e6), used=12e6, authorizations=[authorization("host", 2e6)])
    assert told(found, HOST) == [HOST]


def test_an_agents_authorization_lifts_its_own_allowance_and_nobody_elses() -> None:
    found = facts(held("host", 24e6, kind="allowance"), used=24e6, authorizations=[authorization("agent:coder0", 20e6)])
    each, own = told(found, EACH)
    assert each == EACH
    assert (own.scope, own.amount) == ("agent:coder0", 24e6)
    assert own.lift > 0


def test_the_egress_keeps_a_share_in_tokens_once_it_is_known_what_a_token_is() -> None:
    share = held("agent:coder0", 0.2, "share", "7d", of="main")
    (limit,) = told(facts(share, quotas=[quota()]))
    assert (limit.kind, limit.scope, limit.account) == ("allowance", "agent:coder0", "main")
    assert limit.amount == pytest.approx(200_000)
    assert window_boundaries.start_of(limit.window, NOON) == MONDAY - DAY
    assert window_boundaries.end_of(limit.window, NOON) == MONDAY - DAY + WEEK
    assert told(facts(share, quotas=[quota(per_token=None)])) == []


def test_of_a_share_of_an_account_what_others_used_of_it_counts() -> None:
    share = held("account:main", 0.8, "share", "7d", of="main")
    (limit,) = told(facts(share, quotas=[quota(used=0.5)], used=100_000))
    # 10 percent went through here and 40 elsewhere: 30 are left.
    assert limit.amount == pytest.approx(400_000)


def test_nothing_lifts_a_providers_quota() -> None:
    share = held("account:main", 0.4, "share", "7d", of="main")
    rows = [authorization("account:main", 0.5, "share")]
    (limit,) = told(facts(share, quotas=[quota(used=0.5)], used=100_000, authorizations=rows))
    assert limit.lift == 0


def test_without_a_spread_an_authorization_is_used_up_beyond_the_limit_and_not_given_again() -> None:
    rows = [authorization("host", 5e6, until=NOON + 5 * DAY)]
    limit = held("host", 24e6)

    def flat(found: WindowInputs, lines: dict[str, EvenSpreadLine]) -> Drawn:
        return stand(found, lines, POLICY, spread=False)

    before = flat(facts(limit, used=23e6, authorizations=rows), {})
    assert before.drawn == {}, "what is used within the limit uses nothing up"
    lines = {line.window: line for line in before.fresh}
    over = flat(facts(limit, used=27e6, authorizations=rows), lines)
    assert over.drawn["a1"] == pytest.approx(3e6)
    lines = {line.window: line for line in over.fresh}
    left = [authorization("host", 5e6, until=NOON + 5 * DAY, drawn=over.drawn["a1"])]
    found = facts(limit, used=27e6, authorizations=left)
    (told_,) = enforced([HOST], found, flat(found, lines).standings, POLICY)
    assert told_.lift == pytest.approx(5e6), "2M more than what was used"
    found = facts(limit, used=24e6, authorizations=left, now=NOON + DAY)
    (told_,) = enforced([HOST], found, flat(found, lines).standings, POLICY)
    assert told_.lift == pytest.approx(2e6)


def test_a_spread_that_is_switched_on_draws_the_lines_anew() -> None:
    found = facts(held("host", 24e6), used=6e6)
    off = {line.window: line for line in stand(found, {}, POLICY, spread=False).fresh}
    (line,) = stand(found, off, POLICY).fresh
    assert line_at(line, NOON) == 6e6


@pytest.mark.parametrize(("unit", "amount", "drawn"), [("tokens", 1000.0, 999.33), ("usd", 5.0, 5 - 3e-10)])
def test_a_lift_of_less_than_can_be_counted_is_none(unit: Any, amount: float, drawn: float) -> None:
    row = authorization("host", amount, unit, drawn=drawn)
    found = facts(held("host", 24e6, unit), used=24e6, usd=24e6, authorizations=[row])
    (limit,) = told(found, HOST.model_copy(update={"unit": unit}), at=NOON, used=24e6)
    assert limit.lift == 0


@pytest.mark.parametrize("others", [{"per_token": 1e-17}, {"length_s": 390 * DAY, "begins_at": MONDAY - 300 * DAY}])
def test_whatever_a_provider_says_of_its_windows_the_egress_can_hold_the_limits(others: dict[str, Any]) -> None:
    share = held("agent:coder0", 0.2, "share", "7d", of="main")
    if "length_s" in others:
        others |= {"resets_at": MONDAY + 90 * DAY}
    for limit in told(facts(share, held("host", 24e6), quotas=[quota(**others)]), HOST):
        window_boundaries.check(limit.window)
        assert amount_of(limit.amount, "tokens") > 0
