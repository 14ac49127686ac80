from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from connectors.contract.connector_protocol import MessageRefused, TryLater
from connectors.contract.messages import Attachment, React
from connectors.matrix.homeserver_client import HomeserverUnreachable, MatrixRefusal, send_error
from tests.connectors.matrix.conftest import Bot, healthy
from tests.connectors.matrix.other_homeserver import ANA, BOT, ROOM, OtherHomeserver
from tests.synapse import Account


@pytest.fixture
async def homeserver() -> AsyncIterator[OtherHomeserver]:
    server = OtherHomeserver()
    async with server.running():
        yield server


@pytest.fixture
def other_bot(homeserver: OtherHomeserver, tmp_path: Path) -> Bot:
    account = Account(homeserver=homeserver.url, user_id=BOT, password="", access_token="token", device_id="BOT")
    return Bot(account, tmp_path / "bot")


def text(number: int) -> dict[str, object]:
    return {"msgtype": "m.text", "body": f"number {number}"}


async def test_timelines_of_ten_and_ignored_filters_lose_nothing(homeserver: OtherHomeserver, other_bot: Bot) -> None:
    homeserver.say("m.room.message", {"msgtype": "m.text", "body": "before the first start"})
    async with other_bot.running():
        await other_bot.supervisor.until(lambda: other_bot.supervisor.cursor is not None)
    for number in range(95):
        homeserver.say("m.room.message", text(number))
        homeserver.say("m.room.topic", {"topic": "t"}, state_key="")
    async with other_bot.running():
        await other_bot.supervisor.until(lambda: "number 94" in other_bot.supervisor.texts)
        for number in range(95, 140):
            last = homeserver.say("m.room.message", text(number))
        await homeserver.hurry()
        await other_bot.supervisor.got(last)
    assert other_bot.supervisor.texts == [f"number {number}" for number in range(140)]


async def test_what_comes_late_from_elsewhere_hides_nothing_that_was_missed(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    async with other_bot.running():
        pass
    for number in range(45):
        homeserver.say("m.room.message", text(number))
    late = homeserver.say("m.room.message", text(45), sender="@eve:elsewhere.test")
    homeserver.late.add(late)
    async with other_bot.running():
        await other_bot.supervisor.got(late)
        await homeserver.hurry()
    assert other_bot.supervisor.texts == [f"number {number}" for number in range(46)]


async def test_who_is_thrown_out_and_invited_again_hears_what_was_said_before(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    async with other_bot.running():
        pass
    for number in range(3):
        homeserver.say("m.room.message", text(number))
    homeserver.throw_out()
    homeserver.say("m.room.message", {"msgtype": "m.text", "body": "while we were out"})
    homeserver.invitations = {ROOM: ANA}
    async with other_bot.running():
        await other_bot.supervisor.until(lambda: homeserver.joins == [ROOM])
        last = homeserver.say("m.room.message", text(3))
        await homeserver.hurry()
        await other_bot.supervisor.got(last)
    assert other_bot.supervisor.texts == [f"number {number}" for number in range(4)]


async def test_our_messages_are_found_without_filters_and_relations(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    async with other_bot.running():
        said = await other_bot.say(ROOM, "hello", key="key")
        for number in range(100):
            homeserver.say("m.room.message", text(number))
        assert await other_bot.find(ROOM, "hello", key="key") == said
        assert await other_bot.find(ROOM, "hello", key="another") is None
        reaction = React(target=said.event_id, key="✅")
        reacted = await other_bot.say(ROOM, reaction, key="reaction", target=said.event_id)
        assert await other_bot.find(ROOM, reaction, key="reaction", target=said.event_id) == reacted


async def test_a_file_of_unknown_length_is_not_read_beyond_the_limit(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    attachment = Attachment(ref="mxc://conduit.test/abc", name="big", media_type="image/png")
    async with other_bot.running() as connector:
        with pytest.raises(MessageRefused, match="larger than"):
            await connector.download(attachment, limit=200_000)
        assert len(await connector.download(attachment, limit=10_000_000)) == 64 * 65_536


async def test_a_file_that_is_out_of_reach_is_not_taken_for_an_outage(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    def far_away(request: web.Request) -> web.Response | None:
        if "/download/" not in request.path:
            return None
        return web.Response(status=504, text="<html>Gateway timeout</html>", content_type="text/html")

    homeserver.faults = far_away
    attachment = Attachment(ref="mxc://away.test/abc", name="a.png", media_type="image/png")
    async with other_bot.running() as connector:
        with pytest.raises(TryLater) as missed:
            await connector.download(attachment, limit=1)
        assert not missed.value.away


@pytest.mark.slow
async def test_a_proxy_in_front_that_fails_is_waited_out(homeserver: OtherHomeserver, other_bot: Bot) -> None:
    def gateway(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")

    def nonsense(request: web.Request) -> web.Response:
        return web.Response(text="[1, 2", content_type="application/json")

    async with other_bot.running() as connector:
        for fault in (gateway, nonsense):
            homeserver.faults = fault
            with pytest.raises(TryLater):
                await other_bot.say(ROOM, "hello", key="key")
        homeserver.faults = gateway
        await homeserver.hurry()
        await healthy(connector, lambda health: health.reachable is False)
        assert "502" in (await connector.health()).detail
        homeserver.faults = lambda request: None
        last = homeserver.say("m.room.message", text(1))
        await other_bot.supervisor.got(last)


async def test_a_room_that_cannot_be_joined_holds_up_no_other(homeserver: OtherHomeserver, other_bot: Bot) -> None:
    def far_away(request: web.Request) -> web.Response | None:
        if not request.path.endswith("!far:away.test"):
            return None
        return web.json_response({"errcode": "M_UNKNOWN", "error": "no other server answers"}, status=502)

    homeserver.faults = far_away
    async with other_bot.running() as connector:
        homeserver.invitations = {"!far:away.test": "@ana:conduit.test", "!near:conduit.test": "@ana:conduit.test"}
        last = homeserver.say("m.room.message", text(1))
        await homeserver.hurry()
        await other_bot.supervisor.got(last)
        assert homeserver.joins == ["!near:conduit.test"]
        assert "!far:away.test could not be joined" in (await connector.health()).detail
        assert "!far:away.test" in (other_bot.supervisor.cursor or "")


async def test_a_gap_that_cannot_be_read_is_told_and_holds_up_nothing(
    homeserver: OtherHomeserver, other_bot: Bot
) -> None:
    async with other_bot.running():
        pass
    for number in range(30):
        homeserver.say("m.room.message", text(number))

    def forbidden(request: web.Request) -> web.Response | None:
        if not request.path.endswith("/messages"):
            return None
        return web.json_response({"errcode": "M_FORBIDDEN", "error": "not for you"}, status=403)

    homeserver.faults = forbidden
    async with other_bot.running() as connector:
        await other_bot.supervisor.until(lambda: "number 29" in other_bot.supervisor.texts)
        assert "were missed" in (await connector.health()).detail


async def test_a_service_that_is_no_homeserver_is_named_so(homeserver: OtherHomeserver, other_bot: Bot) -> None:
    homeserver.faults = lambda request: web.Response(text="It works!")
    with pytest.raises(Exception, match="not a Matrix homeserver"):
        async with other_bot.running():
            pass


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (HomeserverUnreachable("connection refused"), TryLater, "cannot be reached"),
        (MatrixRefusal(502, "M_UNKNOWN", "worker down"), TryLater, "worker down"),
        (MatrixRefusal(403, "M_FORBIDDEN", "User not in room."), MessageRefused, "Invite it"),
        (MatrixRefusal(413, "M_TOO_LARGE", "event too large"), MessageRefused, "too large"),
        (MatrixRefusal(400, "M_BAD_JSON", "no"), MessageRefused, "refuses"),
        (MatrixRefusal(404, "M_NOT_FOUND", "no such room"), MessageRefused, "does not know"),
        (MatrixRefusal(401, "M_UNKNOWN_TOKEN", "who?"), TryLater, "who"),
        (MatrixRefusal(403, "M_RESOURCE_LIMIT_EXCEEDED", "full"), TryLater, "full"),
    ],
)
def test_what_a_failed_request_means(
    error: HomeserverUnreachable | MatrixRefusal, kind: type[Exception], words: str
) -> None:
    found = send_error(error)
    assert type(found) is kind
    assert words in str(found)


def test_the_rate_limit_says_for_how_long() -> None:
    found = send_error(MatrixRefusal(429, "M_LIMIT_EXCEEDED", "slow down", 2.5))
    assert isinstance(found, TryLater)
    assert (found.limited, found.after) == (True, 2.5)
