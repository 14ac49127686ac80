"""Any program that speaks the Agent Client Protocol; its command line is in the roster."""

from __future__ import annotations

from fleet.runtimes.declaration import Runtime, RuntimeNeeds, RuntimeRequest


def _answer(asked: RuntimeRequest) -> RuntimeNeeds:
    return RuntimeNeeds(environment={asked.base_url_variable: asked.base_url, asked.key_variable: asked.key})


RUNTIME = Runtime(
    name="custom",
    title="an agent of your own",
    program="",
    providers=("anthropic", "openai"),
    answer=_answer,
)
