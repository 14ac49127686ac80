"""What was observed while the clock was set wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.config.accounts import Account
from database.engine.store import Store
from database.queries.spending import quota_history
from tests.bot.pacing.test_kept import DAY, NOON, STEP, pace, spend


@pytest.mark.parametrize("ahead", [None, 365 * DAY])
async def test_what_was_observed_before_the_clock_went_back_hides_nothing_that_was_used_since(
    tmp_path: Path, ahead: float | None
) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    kept = pace(store)
    account = Account.model_validate({"provider": "anthropic", "kind": "subscription", "windows": ["7d"]})
    settings: Any = kept.services.settings
    settings.accounts = {"main": account}
    plain: dict[str, Any] = {
        "account": "main", "window": "7d", "provider": "anthropic", "used": 0.3, "amount": None, "remaining": None,
        "reset_at": NOON + 3 * DAY, "window_s": 7 * DAY, "status": "allowed",
    }  # fmt: skip
    seen = [NOON - 3600, *([] if ahead is None else [NOON + ahead])]
    try:
        async with store.write(STEP) as tx:
            for at in seen:
                await quota_history.record(tx, plain | {"seen_at": at}, lambda _: 0.0)
        await spend(store, 1, 2_000_000, NOON - 60)
        quota = (await kept.snapshot()).standings["account:main/7d"]
    finally:
        await store.close()
    # What that is of the window is not known yet.
    assert quota.window.known_use is None
