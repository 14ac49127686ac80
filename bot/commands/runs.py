"""Values of a command's run: the request, its row in the register, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.auth.permission import Permission
from bot.commands.context import Origin
from bot.commands.doors import called, listed
from bot.commands.parser import line_of, with_usage
from bot.commands.registry import Command, Reply
from bot.commands.syntax import command_line
from bot.text.errors import NotPermitted, UsageError, UserError
from connectors.contract.messages import File
from core.errors import MusterError
from database.queries.operations.command_runs import CommandRun

#: Seconds within which a person can confirm.
CONFIRM_WITHIN = 180.0


class RunConflict(UserError):
    """This id belongs to another request, so its answer does not apply to this one. Choose a new id."""

    code = "run.conflict"


class NothingToConfirm(UserError):
    """Nothing waits for a confirmation here. It may have been confirmed, or its three minutes are over."""

    code = "run.nothing_to_confirm"


class NotHere(UserError):
    """This command or option is not accepted here. Give it where it is."""

    code = "command.not_here"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A request to run a command."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    """By name, as returned by `bot.commands.parser.parse` or as in JSON."""
    identity: str
    permission: Permission
    through: str | None = None
    """The group that grants the permission; None if the person has it directly."""
    door: str
    """A `bot.commands.doors.Door`. Only in chat can a command wait for a confirmation."""
    origin: Origin | None = None
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """The outcome of a run."""

    run_id: str
    name: str
    state: str
    """done, refused, failed, lapsed; or confirming, and then `reply` is the question."""
    reply: Reply
    reason: str | None = None
    """For programs, the reason of a refusal: usage, permission, confirm, unknown, or None."""
    code: str | None = None
    """For programs, when it was not done: what happened, such as ``agent.unknown`` (`core.errors.MusterError.code`)."""
    identity: str = ""
    origin: Origin | None = None
    confirm_until: float | None = None

    @property
    def text(self) -> str:
        return self.reply.text

    @property
    def data(self) -> Any:
        return self.reply.data


#: Reason for programs if a command lacks its confirmation.
CONFIRM_FIRST = "confirm"
#: The code where nothing but the reason or the state is known.
_CODES = {
    "usage": UsageError.code,
    "permission": NotPermitted.code,
    CONFIRM_FIRST: "command.unconfirmed",
    "unknown": "command.unknown",
    "lapsed": "command.lapsed",
    "refused": UserError.code,
    "failed": MusterError.code,
}
#: What follows the command in the question that asks for a confirmation.
_UNDOABLE = " cannot be undone"
_CONFIRMED = " needs your confirmation"


def refusal(command: Command | None, request: RunRequest) -> tuple[str, str | None, str | None] | None:
    """Return why a request cannot become a run, as a sentence and a reason for programs, or None."""
    if command is None:
        return unknown(request.name), "unknown", None
    if request.permission < command.permission:
        return (
            f"{command_line(command.name)} needs the permission {command.permission}; you have "
            f"{request.permission}. An admin gives it with {command_line('operator set')}.",
            "permission",
            None,
        )
    try:
        check_door(command, request.door, request.arguments)
        command.bind(request.arguments)
    except NotHere as error:
        return str(error), "permission", error.code
    except UsageError as error:
        return with_usage(error, command), "usage", None
    if command.asks(request.arguments) and not request.confirmed and request.door != "chat":
        way = "--yes" if request.door == "cli" else "the header Muster-Confirm: yes"
        name = command_line(command.name)
        return f"{name} asks for a confirmation: say so with {way}. {command.undo_words}".rstrip(), CONFIRM_FIRST, None
    return None


def check_door(command: Command, door: str, arguments: Mapping[str, Any]) -> None:
    """Check where a command comes from.

    Raises:
        NotHere: it, or one of its arguments, cannot be given there.
    """
    name = command_line(command.name)
    given = [each for each in command.parameters if arguments.get(each.name) not in (None, each.default)]
    for doors, what in ((command.doors, name), *((each.doors, f"{each.title} of {name}") for each in given)):
        if door not in doors:
            raise NotHere(f"{what} cannot be given {called(door)}. Give it {listed(doors)}.")


def code_of(state: str, reason: str | None) -> str | None:
    """Return the code of a run that ended so, or None if it was done."""
    return _CODES.get(reason or state)


def new_run(request: RunRequest, state: str, now: float, arguments: Mapping[str, Any] | None = None) -> CommandRun:
    """Return the row of a new run."""
    origin = request.origin
    return CommandRun(
        id=request.id,
        name=request.name,
        arguments=dict(request.arguments) if arguments is None else arguments,
        identity=request.identity,
        permission=str(request.permission),
        through=request.through,
        door=request.door,
        connector=None if origin is None else origin.connector,
        conversation=None if origin is None else origin.conversation,
        parent=None if origin is None else origin.parent,
        event_id=None if origin is None else origin.event_id,
        state=state,
        confirm_until=now + CONFIRM_WITHIN if state == "confirming" else None,
        reply=None,
        started_at=now,
        ended_at=None,
    )


def request_of(run: CommandRun, permission: Permission, through: str | None) -> RunRequest:
    """Return the request of a row, to resume it or after its confirmation."""
    return RunRequest(
        id=run.id,
        name=run.name,
        arguments=run.arguments,
        identity=run.identity,
        permission=permission,
        through=through,
        door=run.door,
        origin=origin_of(run),
        confirmed=True,
    )


def origin_of(run: CommandRun) -> Origin | None:
    """Return the chat message of a run's request, or None."""
    if run.connector is None or run.conversation is None or run.event_id is None:
        return None
    return Origin(connector=run.connector, conversation=run.conversation, parent=run.parent, event_id=run.event_id)


def outcome_of(run: CommandRun) -> RunOutcome:
    """Return the outcome of a run so far."""
    reply: Mapping[str, Any] = run.reply or {}
    file = File(**reply["file"]) if "file" in reply else None
    return RunOutcome(
        run_id=run.id,
        name=run.name,
        state=run.state,
        reply=Reply(reply.get("text", ""), reply.get("data"), ok=run.state == "done", file=file),
        reason=reply.get("reason"),
        code=reply.get("code"),
        identity=run.identity,
        origin=origin_of(run),
        confirm_until=run.confirm_until,
    )


def checked(run: CommandRun | None, identity: str) -> CommandRun:
    """Return the run if `identity` may confirm or decline it."""
    if run is None:
        raise NothingToConfirm
    if run.identity != identity:
        raise NotPermitted(f"Only {run.identity}, who gave the command, can confirm it or take it back.")
    return run


def check_same(
    run: RunRequest | CommandRun, again: RunRequest | CommandRun, kept: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """Raise `RunConflict` if an id is used for a second request.

    Args:
        run: the first request.
        again: the request with the same id.
        kept: converts arguments to the stored form of a refused run.
    """
    if (run.name, run.identity) != (again.name, again.identity):
        raise RunConflict
    # An id from chat belongs to an event, which another version or another prefix may parse differently.
    if again.door != "chat" and run.arguments not in (again.arguments, kept(again.arguments)):
        raise RunConflict


def late(run: CommandRun) -> Reply:
    name = command_line(run.name)
    return Reply(f"{name} was not confirmed within three minutes, so nothing was done. Give the command again.")


def unknown(name: str) -> str:
    return f'There is no command "{name[:60]}". {command_line("help")} lists them.'


def question(command: Command, arguments: Mapping[str, Any], note: str = "") -> str:
    """Return the question before a command that is confirmed. The caller adds how to confirm it."""
    line, undo = command_line(line_of(command, arguments)), command.undo or ""
    why = _CONFIRMED if undo or command.informs else _UNDOABLE
    return " ".join(filter(None, (f"{line}{why}.", undo, note)))


def asked_about(question: str) -> str:
    """Return the command that a question asks about, as it stands there."""
    return min((question.partition(why)[0] for why in (_CONFIRMED, _UNDOABLE)), key=len)


def apology(name: str, run_id: str) -> str:
    return (
        f"{command_line(name)} failed through a fault in Muster, not through you. The log has the details under run "
        f"`{run_id}`."
    )
