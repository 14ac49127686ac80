"""The register does not grow for ever, and what it lets go is never needed again."""

from __future__ import annotations

import pytest

from connectors.contract.messages import (
    Batch,
    Inbound,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    React,
    Replace,
    Sent,
    Text,
)
from connectors.delivery import inbox, outbox, retention
from connectors.delivery.retention import Horizon, Swept, sweep
from core.crash_points import declare
from database.engine.store import Store

STEP = declare("test.retention")
DAY = 86400.0
NOW = 1000 * DAY


def event(name: str) -> Inbound:
    body = Text(text="hello")
    return Inbound(connector="memory", event_id=name, conversation="room", sender="@ana", sent_at=1.0, body=body)


async def arrive(store: Store, *names: str, handled_at: float | None) -> None:
    async with store.write(STEP) as tx:
        await inbox.accept(tx, "memory", Batch(events=tuple(map(event, names)), cursor=None), NOW)
        if handled_at is not None:
            for row in await inbox.unhandled(tx, after=0, limit=10_000):
                await inbox.finish(tx, row.seq, handled_at)


async def say(store: Store, key: str, content: OutboundContent, *, at: float, end: str = "sent") -> None:
    async with store.write(STEP) as tx:
        await outbox.put(tx, Outbound(key=key, connector="memory", conversation="room", content=content), at)
        made = "thread" if isinstance(content, OpenThread) else None
        if end == "sent":
            await outbox.mark_sent(tx, {key: Sent(event_id=f"${key}", conversation=made)}, at)
        elif end == "dead":
            await outbox.close(tx, [key], "dead", "refused")


async def keys(store: Store) -> set[str]:
    async with store.read() as tx:
        return set((await tx.exec_driver_sql("SELECT key FROM outbox")).scalars())


async def test_old_events_lose_their_text_and_keep_their_key(store: Store) -> None:
    await arrive(store, "old", handled_at=NOW - 31 * DAY)
    await arrive(store, "young", handled_at=NOW - 29 * DAY)
    await arrive(store, "waiting", handled_at=None)
    assert await sweep(store, NOW) == Swept(bodies=1, keys=0, sent=0)
    async with store.read() as tx:
        assert await inbox.find(tx, "memory", "old") is None
        assert await inbox.find(tx, "memory", "young") is not None
        assert await inbox.find(tx, "memory", "waiting") is not None
    await arrive(store, "old", handled_at=None)
    async with store.read() as tx:
        assert await inbox.waiting(tx) == 1


async def test_keys_go_when_no_backfill_reaches_them(store: Store) -> None:
    await arrive(store, "ancient", handled_at=NOW - 401 * DAY)
    await arrive(store, "old", handled_at=NOW - 399 * DAY)
    assert (await sweep(store, NOW)).keys == 1


async def test_what_was_said_goes_but_threads_and_what_is_still_pointed_at_stay(store: Store) -> None:
    old, young = NOW - 91 * DAY, NOW - DAY
    text = Message(text="x")
    await say(store, "old", text, at=old)
    await say(store, "thread", OpenThread(title="coder0", message=text), at=old)
    await say(store, "watched", text, at=old)
    await say(store, "change", Replace(target="watched", message=text), at=young)
    await say(store, "liked", text, at=old)
    await say(store, "like", React(target="liked", key="+1", own=True), at=old)
    await say(store, "dead", text, at=old, end="dead")
    await say(store, "waiting", text, at=old, end="pending")
    await say(store, "young", text, at=young)
    assert (await sweep(store, NOW)).sent == 3
    assert await keys(store) == {"thread", "watched", "change", "liked", "waiting", "young"}
    assert (await sweep(store, NOW)).sent == 1
    assert "liked" not in await keys(store)


async def test_the_place_of_the_last_row_is_never_given_twice(store: Store) -> None:
    await say(store, "last", Message(text="x"), at=0.0)
    await arrive(store, "last", handled_at=0.0)
    await sweep(store, NOW)
    assert await keys(store) == {"last"}


async def test_a_large_backlog_goes_in_small_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    real = Store.write

    def counted(self: Store, step: object) -> object:
        nonlocal steps
        steps += step == retention.SWEEP
        return real(self, step)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", counted)
    await arrive(store, *(f"${number}" for number in range(1200)), handled_at=NOW - 31 * DAY)
    assert await sweep(store, NOW, Horizon()) == Swept(bodies=1200, keys=0, sent=0)
    assert steps == 3 + 1 + 1
