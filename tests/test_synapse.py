from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.operator_client import Operator, body, thread_root

if TYPE_CHECKING:
    from collections.abc import Callable

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
