"""What a record says after a real round is what the ledger, the register and the journal say."""

from __future__ import annotations

import hashlib
import json

from bot.issue_runs import run_record
from bot.issue_runs.run_record import GatheredRun, record_of
from bot.pacing.window_loader import weigh
from budget.tokens import Weights
from database.queries.agents import runs
from database.queries.chat.approvals import Approval
from database.queries.operations import audit_anchors
from database.queries.spending import usage_queries
from forge.provenance.rendering import render
from tests.bot.issue_runs.forge_house import RUN, ForgeHouse


async def test_the_record_of_a_round_agrees_with_the_ledger(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        await world.queue("[[commit: shop.py def price(): return 2]] [[say: enough]]")
        run = await world.settled()
        record = await run_record.current_record(orchestrator.services, run)
        async with orchestrator.store.read() as tx:
            work = await runs.get(tx, f"{RUN}-1")
            used = await usage_queries.used(tx, "agent:coder17", 0.0)
            audited = await audit_anchors.head_at(tx, world.home.clock())
    assert work is not None
    assert used.requests
    weights = Weights.of(orchestrator.services.settings.budgets.weights)
    assert record.tokens_actual == work.tokens == weigh(used, weights)
    assert record.models
    assert (record.turns, record.exit, record.runtime) == (1, "end_turn", "sim")
    assert record.runtime_version
    assert record.session
    assert record.tokens_projected
    assert record.routes
    assert record.routes[0].authentication == "api key"
    assert record.configuration is not None
    text = world.home.paths.muster_yaml.read_bytes()
    assert record.configuration.digest == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert record.configuration.version is None
    assert (record.audit is None) == (audited is None)
    ((item, _),) = world.pulls()
    assert record.session in item.remarks[0].body
    assert json.loads(json.dumps(record.as_json()))["turns"] == 1


def _approval(by: str, **answer: object) -> Approval:
    return Approval(
        id="a", agent="coder17", incarnation=1, session="s", request="r", digest="d", title="git push", detail="",
        options=[], state="answered", outbox_key="k", asked_at=1.0, expires_at=2.0, answer={"by": by, **answer},
    )  # fmt: skip


async def test_who_declared_a_finding_to_be_no_secret_stands_in_the_record(world: ForgeHouse) -> None:
    async with world.home.open():
        run = await world.queue("[[say: x]]")
    ana = "matrix:@ana:example.org"
    gathered = GatheredRun(
        run=run, round=2, work=None, agent=None, names={ana: "Ana"}, is_pushed=True, declared=[("c0ffee", ana)],
    )  # fmt: skip
    shown = render(record_of(gathered))
    assert "<td>secret scan</td><td>found</td>" in shown
    assert "<code>no secret: c0ffee</code> by <code>Ana</code>" in shown
    assert f"<td>run</td><td><code>{run.id}-2</code></td>" in shown, "`muster runs` takes this id"


async def test_an_approver_is_named_as_configured_or_by_a_neutral_word(world: ForgeHouse) -> None:
    async with world.home.open():
        run = await world.queue("[[say: x]]")
    known, stranger = "matrix:@ana:example.org", "matrix:@bob:example.org"
    gathered = GatheredRun(
        run=run, round=1, work=None, agent=None, names={known: "Ana"}, is_pushed=False,
        answered=[_approval(known, option="1"), _approval(stranger, option="1"), _approval("muster", option=None)],
    )  # fmt: skip
    record = record_of(gathered)
    assert [each.by for each in record.approvals] == ["Ana", "an operator", "Muster"]
    assert record.approvals[2].request == "git push (denied)"
    assert "example.org" not in render(record)
    # Nothing else is known, and nothing is invented.
    assert (record.turns, record.session, record.exit, record.tokens_projected, record.audit) == (None,) * 5
    assert record.models == ()
