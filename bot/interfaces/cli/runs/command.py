"""Commands that wait for an agent in a shell: `run`, and `send` and `task add` with `--wait`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from bot.interfaces.cli.output import show
from bot.interfaces.cli.runs.waiting import Interrupted, status_of, tell, wait
from bot.text.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bot.api_client import Client, GatewayResponse
    from bot.commands.registry import Command

#: The command that waits unless it is told not to, and those that wait if they are told to.
RUN: Final = "run"
CAN_WAIT: Final = frozenset({"send", "task add"})
#: The argument that means standard input.
_STANDARD_INPUT: Final = "-"
#: Bytes that are read of it. Muster takes fewer characters, and says how many.
LONGEST_INPUT: Final = 2**20
#: Between the names of sandbox profiles that are used together.
_JOINS: Final = "+"


def adapt(command: Command, parameters: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Return the parameters of a command as a shell has them, with those that only a shell has."""
    if command.name in CAN_WAIT:
        words = "Print the agent's answer as it grows, and end with its outcome as exit status."
        return [*parameters, click.Option(["--wait", "waits"], is_flag=True, help=words)]
    if command.name != RUN:
        return list(parameters)
    kept = [each for each in parameters if each.name != "sandbox"]
    words = "bubblewrap, none, or a profile from muster.yaml. Given more than once, they are joined."
    sandboxes = click.Option(["--sandbox", "sandbox"], multiple=True, metavar="SANDBOX", help=words)
    detach = click.Option(["--detach"], is_flag=True, help="Do not wait: print the run and return.")
    return [*kept, sandboxes, detach]


def waits(command: Command, *, asked: bool, detach: bool) -> bool:
    """Return whether a command is to wait for the agent."""
    return not detach if command.name == RUN else asked


def prepare(command: Command, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `run` as Muster takes them: with what this shell alone can know.

    Raises:
        UsageError: the prompt cannot be read.
    """
    if command.name != RUN:
        return given
    sandboxes = [each for each in given.pop("sandbox", None) or () if each]
    workspace = given.get("workspace")
    return {
        **given,
        "prompt": _prompt(given["prompt"]),
        "sandbox": _JOINS.join(sandboxes) or None,
        "workspace": None if workspace is None else os.path.abspath(os.path.expanduser(workspace)),
    }


def _prompt(text: str) -> str:
    if text != _STANDARD_INPUT:
        return _checked(text)
    try:
        # Not as text, which would change the ends of lines.
        content = sys.stdin.buffer.read(LONGEST_INPUT + 1)
        if len(content) > LONGEST_INPUT:
            raise UsageError(
                "The prompt on standard input is longer than 1 MiB. Put it into a file of the workspace, and name the "
                "file. Nothing was begun."
            )
        read = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"The prompt on standard input is not UTF-8 (byte {error.start}). Convert it first.") from None
    except (OSError, ValueError):  # closed
        read = ""
    if not read.strip():
        raise UsageError("--prompt - reads standard input, which is empty. Pipe the prompt in, or write it out.")
    return _checked(read)


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("The prompt is not UTF-8. Convert it first.") from None
    return text


def give_and_wait(command: Command, client: Callable[[], Client], arguments: dict[str, Any], *, as_json: bool) -> int:
    """Give a command, and wait for what it began. Return the exit status."""

    def act() -> int:
        connection = client()
        try:
            answer = connection.run(command.name, arguments)
        except Interrupted:
            tell("Interrupted. It is not known whether it began: `muster runs` and `muster ps` show it.", always=True)
            raise
        begun = _begun(command, answer)
        if begun is None:
            return show(answer, as_json=as_json)
        kind, work_id, said = begun
        return wait(connection, kind, work_id, begun=said, as_json=as_json)

    return status_of(act)


def _begun(command: Command, answer: GatewayResponse) -> tuple[str, str, str] | None:
    """Return the kind and the id of what a command began, and what it said; None if it began nothing."""
    body = answer.body if isinstance(answer.body, dict) else {}
    data = body.get("data")
    if body.get("state") != "done" or not isinstance(data, dict) or "id" not in data:
        return None
    kind = "runs" if command.name == RUN else "messages"
    if command.name == "task add" or (kind == "messages" and data.get("state") == "queued"):
        kind = "tasks"  # also words that limits or the pace hold back
    return kind, str(data["id"]), str(body.get("text", ""))
