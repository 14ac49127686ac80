"""The fleet is gathered once, and what people and programs are told of it is the same."""

from __future__ import annotations

from dataclasses import replace

from bot.agents import fleet_loader
from bot.read_models.fleet import AgentGate, FleetModel
from bot.read_models.provenance import Provenance
from tests.bot.orchestrator import House


async def fleet(home: House) -> FleetModel:
    return await fleet_loader.load(home.orchestrator.services, drift=home.orchestrator.services.drift)


async def test_an_agent_is_the_same_value_until_something_happens_to_it(home: House) -> None:
    async with home.open():
        await home.launch("coder0")
        await home.heard_from("coder0")
        before = await fleet(home)
        (coder0,) = before.agents
        assert (coder0.state, coder0.seen.source, coder0.gate) == ("idle", "protocol", AgentGate())
        assert coder0.unconfined
        after = await fleet(home)
        assert [replace(each, seen=Provenance()) for each in after.agents] == [replace(coder0, seen=Provenance())]
        assert await fleet_loader.load_agent(home.orchestrator.services, "coder0", briefly=True) == replace(
            after.agents[0], gate=None, tokens_today=None, drift=None
        )


async def test_a_closed_gate_says_by_whom_and_since_when(home: House) -> None:
    async with home.open() as orchestrator:
        await home.launch("coder0")
        begun = home.clock()
        await home.ask("!cutoff coder0")
        (cut,) = (await fleet(home)).agents
        assert cut.gate is not None
        (closure,) = cut.gate.closures
        assert (closure.kind, closure.by) == ("cut_off", "memory:@ana")
        assert closure.at is not None
        assert closure.at >= begun
        await home.ask("!estop")
        model = await fleet(home)
        (both,) = model.agents
        assert both.gate is not None
        assert [each.kind for each in both.gate.closures] == ["estop", "cut_off"]
        assert model.estop == both.gate.closures[0]
        assert model.estop is not None
        assert model.estop.by == "memory:@ana"
        assert (await fleet_loader.load_agent(orchestrator.services, "coder0")).gate == both.gate
