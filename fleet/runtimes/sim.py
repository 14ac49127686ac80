"""The built-in agent (`fleet.sim`)."""

from __future__ import annotations

import sys

from fleet.runtimes.declaration import Answer, Asked, Runtime


def _answer(asked: Asked) -> Answer:
    environment = {
        "MUSTER_SIM_API": "responses" if asked.provider == "openai" else "anthropic",
        "MUSTER_SIM_MODEL": asked.model,
        asked.base_url_variable: asked.base_url,
        asked.key_variable: asked.key,
    }
    return Answer(environment=environment)


RUNTIME = Runtime(
    name="sim",
    title="the built-in agent",
    program=sys.executable,
    arguments=("-P", "-m", "fleet.sim.agent"),
    install="It comes with Muster.",
    providers=("anthropic", "openai"),
    answer=_answer,
)
