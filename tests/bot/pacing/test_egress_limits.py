"""What the egress is told of how far work under way may be ahead, from what was found at one moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.config import loader
from bot.config.pacing import policy_of
from bot.config.paths import Paths
from bot.pacing.egress_limits import paces
from bot.pacing.window_inputs import Quota, WindowInputs
from bot.pacing.window_status import stand
from bot.text.errors import ConfigError
from budget.windows import window_boundaries
from budget.windows.pace_admission import ceiling
from egress.settings import EgressSettings, PaceSettings
from tests.bot.pacing.test_windows import DAY, MONDAY, NOON, POLICY, WEEK, authorization, drawn_at, facts, held, quota


def told(found: WindowInputs, at: float = MONDAY, used: float = 0.0, **policy: Any) -> list[PaceSettings]:
    rules = replace(POLICY, **policy)
    return list(paces(found, stand(found, drawn_at(found, at, used), rules).standings, rules))


def allowed(pace: PaceSettings, t: float) -> float:
    part = (t - pace.from_at) / (pace.until_at - pace.from_at)
    return pace.from_amount + (pace.until_amount - pace.from_amount) * part


def test_a_limit_is_told_with_its_line_a_day_or_a_fifth_ahead() -> None:
    now = MONDAY + 4 * 3600
    pool, own = told(facts(held("host", 24e6), held("agent:coder0", 70.0, "usd", "week"), now=now))
    assert (pool.counted_on, pool.unit, pool.window, pool.by_itself) == ("host", "tokens", "day", False)
    # By then 4M, 4.8M more of a fifth, and what is left of the burst.
    assert allowed(pool, now) == pytest.approx(9.4e6, rel=0.01)
    assert (own.counted_on, own.unit, own.window) == ("agent:coder0", "usd", "week")
    assert allowed(own, now) == pytest.approx(10 / 6 + 10 + 2.05, rel=0.01)


def test_each_agent_that_an_allowance_governs_has_its_own() -> None:
    found = told(facts(held("host", 24e6, kind="allowance"), held("agent:coder1", 1e6, window=None)))
    assert [each.counted_on for each in found] == ["agent:coder0"]


def test_what_is_used_meanwhile_tells_nothing_new() -> None:
    first, later = MONDAY + 3600, MONDAY + 2 * 3600
    assert told(facts(held("host", 24e6), used=1e6, now=first)) == told(facts(held("host", 24e6), used=9e6, now=later))
    # As nothing else does that would have it told again.
    share = held("account:main", 0.8, "share", "7d", of="main")
    seen = [told(facts(share, quotas=[quota(used=0.3 + step * 1e-6)], used=100_000.0 + step)) for step in range(2)]
    assert seen[0] == seen[1] != []


def test_what_is_authorized_is_told_with_its_end() -> None:
    found = facts(held("host", 24e6), authorizations=[authorization("host", 2e6)])
    (pace,) = told(found)
    assert (pace.lift, pace.lift_until) == (2e6, NOON + 3600)


def test_of_a_providers_window_it_is_told_in_tokens_that_go_through_here() -> None:
    (pace,) = told(facts(quotas=[quota(used=0.25)], used=100_000), at=MONDAY, used=0.2)
    assert (pace.counted_on, pace.unit, pace.by_itself) == ("account:main", "tokens", True)
    assert window_boundaries.start_of(pace.window, NOON) == MONDAY - DAY
    # 80 percent in six days, by noon of the first and a day ahead 40, and 3 * 5.5 / 7 of the burst: of it 25 are used.
    assert allowed(pace, NOON) == pytest.approx(100_000 + (0.2 + 0.2 + 0.03 * 5.5 / 7 - 0.25) * 1e6, abs=10_000)


def test_what_others_use_of_an_account_leaves_less() -> None:
    (pace,) = told(facts(quotas=[quota(used=0.6)], used=50_000), used=0.2)
    assert allowed(pace, NOON) < 0


def test_a_share_of_an_agent_is_told_as_far_as_it_is_of_that_account() -> None:
    share, own = told(facts(held("agent:coder0", 0.2, "share", "7d", of="main"), quotas=[quota()], used=5_000))
    assert (share.counted_on, share.by_itself, own.by_itself) == ("agent:coder0/account:main", False, True)
    assert share.until_amount == pytest.approx(200_000, rel=0.01)


@pytest.mark.parametrize(
    "found",
    [
        facts(quotas=[quota(per_token=None)]),
        facts(quotas=[quota(used=None)]),
        facts(quotas=[quota(certainty="unknown", resets_at=None, begins_at=None)]),
        facts(quotas=[Quota(account="main", name="7d_opus", reading=quota().reading, per_token=1e-6)]),
        facts(held("host", 24e6, window=None)),
    ],
)
def test_where_anything_of_it_is_unknown_nothing_is_told(found: WindowInputs) -> None:
    assert told(found) == []


def test_it_is_switched_off_by_the_settings() -> None:
    found = facts(held("host", 24e6), quotas=[quota()])
    assert len(told(found)) == 2
    assert told(found, overrun=None) == []
    drawn = stand(found, drawn_at(found, MONDAY), POLICY, spread=False)
    assert paces(found, drawn.standings, POLICY) == ()


@pytest.mark.parametrize(("written", "expected"), [("off", None), ("50%", 0.5), ("0%", 0.0), (None, 1.0)])
def test_how_far_that_may_be_stands_in_the_settings(
    tmp_path: Path, written: str | None, expected: float | None
) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.muster_yaml.write_text("{}" if written is None else f"pacing: {{overrun: {written}}}\n")
    settings = loader.load(paths)
    assert policy_of(settings.pacing, settings.timezone).overrun == expected


def test_what_is_no_share_of_a_day_is_told_with_what_is(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    for wrong in ("1.5", "200%", "no", "-3%"):
        paths.muster_yaml.write_text(f"pacing: {{overrun: {wrong}}}\n")
        with pytest.raises(ConfigError, match=r"pacing.overrun: .*expected a share from 0% to 100%, like 3%, or off"):
            loader.load(paths)


def test_it_is_never_lower_than_what_urgent_work_may_begin_within() -> None:
    for hour in range(0, 24, 5):
        found = facts(held("host", 24e6), quotas=[quota(used=0.3)], used=3e5, now=MONDAY + hour * 3600)
        standings = stand(found, drawn_at(found, MONDAY, 0.1), POLICY).standings
        for pace in paces(found, standings, POLICY):
            of = standings["account:main/7d" if pace.by_itself else "host/tokens/day"]
            per = of.window.per_token or 1.0
            begins = 3e5 + (ceiling(of, "high", found.now, POLICY) - of.window.least_use) / per
            assert found.now >= pace.until_at or allowed(pace, found.now) >= begins - 1


@pytest.mark.parametrize(
    "others", [{"per_token": 1e-300}, {"used": 1e-300, "per_token": 1e290}, {"length_s": WEEK * 90}]
)
def test_whatever_a_provider_says_of_its_windows_what_is_told_can_be_understood(others: dict[str, Any]) -> None:
    share = held("account:main", 0.2, "share", "7d", of="main")
    rows = [authorization("account:main", 0.5, "share"), authorization("host", 1e14, "usd")]
    found = told(facts(share, held("host", 1e-9, "usd"), quotas=[quota(**others)], authorizations=rows))
    settings = EgressSettings(host="here", paces=tuple(found))
    assert EgressSettings.model_validate_json(settings.model_dump_json()).paces == settings.paces
