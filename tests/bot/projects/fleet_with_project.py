"""An orchestrator with a repository that is a project, whose topics run the built-in agent."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from connectors.contract.messages import Capabilities, OpenThread
from connectors.memory import ALL_CAPABILITIES, Said
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from tests.bot.orchestrator import ADMIN, House, house

#: The project's own room.
WEB = "web-room"


def git(folder: Path, *words: str) -> str:
    """Run git in a repository of the test."""
    who = ("-c", "user.name=Ana", "-c", "user.email=ana@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A repository with one commit."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "page.html").write_text("<p>one</p>\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "A page")
    return folder


def project(repo: Path, *, more: str = "", room: str = f"memory:{WEB}") -> str:
    """The lines of muster.yaml that make `repo` the project web."""
    where = f"    room: {room}\n" if room else ""
    lines = f"projects:\n  web:\n    repo: {repo}\n{where}    runtime: sim\n    sandbox: none\n"
    return lines + "".join(f"    {line}\n" for line in more.splitlines())


@contextlib.asynccontextmanager
async def fleet(
    folder: Path,
    *,
    more: str = "",
    settings: str = "",
    room: str = f"memory:{WEB}",
    capabilities: Capabilities = ALL_CAPABILITIES,
) -> AsyncIterator[tuple[House, Path]]:
    """A house with the project web in `folder`, and its repository. Open it with `House.open`."""
    repo = repository(folder / "repo")
    written = project(repo, more=more, room=room) + settings
    async with house(folder / "house", settings=written) as home:
        home.chat.capabilities = capabilities
        yield home, repo


async def thread_of(home: House, event: str) -> str:
    """The thread that was opened for a message, once it stands."""

    def openers() -> list[Said]:
        said = home.chat.said
        return [
            each for each in said if isinstance(each.content, OpenThread) and each.content.message.reply_to == event
        ]

    await home.chat.until(openers, limit=30)
    return await home.opened_by(openers()[0].key)


async def ask(home: House, text: str, *, room: str = WEB, sender: str = ADMIN) -> tuple[str, str]:
    """Write into a room what opens a topic. Returns the event and the topic's thread."""
    event = home.chat.post(text, sender=sender, conversation=room)
    return event, await thread_of(home, event)


async def topic(home: House, agent: str = "web-1") -> Topic:
    """What the register knows of a topic."""
    async with home.orchestrator.store.read() as tx:
        found = await topics.of_agent(tx, agent)
    assert found is not None
    return found


async def until_state(home: House, agent: str, state: str) -> Topic:
    """Wait until a topic is in this state."""
    async with asyncio.timeout(60):
        while (found := await topic(home, agent)).state != state:
            home.orchestrator.services.topics.wake()
            await asyncio.sleep(0.05)
    return found
