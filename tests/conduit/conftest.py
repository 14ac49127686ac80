"""An operator who sets a fleet up on a stand-in for Conduit."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.config import loader
from conduit import provision
from tests.conduit.fake_homeserver import REGISTRATION_TOKEN, SERVER, StandIn

ANA, BOT = f"@ana:{SERVER}", f"@muster:{SERVER}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run said."""

    status: int
    text: str
    progress: str


class Person:
    """Types the command; secrets are in files of theirs."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "home"
        self.folder = folder
        self.url = url
        self.token = self.secret("registration-token", REGISTRATION_TOKEN)
        monkeypatch.setenv("MUSTER_HOME", str(self.home))
        self.paths = loader.Paths.of({"MUSTER_HOME": str(self.home)})

    def secret(self, name: str, text: str) -> str:
        """Put a secret into a file; the reference to it."""
        place = self.folder / name
        place.write_text(text)
        return f"file:{place}"

    def words(self, *more: str, way: tuple[str, ...] | None = None) -> list[str]:
        """The arguments of the command."""
        way = ("--registration-token", self.token) if way is None else way
        return ["--homeserver", self.url, *way, "--operator", "ana", "--yes", *more]

    async def run(self, *more: str, way: tuple[str, ...] | None = None) -> Answer:
        """Run the command to its end."""
        out, err = io.StringIO(), io.StringIO()

        def provisioned() -> int:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                return provision.main(self.words(*more, way=way))

        status = await asyncio.to_thread(provisioned)
        return Answer(status, out.getvalue(), err.getvalue())

    async def done(self, *more: str, way: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Run it with success; what it says as JSON."""
        answer = await self.run("--json", *more, way=way)
        assert answer.status == 0, answer
        found: dict[str, Any] = json.loads(answer.text)
        return found

    async def refused(self, *more: str, way: tuple[str, ...] | None = None) -> str:
        """Run it without success; what it says."""
        answer = await self.run(*more, way=way)
        assert answer.status == 1, answer
        return answer.progress

    @property
    def kept(self) -> Path:
        """The folder of what is kept."""
        return self.paths.state / "conduit"

    @property
    def settings(self) -> str:
        """muster.yaml."""
        return self.paths.muster_yaml.read_text()


def connector(person: Person) -> tuple[loader.ConnectorSettings, Any]:
    found = {each.name: each for each in loader.load(person.paths).connectors}
    assert set(found) == {"terminal", "matrix"}
    return found["matrix"], found["matrix"].settings


def stands(person: Person, homeserver: StandIn) -> str:
    """All of it is there and fits together; the room."""
    block, settings = connector(person)
    assert (settings.homeserver, settings.user) == (homeserver.url, BOT)
    assert loader.load(person.paths).operators["matrix:" + ANA] == "admin"
    token = settings.access_token.resolve()
    assert token in homeserver.users[BOT].devices.values()
    room = block.fleet_room
    assert room is not None
    assert homeserver.membership(room, ANA) in ("join", "invite")
    assert homeserver.membership(room, BOT) == "join"
    return room


@pytest.fixture
async def homeserver() -> AsyncIterator[StandIn]:
    server = StandIn()
    async with server.running():
        yield server


@pytest.fixture
def person(homeserver: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(tmp_path, homeserver.url, monkeypatch)
