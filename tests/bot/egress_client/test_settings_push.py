"""Which limits hold: the files', unless a command set others for the scope."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.config import loader
from bot.config.paths import Paths
from bot.config.schema import Settings
from bot.egress_client.settings_push import egress_settings, limits_of, secrets_of, understood
from budget.windows import window_boundaries
from database.queries.spending.limits_by_command import BudgetRow
from egress.settings import LimitSettings

FILE = """\
accounts:
  main: {provider: anthropic, credential: env:KEY}
  local: {provider: openai, base_url: "http://localhost:8000/v1"}
budgets:
  agent: {tokens: 2M, window: day}
  agents: {coder0: {tokens: 1M}}
  host: {usd: 300, window: month}
sandboxes:
  docs: {allowance: {tokens: 3M}, pool: {tokens: 9M, window: week, policy: freeze}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.muster_yaml.write_text(FILE)
    return loader.load(paths)


def given(scope: str, amount: float, *, unit: str = "tokens", window: str = "day") -> BudgetRow:
    return BudgetRow(
        scope=scope, unit=unit, window=window, amount=amount, policy="cutoff", set_by="memory:@ana", set_at=0.0
    )


def told(limits: tuple[LimitSettings, ...]) -> set[tuple[str, str, float, str | None]]:
    return {(each.kind, each.scope, each.amount, each.window) for each in limits}


def test_the_files_limits_hold(settings: Settings) -> None:
    assert told(limits_of(settings, {"coder0": 7, "coder1": 8}, [])) == {
        ("allowance", "host", 2e6, "day"),
        ("allowance", "agent:coder0", 1e6, None),
        ("allowance", "agent:coder1", 8, None),
        ("allowance", "profile:docs", 3e6, None),
        ("pool", "profile:docs", 9e6, "week"),
        ("pool", "host", 300, "month"),
    }


def test_what_a_command_set_goes_before_all_that_the_files_say_of_the_scope(settings: Settings) -> None:
    rows = [given("agent", 5, window=""), given("agent:coder1", 6), given("host", 7), given("host", 8, unit="usd")]
    assert told(limits_of(settings, {"coder1": 8}, rows)) == {
        ("allowance", "host", 5, None),
        ("allowance", "agent:coder0", 1e6, None),
        ("allowance", "agent:coder1", 6, "day"),
        ("allowance", "profile:docs", 3e6, None),
        ("pool", "profile:docs", 9e6, "week"),
        ("pool", "host", 7, "day"),
        ("pool", "host", 8, "day"),
    }


def test_settings_name_credentials_and_hold_none(settings: Settings) -> None:
    made = egress_settings(settings, (), host="here")
    assert [(each.name, each.upstream, each.credential) for each in made.accounts] == [
        ("main", "https://api.anthropic.com", "env:KEY"),
        ("local", "http://localhost:8000", None),
    ]
    assert secrets_of(settings, {"KEY": " s3cret\n", "OTHER": "x"}) == {"env:KEY": "s3cret"}
    assert secrets_of(settings, {}) == {}


def test_other_settings_have_another_revision(settings: Settings) -> None:
    one = egress_settings(settings, (), host="here").revision
    assert one
    assert egress_settings(settings, (), host="here").revision == one
    assert egress_settings(settings, limits_of(settings, {}, []), host="here").revision != one


def test_an_egress_that_knows_no_pools_of_roles_is_told_of_all_other_limits() -> None:
    limits = [
        LimitSettings(kind="pool", scope="role:coder", amount=5.0, window="day"),
        LimitSettings(kind="pool", scope="host", amount=5.0, window="day"),
        LimitSettings(
            kind="allowance", scope="agent:coder0", amount=5.0, window=window_boundaries.from_moment(5.0, 18_000)
        ),
    ]
    assert understood(limits, {"pid": 5}) == (limits[1],)
    assert understood(limits, {"understands": ["roles"]}) == tuple(limits)
