"""Every view shows the same figures of a window: one situation goes through all of them, and random ones do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given

from bot.api_client import Client
from bot.pacing.window_pace import paces_of
from bot.pacing.window_status import PaceSnapshot
from bot.spending.budget_view import line_json, pace_json, rounded
from bot.spending.limit_lines import lines_of
from bot.spending.pace_view import window_json
from budget import amounts
from budget.windows.even_spread_line import LastSeen, PacePolicy
from budget.windows.pace_admission import Cost, Waits, WindowState, decide
from budget.windows.window_state import CountedLimit, PaceAuthorization, figures
from tests.bot.orchestrator import house
from tests.bot.pacing.fake_pace import paced
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, day, drawn, standing, week
from tests.budget.windows.test_pacing_properties import CLOCK, POLICIES, standings

NOW = BEGINS + 2 * DAY + 6 * HOUR
SEEN = LastSeen(at=NOW - 9 * HOUR, used=0.38, tokens_since=1.2e6)
LATER = {"begins_at": BEGINS + 2 * DAY, "resets_at": BEGINS + 3 * DAY}


def authorized(amount: float) -> PaceAuthorization:
    return PaceAuthorization(
        id="a1", scope="host", unit="tokens", amount=amount, granted_at=NOW - HOUR, until=NOW + DAY, drawn=0.0
    )


#: By what they are called: windows as they can stand.
SITUATIONS: Mapping[str, WindowState] = {
    "unknown": standing(week(None, last_seen=SEEN, at_least=0.41)),
    "never seen": standing(week(None), under_way=1, reserved=0.1),
    "zero": standing(day(0.0, **LATER), NOW),
    "over the limit": standing(day(53_680_000.0, **LATER), BEGINS + 2 * DAY),
    "just reset": standing(week(0.0, begins_at=NOW, resets_at=NOW + 7 * DAY), NOW),
    "authorized": replace(
        standing(day(400_000.0, **LATER), BEGINS + 2 * DAY), authorizations=[authorized(300_000.0)], reserved=90_000.0
    ),
    "an agent's": standing(
        day(20_000.0, key="agent:coder0/tokens/day", scope="agent:coder0", limit=30_000.0, **LATER), BEGINS + 2 * DAY
    ),
    "a share whose tokens are not known": standing(week(0.5, per_token=None), under_way=1),
}


async def test_one_situation_has_the_same_figures_in_every_view(tmp_path: Path) -> None:
    async with house(tmp_path, clock=lambda: NOW) as home, home.open():
        pace = paced(home)
        client = Client(home.paths.gateway_socket)

        async def asked(command: str, **given: Any) -> tuple[Any, str]:
            body = (await asyncio.to_thread(client.run, command, given)).body
            return body["data"]["windows"], body["text"]

        for name, held in SITUATIONS.items():
            pace.standings = {held.window.key: held}
            found = figures(held, NOW, POLICY)
            ((paced_,), said), ((reported,), report) = await asked("pace"), await asked("report", kind="budget")
            assert (paced_["used"], paced_["limit"]) == (found.used, found.limit), name
            assert (reported["used"], reported["limit"]) == (found.used, found.limit), name
            assert paced_["at_least"] == reported["at_least"] == rounded(found.at_least), name
            assert paced_["reserved"] == rounded(found.reserved), name
            assert (None if reported["even"] is None else round(reported["even"], 6)) == rounded(found.line), name
            if found.used is None:
                for text in (said, report):
                    assert not re.search(r"(?<![\d.,])0(?:%| tokens) used", text), f"{name}: unknown is not nothing"
            else:
                assert f"{amounts.amount(found.used, found.unit)}" in said, name
                assert f"| {amounts.percent(found.used / found.limit)} |" in report, name


@given(standings(), CLOCK, POLICIES)
def test_all_views_agree_in_random_situations(held: WindowState, now: float, policy: PacePolicy) -> None:
    key = held.window.key
    snapshot = PaceSnapshot(now=now, policy=policy, standings={key: held})
    (found,) = snapshot.every()
    (window,) = paces_of(snapshot)
    assert (window.used, window.limit, window.line, window.reserved, window.remaining, window.state) == (
        found.used, found.limit, found.line, found.reserved, found.remaining, found.state,
    )  # fmt: skip
    shown = window_json(window)
    assert shown["used"] == found.used
    assert pace_json(window).items() <= shown.items()
    for line in lines_of((), None, {key: window}, {}, now):
        row = line_json(line, window)
        assert (row["used"], row["limit"], row["state"]) == (rounded(found.used), found.limit, found.state)
        assert (row["remaining"], row["reserved"]) == (rounded(found.remaining), rounded(found.reserved))
        assert row["pace"] == pace_json(window)
    # What may be used now begins, and more waits.
    if found.used is None:
        assert (found.state, found.remaining, found.ahead, found.may_use_now) == (None,) * 4
    elif found.unit == "tokens" and found.may_use_now and found.limit < 1e12:
        more = Cost(tokens=found.may_use_now + 1 + 1e-6 * found.limit, high_tokens=0.0)
        assert isinstance(decide([held], more, "normal", now, policy), Waits)


def test_what_the_egress_counts_is_in_all_views_and_unknown_stays_unknown() -> None:
    held = standing(day(100_000.0), reserved=5_000.0)
    found = figures(held, BEGINS + HOUR, POLICY, CountedLimit(used=120_000.0, reserved=30_000.0))
    assert (found.used, found.reserved, found.remaining) == (120_000.0, 30_000.0, 850_000.0)
    behind = figures(held, BEGINS + HOUR, POLICY, CountedLimit(used=0.0, reserved=0.0))
    assert (behind.used, behind.reserved) == (100_000.0, 5_000.0)
    unknown = figures(standing(week(None)), BEGINS + HOUR, POLICY, CountedLimit(used=7.0, reserved=1.0))
    assert (unknown.used, unknown.at_least) == (None, None)
    assert figures(standing(week(0.2), line=drawn(week(0.0))), BEGINS, POLICY).used == 0.2
