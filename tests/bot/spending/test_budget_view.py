"""The table of `budget`: what is reserved has a column while anything is. And how far a limit was passed."""

from __future__ import annotations

from pathlib import Path

from bot.read_models.limits import LimitLine, LimitsModel
from bot.read_models.provenance import Provenance
from bot.spending import budget_view
from core.crash_points import declare
from database.queries.operations import audit_log
from egress.ledger.model import EXCESS
from tests.bot.orchestrator import house

WRITE = declare("tests.budget_view")


def limit(scope: str, *, reserved: float) -> LimitLine:
    return LimitLine(
        scope=scope,
        agent=None,
        kind="pool",
        limit=1_000_000.0,
        unit="tokens",
        used=200_000.0,
        reserved=reserved,
        remaining=800_000.0 - reserved,
        window="day",
        policy="cutoff",
        state="open",
    )


def counted(*lines: LimitLine) -> LimitsModel:
    return LimitsModel(at=0.0, lines=lines, counted=Provenance(source="egress"))


def test_what_is_reserved_has_a_column_where_something_is() -> None:
    idle, busy = limit("host", reserved=0), limit("role:coder", reserved=50_000)
    assert "reserved" not in budget_view.table(counted(idle))
    told = budget_view.table(counted(idle, busy))
    assert "| scope | limit | used | reserved | left | now | then |" in told
    assert "| role:coder | 1M tokens a day | 200k tokens | 50k tokens | 750k tokens |" in told


async def test_how_far_a_request_that_ran_alone_passed_a_limit_is_said(tmp_path: Path) -> None:
    async with house(tmp_path, settings="pacing: {spread: off}\n") as home, home.open():
        thread = await home.launch("coder0")
        await home.ask("!budget set agent:coder0 40k --window day")
        home.say("[[cache: 900000 0]] [[say: that was much]]", thread)
        await home.heard(thread, "🔴")
        assert "beyond its limit" not in await home.ask("!budget"), "its provider passed it by itself"
        now = home.orchestrator.services.clock()
        limit_ = {"kind": "allowance", "scope": "agent:coder0", "unit": "tokens", "window": "day"}
        async with home.orchestrator.store.write(WRITE) as tx:
            for number, other in enumerate(({"window": "week"}, {"scope": "host", "kind": "pool"}, {"agent": "b"}, {})):
                await audit_log.add(
                    tx,
                    key=f"egress/x/{number}",
                    at=now,
                    identity="egress",
                    door="egress",
                    action=EXCESS,
                    arguments={"agent": "coder0", **limit_, **other},
                    outcome="done",
                )
        shown = await home.ask("!budget")
        assert "`agent:coder0` is " in shown
        assert "beyond its limit: a request ran alone" in shown
