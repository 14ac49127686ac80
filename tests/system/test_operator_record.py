"""The books notice what kill tests look for: what is missing, and what stands twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.sim.provider.server import Provider
from tests.operator_client import Operator, body
from tests.synapse import Synapse
from tests.system.kill_stages import staged
from tests.system.matrix_installation import KEY, replies_to
from tests.system.operator_record import Message

pytestmark = [pytest.mark.synapse, pytest.mark.slow]


async def test_the_books_notice_what_is_wrong(tmp_path: Path, synapse: Synapse, models: Provider) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        home, books = stage.home, stage.books
        await home.start()
        asked = await books.command("!ps")
        reply = await home.heard(lambda event: replies_to(event) == asked)
        said = await books.message(stage.thread)
        await books.done(said)
        await books.balance()

        answer = await home.heard(lambda event: body(event) == said.answer)
        async with Operator(home.bot) as bot:
            doubles = [await bot.send(home.room, event["content"]) for event in (reply, answer)]
            with pytest.raises(AssertionError) as found:
                await books.balance()
            assert "'!ps' has 2 replies" in str(found.value)
            assert f"{reply['content'][KEY]} stands 2 times" in str(found.value)
            assert f"{said.answer!r} stands 2 times" in str(found.value)
            for double in doubles:
                await bot.redact(home.room, double)
        await books.balance()

        # The same message under a word that no model ever saw, and a command of which the audit knows nothing.
        books.messages[0] = Message(said.event_id, "tok0x", None)
        books.commands[asked] = "!launch nobody"
        with pytest.raises(AssertionError, match=r"the audit has [\s\S]*tok0x is said to be finished"):
            await books.balance()
        books.commands[asked], books.messages[0] = "!ps", replace(said)
