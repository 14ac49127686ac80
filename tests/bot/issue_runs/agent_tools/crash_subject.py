"""``python -m tests.bot.issue_runs.agent_tools.crash_subject REGISTER FORGE TOKEN FOLDER``: deals with one call."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from database.engine.store import Store
from database.queries.forge import issue_runs
from forge.runs.order_book import OrderBook
from tests.bot.issue_runs.agent_tools.desk import desk_at, link_to


async def _deal(register: str, url: str, token: str, folder: str) -> None:
    store = await Store.open(register)
    async with desk_at(store, link_to(url, token, "gitea", Path(folder))) as desk:
        async with store.read() as tx:
            run = await issue_runs.get(tx, "run-1")
        assert run is not None
        # The first call of this process has always the same id, as a call of a journal has.
        call = desk.ask(run, "post_comment", number=1, body="Once.")
        assert (await desk.answered(call)).ok
        # It stands there, so a round that orders it gets the same outcome.
        assert await OrderBook(store, desk.book.act, desk.book.clock).place(f"tool/{call.id}", run.id, "x") == "done"
    await store.close()


if __name__ == "__main__":
    asyncio.run(_deal(*sys.argv[1:]))
