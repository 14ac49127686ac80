from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import Operator, body, thread_root
from tests.synapse import Synapse

pytestmark = pytest.mark.synapse


async def test_two_people_talk_on_the_shared_server(synapse: Synapse) -> None:
    one, two = await synapse.register(prefix="ana"), await synapse.register(prefix="ben")
    async with Operator(one) as ana, Operator(two) as ben:
        room = await ana.create_room(invite=[two.user_id])
        await ben.join(room)
        root = await ana.say(room, "hello")
        answer = await ben.say(room, "hello yourself", thread=root)
        seen = await ana.wait_for(room, lambda event: event["event_id"] == answer)
        assert thread_root(seen) == root
        assert [body(event) for event in await ana.messages(room, two.user_id)] == ["hello yourself"]


async def test_a_killed_server_comes_back_on_the_same_port_with_its_data(
    private_synapse: Callable[..., Synapse],
) -> None:
    server = private_synapse()
    async with Operator(await server.register("ana")) as ana:
        room = await ana.create_room()
        said = await ana.say(room, "before")
        server.kill()
        await server.restarted()
        await ana.wait_for(room, lambda event: event["event_id"] == said)


async def test_two_people_read_each_other_in_an_encrypted_room_and_the_server_does_not(
    synapse: Synapse, tmp_path: Path
) -> None:
    async with (
        EncryptedOperator(await synapse.register(prefix="ana"), tmp_path / "ana") as ana,
        EncryptedOperator(await synapse.register(prefix="ben"), tmp_path / "ben") as ben,
    ):
        room = await ana.create_room(invite=[ben.user_id], encrypted=True)
        await ben.join(room)
        asked = await ana.say(room, "the secret")
        seen = await ben.wait_for(room, lambda event: body(event) == "the secret")
        assert seen["event_id"] == asked
        file = await ben.send_file(room, b"a picture", "dot.png", "image/png")
        seen = await ana.wait_for(room, lambda event: event["event_id"] == file)
        assert await ana.attachment(seen) == b"a picture"
        kinds = {event["type"] for event in await ana.wire(room) if event["event_id"] in (asked, file)}
        assert kinds == {"m.room.encrypted"}
        assert [body(event) for event in await ben.messages(room, ana.user_id)] == ["the secret"]
