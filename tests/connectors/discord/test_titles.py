"""Names of threads on a fake Discord: given within its limit on renaming, and never in the way of what is said."""

from __future__ import annotations

from connectors.contract.messages import Message, OpenThread, Replace, Retitle
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import Place


async def opened(desk: Desk) -> Place:
    await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
    await desk.office.until_state("open", "sent")
    (thread,) = desk.world.threads()
    return thread


async def test_a_thread_is_renamed_put_away_and_got_back(desk: Desk) -> None:
    async with desk.open():
        thread = await opened(desk)
        await desk.office.put("n1", Retitle(title="🟢 coder0"), thread_of="open")
        await desk.office.until_state("n1", "sent")
        assert (thread.name, thread.archived) == ("🟢 coder0", False)
        desk.world.renames.clear()
        await desk.office.put("bye", Message(text="bye"), thread_of="open")
        await desk.office.put("n2", Retitle(title="⏹ coder0", archived=True), thread_of="open")
        await desk.office.until_state("n2", "sent")
        assert desk.world.texts(thread) == ["bye"]
        assert (thread.name, thread.archived) == ("⏹ coder0", True)
        await desk.office.put("ps", Message(text="ps"), thread_of="open")
        await desk.office.put("n2 again", Retitle(title="⏹ coder0", archived=True), thread_of="open")
        await desk.office.until_state("n2 again", "sent")
        assert (desk.world.texts(thread), thread.archived) == (["bye", "ps"], True)
        assert len(desk.world.renames) == 1, "the name that it has is not given again"
        desk.world.rename_window = 0.0
        await desk.office.put("n3", Retitle(title="🟢 coder0"), thread_of="open")
        await desk.office.until_state("n3", "sent")
        assert (thread.name, thread.archived) == ("🟢 coder0", False)
    assert desk.world.channel.name == "fleet"


async def test_a_thread_that_somebody_got_back_is_put_away_again_without_a_new_name(desk: Desk) -> None:
    async with desk.open():
        thread = await opened(desk)
        for key in ("n1", "n2"):
            await desk.office.put(key, Retitle(title="⏹ coder0", archived=True), thread_of="open")
            await desk.office.until_state(key, "sent")
            assert thread.archived
            said = desk.world.say("are you there?", place=thread)
            await desk.office.until_state(f"re {said}", "sent")
            assert not thread.archived
    assert len(desk.world.renames) == 1


async def test_beyond_the_limit_the_newest_name_waits_and_nothing_else_does(desk: Desk) -> None:
    desk.world.rename_window = 2.0
    async with desk.open():
        thread = await opened(desk)
        await desk.office.put("hello", thread_of="open")
        for name in ("one", "two"):
            await desk.office.put(name, Retitle(title=name), thread_of="open")
            await desk.office.until_state(name, "sent")
        await desk.office.put("three", Retitle(title="three"), thread_of="open")
        await desk.world.until(lambda: desk.world.wire.count(f"PATCH /channels/{thread.id}") == 3)
        thread.archived = True
        await desk.office.put("edit", Replace(target="hello", message=Message(text="hello!")), thread_of="open")
        await desk.office.put("four", Retitle(title="four"), thread_of="open")
        await desk.office.until_state("edit", "sent")
        assert (thread.name, thread.archived) == ("two", False)
        await desk.office.until_state("four", "sent")
    assert [name for _, name, _ in desk.world.renames] == ["one", "two", "four"]
    assert await desk.office.state("three") == "superseded"
    assert desk.world.wire.count(f"PATCH /channels/{thread.id}") <= 6, "who was told when does not ask before"


async def test_a_name_that_stands_is_not_given_again_but_what_others_changed_is(desk: Desk) -> None:
    async with desk.open():
        thread = await opened(desk)
        asked = f"PATCH /channels/{thread.id}"
        for key in ("n1", "n2"):
            await desk.office.put(key, Retitle(title="🟢 coder0"), thread_of="open")
            await desk.office.until_state(key, "sent")
        assert desk.world.wire.count(asked) == 1
        desk.world.rename(thread, "mine")
        said = desk.world.say("?")
        await desk.office.until_state(f"re {said}", "sent")
        await desk.office.put("n3", Retitle(title="🟢 coder0"), thread_of="open")
        await desk.office.until_state("n3", "sent")
    assert thread.name == "🟢 coder0"


async def test_only_threads_of_the_channel_are_renamed(desk: Desk) -> None:
    elsewhere = desk.world.add(Place(id=desk.world.fresh(), type=0, name="general"))
    async with desk.open():
        thread = await opened(desk)
        for key, place in (("room", desk.room), ("general", str(elsewhere.id)), ("gone", "1234567890")):
            await desk.office.put(key, Retitle(title="mine"), to=place)
        await desk.office.until_state("room", "dead")
        await desk.office.until_state("general", "dead")
        await desk.office.until_state("gone", "sent")
    assert not desk.world.renames
    assert (desk.world.channel.name, elsewhere.name, thread.name) == ("fleet", "general", "coder0")


async def test_a_name_that_may_not_be_given_is_no_dead_letter_and_health_says_what_to_do(desk: Desk) -> None:
    async with desk.open():
        thread = await opened(desk)
        thread.denied.add("rename")
        await desk.office.put("n1", Retitle(title="🟢 coder0"), thread_of="open")
        await desk.office.until_state("n1", "sent")
        assert "Manage Threads" in (await desk.health(lambda found: "rename" in found.detail)).detail
        thread.denied.clear()
        await desk.office.put("n2", Retitle(title="✋ coder0"), thread_of="open")
        await desk.office.until_state("n2", "sent")
        assert "rename" not in (await desk.health(lambda found: True)).detail
    assert thread.name == "✋ coder0"
