"""Running commands: through the gateway, and while Muster is down in the ways that the shell has then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from bot.commands.syntax import command_line, written
from bot.config.paths import Paths
from bot.gateway_feed.requests import GatewayAnswer
from bot.setup import offline_egress, offline_stop
from bot.text.errors import NotRunning
from core.errors import MusterError
from egress.errors import EgressAbsent

#: The commands that work while Muster or its register is away.
OFFLINE_COMMANDS: Final = frozenset({"stop", "kill", "freeze", "resume", "cutoff", "restore", "estop"})
#: The reason of an answer that asks for a confirmation.
_CONFIRM_FIRST: Final = "confirm"
#: What the audit calls the dashboard.
DOOR: Final = "tui"
_AUDITED: Final = "Muster was not asked. The audit has this once Muster and its register are back."


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command said."""

    done: bool
    text: str
    """Markdown, with commands written as they are typed here."""
    diff: str = ""
    pinned: Mapping[str, str] | None = None
    """Of a command that was not confirmed, and that informs: the arguments that hold if `text` is confirmed."""


class CommandRequests(Protocol):
    """The gateway's commands, as `bot.gateway_feed.requests.GatewayRequests` has them."""

    async def run(
        self,
        name: str,
        arguments: Mapping[str, str | bool | float],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> GatewayAnswer:
        """Run a command once."""

    async def get(self, path: str) -> GatewayAnswer:
        """Answer a GET request."""


@dataclass(frozen=True, slots=True)
class CommandOrders:
    """Where the dashboard's orders go."""

    paths: Paths
    requests: CommandRequests

    async def run(
        self,
        name: str,
        arguments: Mapping[str, str | bool | float],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command, and return what it said. A refusal is a result, too."""
        try:
            answer = await self.requests.run(name, arguments, confirmed=confirmed, progress=progress)
        except NotRunning as error:
            return await self._offline(name, arguments, error)
        except MusterError as error:
            return CommandResult(done=False, text=written(str(error), ""))
        if answer.status == 503 and answer.code == "register" and name in OFFLINE_COMMANDS:
            return await self._offline(name, arguments, MusterError(answer.text))
        data = answer.body.get("data")
        if answer.body.get("reason") == _CONFIRM_FIRST and isinstance(data, dict):
            pinned = {str(key): str(value) for key, value in dict(data.get("arguments", {})).items()}
            return CommandResult(done=False, text=written(str(data.get("note", "")), ""), pinned=pinned)
        diff = data.get("diff") if isinstance(data, dict) and answer.is_done else None
        return CommandResult(
            done=answer.is_done, text=written(answer.text, ""), diff=diff if isinstance(diff, str) else ""
        )

    async def words(self, source: str) -> list[str]:
        """Return the values of an argument; none where Muster is down, because a completion shows no errors."""
        try:
            words = (await self.requests.get(f"/v1/complete?source={source}")).body.get("words")
        except MusterError:
            return []
        return [str(word) for word in words] if isinstance(words, list) else []

    async def _offline(self, name: str, arguments: Mapping[str, str | bool | float], why: MusterError) -> CommandResult:
        if name not in OFFLINE_COMMANDS:
            able = ", ".join(sorted(OFFLINE_COMMANDS))
            return CommandResult(done=False, text=written(f"{why} Until then these work: {able}.", ""))
        try:
            said = await asyncio.to_thread(_carried_out, self.paths, name, arguments)
        except EgressAbsent as error:
            return CommandResult(done=False, text=written(f"{error} {command_line('estop')} needs neither.", ""))
        except (MusterError, OSError) as error:
            return CommandResult(done=False, text=written(str(error), ""))
        return CommandResult(done=True, text=written(f"{said} {_AUDITED}", ""))


def _carried_out(paths: Paths, command: str, arguments: Mapping[str, str | bool | float]) -> str:
    name, now = str(arguments.get("name", "")), bool(arguments.get("now"))
    match command:
        case "stop":
            return offline_stop.stop(paths, name, now=now, door=DOOR)
        case "kill":
            return offline_stop.kill(paths, name, door=DOOR)
        case "freeze":
            return offline_stop.freeze(paths, name, now=now, door=DOOR)
        case "resume":
            started = offline_stop.resume(paths, name, door=DOOR)
            return f"{name} runs again." if started else f"{name} is resumed once Muster runs, if it is frozen."
        case "cutoff":
            return offline_egress.cut_off(paths, name)
        case "restore":
            return offline_egress.restore(paths, name)
        case _:
            if arguments.get("clear"):
                return offline_egress.end_stop(paths)
            report = offline_egress.stop_all(paths)
            return f"{report.text} {report.warning}".strip()
