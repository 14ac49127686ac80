"""A room for a project: private, in the space of the fleet's room, with the operators invited, and made once."""

from __future__ import annotations

import secrets

import pytest

from connectors.contract.connector_protocol import MessageRefused
from tests.connectors.matrix.conftest import Bot, until
from tests.operator_client import Operator
from tests.synapse import Synapse

pytestmark = pytest.mark.synapse


async def test_a_room_is_made_once_in_the_space_of_the_fleet_and_heard(synapse: Synapse, bot: Bot) -> None:
    other = await synapse.register(prefix="otto")
    async with Operator(await synapse.register(prefix="ana")) as ana, bot.running() as connector:
        server = ana.user_id.partition(":")[2]
        space = await ana.create_room("space", space=True, invite=[bot.user_id])
        fleet = await ana.create_room("fleet", invite=[bot.user_id])
        await ana.set_state(fleet, "m.space.parent", {"via": [server]}, key=space)
        for room in (space, fleet):

            async def there(room: str = room) -> bool:
                return await ana.membership(room, bot.user_id) == "join"

            await until(there)
        await ana.set_power(space, bot.user_id, 100)
        people = [ana.user_id, other.user_id]
        key = f"web-{secrets.token_hex(4)}"
        made = await connector.make_room("web", key=key, beside=fleet, people=people, owners=[ana.user_id])
        again = await connector.make_room("web", key=key, beside=fleet, people=people, owners=[ana.user_id])
        assert again == made
        await ana.join(made)
        assert await ana.membership(made, other.user_id) == "invite"
        assert await ana.state(made, "m.room.name") == {"name": "web"}
        assert await ana.state(made, "m.room.join_rules") == {"join_rule": "invite"}
        assert await ana.state(made, "m.space.parent", space) is not None
        assert await ana.state(space, "m.space.child", made) is not None
        levels = await ana.state(made, "m.room.power_levels")
        assert levels is not None
        assert levels["users"][ana.user_id] == 100
        assert other.user_id not in levels["users"]
        event = await ana.say(made, "mend it")
        assert (await bot.supervisor.got(event)).conversation == made


async def test_no_room_is_made_that_would_not_be_heard(synapse: Synapse, bot: Bot) -> None:
    async with Operator(await synapse.register(prefix="ana")) as ana:
        fleet = await ana.create_room("fleet", invite=[bot.user_id])
        only = Bot(bot.account, bot.folder, rooms=[fleet])
        async with only.running() as connector:
            with pytest.raises(MessageRefused, match="hears only the rooms"):
                await connector.make_room("web", key="web-1", beside=fleet, people=[], owners=[])


async def test_a_room_is_heard_from_the_time_on_that_the_connector_is_told_of_it(synapse: Synapse, bot: Bot) -> None:
    async with Operator(await synapse.register(prefix="ana")) as ana:
        fleet, web = [await ana.create_room(name, invite=[bot.user_id]) for name in ("fleet", "web")]
        closed, sealed = await ana.create_room("closed"), await ana.create_room("sealed", invite=[bot.user_id])
        await ana.set_state(sealed, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
        only = Bot(bot.account, bot.folder, rooms=[fleet])
        async with only.running() as connector:
            # The invitation to a room that muster.yaml does not list is not answered by itself.
            assert await ana.membership(web, bot.user_id) == "invite"
            await connector.hear_room(web)
            await connector.hear_room(web)
            assert await ana.membership(web, bot.user_id) == "join"
            event = await ana.say(web, "mend it")
            assert (await only.supervisor.got(event)).conversation == web
            with pytest.raises(MessageRefused, match=f"Invite {bot.user_id} there"):
                await connector.hear_room(closed)
            with pytest.raises(MessageRefused, match="the room is encrypted, and encryption is off"):
                await connector.hear_room(sealed)
