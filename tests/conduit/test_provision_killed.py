"""`kill -9` before and after every step, then the same command again: everything is there, and nothing twice."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from conduit import provision, setup_record
from conduit.steps import fleet_room, muster_yaml_block, operator_and_bot_users
from tests.conduit.conftest import ANA, BOT, Person, stands
from tests.conduit.fake_homeserver import StandIn
from tests.crash.deaths import both, ended

STEPS = (
    operator_and_bot_users.OPERATOR,
    operator_and_bot_users.BOT,
    setup_record.TOKEN,
    fleet_room.ROOM,
    fleet_room.JOIN,
    muster_yaml_block.WRITE,
)
#: The record is written when it is begun, after each user, and around the room.
RECORDS = 5
PLACES = [*both(*STEPS), *(f"{place}:{number + 1}" for number in range(RECORDS) for place in both(setup_record.KEEP))]


def run(home: str, arguments: list[str]) -> None:
    """Run `python -m conduit.provision` for the installation in `home`."""
    os.environ["MUSTER_HOME"] = home
    sys.exit(provision.main(arguments))


@pytest.mark.parametrize("place", PLACES)
async def test_a_killed_run_is_gone_on_with(person: Person, homeserver: StandIn, place: str) -> None:
    assert await ended(run, str(person.home), person.words(), place=place) == -signal.SIGKILL, "it was there"
    await person.done()
    made = stands(person, homeserver)
    assert len(homeserver.users) == 2
    assert homeserver.rooms == [made]
    assert homeserver.users[ANA].devices == {}, "nobody acts as ana any more"
    assert len(homeserver.users[BOT].devices) == 1
    assert (await person.done(way=()))["changed"] == []
