"""Within Discord's limits: what grows adapts to them, and nothing waits for a limit that is not its own."""

from __future__ import annotations

from functools import partial

from connectors.contract.messages import Message, OpenThread, Priority, Replace
from tests.connectors.discord.conftest import Desk


def texts(desk: Desk) -> list[str]:
    (thread,) = desk.world.threads()
    return desk.world.texts(thread)


def stands(desk: Desk, end: str) -> bool:
    return any(text.endswith(end) for text in texts(desk))


async def test_what_grows_side_by_side_in_one_thread_asks_for_no_more_than_its_channel_has(desk: Desk) -> None:
    """Three messages of one thread, each changed again and again; the channel takes two changes in 0.4 seconds."""
    desk.world.limits.kinds["change_message"] = (2, 0.4)
    keys = ("said", "did", "asked")
    async with desk.open():
        await desk.office.put("open", OpenThread(title="t", message=Message(text="t")), to=desk.room)
        for key in keys:
            await desk.office.put(key, thread_of="open")
            await desk.office.until_state(key, "sent")
        for number in range(4):
            for key in keys:
                content = Replace(target=key, message=Message(text=f"{key} {number}"), final=number == 3)
                await desk.office.put(f"{key}/{number}", content, thread_of="open", priority=Priority.FINAL)
            # One of them at least is said before the next is wanted.
            await desk.world.until(partial(stands, desk, f" {number}"))
        for key in keys:
            await desk.office.until_state(f"{key}/3", "sent")
    assert texts(desk) == ["said 3", "did 3", "asked 3"]
    # Of a bucket that nobody knows yet, more may be asked at once than it has.
    assert len(desk.world.limits.refused) <= 1


async def test_a_used_up_channel_keeps_no_other_waiting(desk: Desk) -> None:
    desk.world.limits.kinds["post"] = (1, 1.5)
    async with desk.open():
        await desk.office.put("one", to=desk.room)
        await desk.office.until_state("one", "sent")
        await desk.office.put("two", to=desk.room)
        direct = desk.world.direct(desk.world.ana)
        await desk.office.put("elsewhere", to=str(direct.id))
        await desk.office.until_state("elsewhere", "sent")
        assert desk.world.texts() == ["one"]
        await desk.office.until_state("two", "sent")
    assert desk.world.limits.refused == []


async def test_showing_who_is_at_work_takes_nothing_from_what_is_said(desk: Desk) -> None:
    async with desk.open() as delivery:
        connector = delivery.connector("discord")
        assert connector is not None
        for _ in range(40):
            await connector.typing(desk.room, active=True)
    assert 0 < len(desk.world.typing) < 20


async def test_the_limit_of_everything_is_known_and_kept(desk: Desk) -> None:
    desk.world.limits.everything = (50, 1.0)
    async with desk.open():
        places = [str(desk.world.direct(desk.world.person(f"p{number}")).id) for number in range(90)]
        for place in places:
            await desk.office.put(f"to {place}", to=place)
        await desk.office.until_state(f"to {places[-1]}", "sent")
    assert desk.world.limits.refused == []
