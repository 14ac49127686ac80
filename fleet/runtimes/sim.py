"""The built-in agent (`fleet.sim`)."""

from __future__ import annotations

import sys

from fleet.runtimes.declaration import Runtime, RuntimeNeeds, RuntimeRequest


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
    environment = {
        "MUSTER_SIM_API": "responses" if asked.provider == "openai" else "anthropic",
        "MUSTER_SIM_MODEL": asked.model,
        asked.base_url_variable: asked.base_url,
        asked.key_variable: asked.key,
    }
    return RuntimeNeeds(environment=environment, terminal=("-P", "-m", "fleet.sim.agent", "--resume", "{session}"))


RUNTIME = Runtime(
    name="sim",
    title="the built-in agent",
    program=sys.executable,
    arguments=("-P", "-m", "fleet.sim.agent"),
    install="It comes with Muster.",
    providers=("anthropic", "openai"),
    answer=_answer,
    terminal=True,
)
