"""`kill -9` at every commit of keys, every key that is handed out and every send: in an encrypted room, too, everything
stands once, and nothing becomes unreadable."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from connectors.delivery import sender
from connectors.delivery import service as delivery
from connectors.matrix import encrypted_rooms
from connectors.matrix.crypto import key_store
from database.engine.store import Store
from database.schema import inbox, outbox
from tests.connectors import crash_runs
from tests.connectors.matrix import crash_subject
from tests.connectors.matrix.conftest import until
from tests.crash.deaths import both, ended, started
from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import body, relation
from tests.synapse import Account, Synapse

pytestmark = pytest.mark.synapse

EVENTS = ("launch", "stream", "!ps")
STEPS = (delivery.ACCEPT, sender.RECORD, sender.SEND, crash_runs.HANDLE, encrypted_rooms.HAND_OUT)
#: Keys are committed again and again: when they are made and uploaded, heard, given out, used.
COMMITS = [f"{place}:{passage}" for place in both(key_store.COMMIT) for passage in (1, 2, 3, 5, 8)]
PLACES = [*both(*STEPS), *COMMITS]


class Trial:
    """An encrypted room, and lives of a bot in it."""

    def __init__(self, ana: EncryptedOperator, account: Account, folder: Path) -> None:
        self.ana = ana
        self.user_id = account.user_id
        self.url = f"sqlite:///{folder / 'register.db'}"
        self._folder = folder / "state"
        self._folder.mkdir()
        token = folder / "token"
        token.write_text(account.access_token)
        self._settings = {
            "homeserver": account.homeserver,
            "user": account.user_id,
            "access_token": f"file:{token}",
            "encryption": "required",
        }
        self.said: list[tuple[str, str]] = []

    async def life(self, events: int, place: str | None = None) -> int | None:
        """Run the bot until it has dealt with so many events, or dies."""
        return await ended(crash_subject.main, self.url, self._settings, str(self._folder), events, place=place)

    async def begin(self) -> None:
        """The bot was there once, so that its keys are known; then it went, and this was said."""
        assert await self.life(0) == 0
        self.room = await self.ana.create_room(invite=[self.user_id], encrypted=True)
        assert await self._joins()
        for text in EVENTS:
            # Each has a session of its own, so that each has a key that can be lost.
            self.ana.nio.olm.outbound_group_sessions.clear()
            self.said.append((await self.ana.say(self.room, text), text))

    async def _joins(self) -> bool:
        process = started(crash_subject.main, self.url, self._settings, str(self._folder), -1)

        async def inside() -> bool:
            return await self.ana.membership(self.room, self.user_id) == "join"

        try:
            await until(inside)
        finally:
            process.kill()
            await asyncio.to_thread(process.join)
        return True

    async def check(self) -> None:
        """Everything that the events should have caused stands exactly once, and Ana can read it."""
        last = f"!ps {self.said[-1][0]}"
        await self.ana.wait_for(self.room, lambda event: body(event) == last)
        stands: Counter[str] = Counter()
        for event in await self.ana.events(self.room):
            if event["sender"] == self.user_id and event["type"] in ("m.room.message", "m.room.encrypted"):
                assert event["type"] == "m.room.message", "Ana cannot read it"
                stands[("edit " if relation(event).get("rel_type") == "m.replace" else "") + body(event)] += 1
        expected: Counter[str] = Counter()
        for event_id, text in self.said:
            name = f"{text} {event_id}"
            if text == "launch":
                expected += Counter([name, f"hello {name}"])
            elif text == "!ps":
                expected[name] += 1
            else:
                # Its beginning may never have been said: then its end is a message of its own.
                assert stands.pop(name, 0) + stands.pop(f"edit {name}", 0) == 1
                assert stands.pop("...", 0) <= 1
        assert stands == expected
        store = await Store.open(self.url)
        async with store.read() as tx:
            states = {row.key: row.state for row in await tx.execute(select(outbox.c.key, outbox.c.state))}
            heard = [row.event_id for row in await tx.execute(select(inbox.c.event_id).order_by(inbox.c.seq))]
        await store.close()
        assert set(states.values()) <= {"sent", "superseded"}, states
        assert heard == [event_id for event_id, _ in self.said]


async def _killed_at(synapse: Synapse, folder: Path, place: str) -> None:
    async with EncryptedOperator(await synapse.register(prefix="ana"), folder / "ana") as ana:
        trial = Trial(ana, await synapse.register(prefix="bot"), folder)
        await trial.begin()
        died = await trial.life(len(EVENTS), place)
        assert died == -signal.SIGKILL, f"{place} was never passed"
        assert await trial.life(len(EVENTS)) == 0
        await trial.check()


async def test_killed_once_keys_are_kept_but_not_the_place_up_to_which_was_read(
    synapse: Synapse, tmp_path: Path
) -> None:
    await _killed_at(synapse, tmp_path, f"{delivery.ACCEPT}.before")


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_killed_at_this_place_the_encrypting_bot_says_everything_once(
    synapse: Synapse, tmp_path: Path, place: str
) -> None:
    await _killed_at(synapse, tmp_path, place)


@pytest.mark.slow
@pytest.mark.parametrize("passage", range(1, 4))
@pytest.mark.parametrize("side", ["before", "after"])
async def test_killed_while_its_first_keys_are_made_the_bot_has_them_or_makes_them(
    synapse: Synapse, tmp_path: Path, side: str, passage: int
) -> None:
    async with EncryptedOperator(await synapse.register(prefix="ana"), tmp_path / "ana") as ana:
        trial = Trial(ana, await synapse.register(prefix="bot"), tmp_path)
        assert await trial.life(0, f"{key_store.COMMIT}.{side}:{passage}") == -signal.SIGKILL
        await trial.begin()
        assert await trial.life(len(EVENTS)) == 0
        await trial.check()
