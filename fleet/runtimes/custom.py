"""Any program that speaks the Agent Client Protocol; its command line is in the roster."""

from __future__ import annotations

from fleet.runtimes.declaration import Answer, Asked, Runtime


def _answer(asked: Asked) -> Answer:
    return Answer(environment={asked.base_url_variable: asked.base_url, asked.key_variable: asked.key})


RUNTIME = Runtime(
    name="custom",
    title="an agent of your own",
    program="",
    providers=("anthropic", "openai"),
    answer=_answer,
)
