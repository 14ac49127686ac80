"""Accounts are shown with what their providers reported, and with whether work can go on."""

from __future__ import annotations

from typing import Any

from bot.config.schema import Account
from bot.pacing.window_pace import paces_of
from bot.pacing.window_status import PaceSnapshot
from bot.read_models.limits import LimitsModel
from bot.spending.account_models import accounts_of
from bot.spending.accounts_view import accounts_json, accounts_text
from database.queries.spending.usage_ledger import QuotaRow
from tests.budget.windows.random_windows import BEGINS, DAY, POLICY, standing, week

NOW = BEGINS + DAY
ACCOUNTS = {name: Account.model_validate({"provider": "anthropic"}) for name in ("main", "idle")}


def row(account: str, **said: Any) -> QuotaRow:
    plain: dict[str, Any] = {
        "account": account, "window": "7d", "provider": "openai", "seen_at": NOW - 60, "used": 0.41, "amount": None,
        "remaining": None, "reset_at": NOW + DAY, "window_s": None, "status": "allowed",
    }  # fmt: skip
    return QuotaRow(**plain | said)


def model(*rows: QuotaRow, used: float = 0.41) -> LimitsModel:
    snapshot = PaceSnapshot(now=NOW, policy=POLICY, standings={"account:main/7d": standing(week(used))})
    paces = {each.key: each for each in paces_of(snapshot)}
    accounts = accounts_of(ACCOUNTS, rows, paces, {"main": "The credential is open."}, NOW)
    return LimitsModel(at=NOW, accounts=accounts, windows=tuple(paces.values()))


def test_accounts_of_the_settings_and_others_that_were_seen_are_shown() -> None:
    found = model(row("main"), row("gone", used=None, amount=200.0, remaining=50.0, reset_at=None))
    assert [(each.name, each.provider, each.kind) for each in found.accounts] == [
        ("gone", "openai", None), ("idle", "anthropic", "api_key"), ("main", "anthropic", "api_key"),
    ]  # fmt: skip
    text = accounts_text(found)
    assert "| gone | 7d | 75% | ? | allowed, 60 s ago |" in text
    assert "| main | 7d | 41% | in 24 h | allowed, 60 s ago |" in text
    assert "Quota unknown: the provider has not reported any yet for idle." in text
    assert text.endswith("⚠️ The credential is open.")
    shown = {each["account"]: each for each in accounts_json(found)}
    assert shown["main"]["windows"][0]["used"] == 0.41
    assert shown["main"]["warning"] == "The credential is open."
    assert "warning" not in shown["idle"]


def test_the_state_of_an_account_follows_its_current_windows() -> None:
    def state(*rows: QuotaRow, used: float = 0.41) -> str | None:
        return {each.name: each.state for each in model(*rows, used=used).accounts}["main"]

    assert state() is None
    assert state(row("main")) == "open"
    assert state(row("main", status="rejected")) == "used up"
    assert state(row("main", status="rejected", reset_at=NOW - 1)) is None, "that window is over"
    assert state(row("main"), used=1.0) == "used up"


def test_without_accounts_it_says_so() -> None:
    assert "There are no accounts in muster.yaml" in accounts_text(LimitsModel(at=NOW))
    assert accounts_json(LimitsModel(at=NOW)) == []
