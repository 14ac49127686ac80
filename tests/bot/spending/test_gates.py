"""What the egress says of its agents, as reasons why their requests are not admitted."""

from __future__ import annotations

from typing import Any

from bot.read_models.fleet import AgentGate, GateClosure
from bot.spending.gates import FleetGates, closures


def denial(agent: str, action: str = "cutoff", *, id: str = "r1", cause: str = "", by: str = "ana") -> dict[str, Any]:
    return {"agent": agent, "action": action, "cause": cause, "by": by, "id": id, "at": 7.0}


def standing(*denials: dict[str, Any], **governing: list[int]) -> dict[str, Any]:
    limits = [
        {"kind": "allowance", "scope": "agent:coder1", "state": "spent"},
        {"kind": "pool", "scope": "host", "state": "open"},
    ]
    agents = {name: {"governing": places, "denied": None} for name, places in governing.items()}
    return {"limits": limits, "agents": agents, "denials": list(denials), "estop": False}


def test_each_closed_gate_has_its_reasons() -> None:
    told = standing(
        denial("coder0", cause="it went wild"),
        denial("coder1"),
        denial("coder2", id="runaway/q1", by="muster"),
        denial("coder3", id="runaway/q0", by="muster"),
        denial("coder4", id="ending/kill/r2", cause="to kill it"),
        denial("coder5", "freeze", cause="a limit"),
        coder1=[0, 1],
        coder6=[1],
    )
    cut = GateClosure(kind="cut_off", by="ana", at=7.0)
    assert closures(told, {"q1"}) == {
        "coder0": (GateClosure(kind="cut_off", by="ana", at=7.0, why="it went wild"),),
        "coder1": (cut, GateClosure(kind="used_up", limits=("agent:coder1",))),
        "coder2": (GateClosure(kind="paused", by="muster", at=7.0, question="q1"),),
        # Nobody can answer that question any more, so only `restore` opens the gate.
        "coder3": (GateClosure(kind="cut_off", by="muster", at=7.0),),
        "coder4": (GateClosure(kind="ended", by="ana", at=7.0, why="to kill it"),),
        "coder5": (GateClosure(kind="ended", by="ana", at=7.0, why="a limit"),),
    }


def test_the_emergency_stop_comes_before_other_reasons() -> None:
    stop, cut = GateClosure(kind="estop", by="ana"), GateClosure(kind="cut_off", by="otto")
    gates = FleetGates(estop=stop, by_agent={"coder0": (cut,)})
    assert gates.of("coder0") == AgentGate(closures=(stop, cut))
    assert (gates.of("coder0").state, gates.of("coder1").state) == ("estop", "estop")
    assert gates.of("coder0").closed_by("cut_off") == cut
    assert FleetGates(estop=None, by_agent={}).of("coder0").state == "open"
