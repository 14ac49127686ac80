"""The name of a thread is written down once per change, so that it is said once."""

from __future__ import annotations

from core.crash_points import declare
from database.engine.store import Store
from database.queries.chat import thread_titles

STEP = declare("tests.titles")


async def test_each_change_has_its_number_and_a_name_that_stands_has_none(store: Store) -> None:
    async with store.write(STEP) as tx:
        assert await thread_titles.rename(tx, "th/1", "🟢 coder0", archived=False) == 1
        assert await thread_titles.rename(tx, "th/1", "🟢 coder0", archived=False) is None
        assert await thread_titles.rename(tx, "th/2", "🟢 coder1", archived=False) == 1
        assert await thread_titles.rename(tx, "th/1", "🟢 coder0", archived=True) == 2
        assert await thread_titles.rename(tx, "th/1", "🟢 coder0", archived=True, again=True) == 3
        assert await thread_titles.rename(tx, "th/1", "🟢 coder0", archived=False) == 4
    async with store.read() as tx:
        assert await thread_titles.every(tx) == {"th/1": ("🟢 coder0", False), "th/2": ("🟢 coder1", False)}
