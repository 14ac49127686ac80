"""An agent's requests through the whole of it: forwarded, metered, in the ledger before they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.egress.plane import anthropic, chat, plane, responses

if TYPE_CHECKING:
    from pathlib import Path

CALLS = [
    ("/anthropic/v1/messages", anthropic, "anthropic"),
    ("/openai/v1/responses", responses, "responses"),
    ("/openai/v1/chat/completions", chat, "chat"),
]


@pytest.mark.parametrize(("path", "ask", "api"), CALLS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_provider_bills_is_in_the_ledger(
    tmp_path: Path, path: str, ask: object, api: str, stream: bool
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        async with agent.post(path, json=ask("[[say: yes]]", stream=stream)) as response:  # type: ignore[operator]
            content = await response.read()
        assert response.status == 200, content
        assert b"yes" in content
        billed = (await made.provider.ledger.find(lambda _: True, at_least=1, timeout=5))[0]
        (entry,) = await made.entries(1)
        assert (entry.agent, entry.api, entry.ended, entry.reported) == ("coder0", api, "completed", True)
        assert entry.tokens.total == billed.usage.whole_input + billed.usage.output
        assert entry.status == 200
