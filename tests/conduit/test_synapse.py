"""Provisioning on a real homeserver, by both ways in, and the connector on what it made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
import yaml

from bot.config import loader
from connectors.contract.messages import Message, Outbound
from connectors.matrix.connector import MatrixConnector
from connectors.matrix.settings import MatrixSettings
from tests.conduit.conftest import Person
from tests.connectors.matrix.conftest import AgentSupervisor, until
from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import Operator, body
from tests.synapse import SERVER_NAME, Account, Synapse, SynapseMissing

pytestmark = [pytest.mark.synapse, pytest.mark.slow]

ANA, BOT = f"@ana:{SERVER_NAME}", f"@muster:{SERVER_NAME}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Synapse]:
    """Nobody is on it yet; who has a token may register."""
    server = Synapse(tmp_path / "synapse")
    place = server.folder / "homeserver.yaml"
    settings = yaml.safe_load(place.read_text())
    place.write_text(yaml.safe_dump(settings | {"enable_registration": True, "registration_requires_token": True}))
    try:
        await server.restarted()
    except SynapseMissing as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def ana(server: Synapse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(tmp_path, server.url, monkeypatch)


async def registration_token(server: Synapse) -> str:
    admin = await server.register("root", admin=True)
    headers = {"Authorization": f"Bearer {admin.access_token}"}
    place = f"{server.url}/_synapse/admin/v1/registration_tokens/new"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(place, json={}) as response:
        token: str = (await response.json())["token"]
        return token


@pytest.mark.parametrize("way", ["--registration-token", "--shared-secret"])
async def test_from_nothing_to_a_bot_that_hears_its_operator(ana: Person, server: Synapse, way: str) -> None:
    secret = server.shared_secret if way == "--shared-secret" else await registration_token(server)
    wrong = (way, ana.secret("wrong", "wrong"))
    assert "does not take the" in await ana.refused(way=wrong)
    right = (way, ana.secret("right", secret))
    found = await ana.done(way=right)
    assert (found["operator"], found["bot"]) == (ANA, BOT)
    assert (await ana.done(way=right))["changed"] == []
    assert await limit_of_the_bot(server) == (0 if way == "--shared-secret" else None), "0 is none; None, everybody's"

    password = (ana.kept / "matrix.operator-password").read_text().strip()
    person = await server.log_in(
        Account(homeserver=server.url, user_id=ANA, password=password, access_token="", device_id="")
    )
    block = next(each for each in loader.load(ana.paths).connectors if each.name == "matrix")
    assert isinstance(block.settings, MatrixSettings)
    assert block.fleet_room == found["room"]
    async with Operator(person) as operator:
        await heard(ana, block.settings, operator, found["room"], "hello")
        await operator.kick(found["room"], BOT)
        await end_all(server, (ana.kept / "matrix.token").read_text().strip())
        device = (await ana.done(way=()))["changed"]
        assert any("in again" in each for each in device)
        assert any("brought" in each for each in device)
        await heard(ana, block.settings, operator, found["room"], "hello again")


async def test_an_encrypted_room_in_which_the_operator_is_heard_and_answered(ana: Person, server: Synapse) -> None:
    way = ("--shared-secret", ana.secret("right", server.shared_secret))
    found = await ana.done("--encrypted", way=way)
    assert (await ana.done("--encrypted", way=way))["changed"] == []
    block = next(each for each in loader.load(ana.paths).connectors if each.name == "matrix")
    assert isinstance(block.settings, MatrixSettings)
    assert block.settings.encryption == "required"
    password = (ana.kept / "matrix.operator-password").read_text().strip()
    person = await server.log_in(
        Account(homeserver=server.url, user_id=ANA, password=password, access_token="", device_id="")
    )
    async with EncryptedOperator(person, ana.folder / "keys-of-ana") as operator:
        await heard(ana, block.settings, operator, found["room"], "hello", answer="hello yourself")
        assert "m.room.message" not in {event["type"] for event in await operator.wire(found["room"])}


async def limit_of_the_bot(server: Synapse) -> int | None:
    """Messages a second that the homeserver lets the bot write."""
    admin = await server.register("overseer", admin=True)
    headers = {"Authorization": f"Bearer {admin.access_token}"}
    place = f"{server.url}/_synapse/admin/v1/users/{BOT}/override_ratelimit"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(place) as response:
        limit: int | None = (await response.json()).get("messages_per_second")
        return limit


async def end_all(server: Synapse, token: str) -> None:
    """Somebody logs the bot out."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        await http.post(f"{server.url}/_matrix/client/v3/logout", json={})


async def heard(
    ana: Person, settings: MatrixSettings, operator: Operator, room: str, words: str, *, answer: str | None = None
) -> None:
    """A connector with what stands in muster.yaml hears the operator, who may hear an answer."""
    folder, supervisor = ana.home / words.replace(" ", "-"), AgentSupervisor()
    connector = MatrixConnector("matrix", settings, folder, may_read=_everybody)
    connector.subscribe(supervisor)

    async def in_touch() -> bool:
        return supervisor.cursor is not None or life.done()

    life = asyncio.create_task(connector.start(None))
    try:
        await until(in_touch)
        said = await operator.say(room, words)
        assert words in str((await supervisor.got(said)).body)
        if answer is not None:
            outbound = Outbound(key="answer", connector="matrix", conversation=room, content=Message(text=answer))
            await connector.send(outbound, conversation=room, target=None)
            await operator.wait_for(room, lambda event: body(event) == answer)
    finally:
        life.cancel()
        await asyncio.wait([life])
        await connector.stop()


async def _everybody(person: str, groups: Sequence[str]) -> bool:
    return True
