"""Commands that the shell sends to the running orchestrator, or to the egress itself if only that is available."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from bot.commands.syntax import SHELL, command_line, written
from bot.interfaces.cli.output import DONE, Ticker, is_silenced, say, say_diff, show
from bot.text.errors import NotRunning, UserError
from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.api_client import Client, GatewayResponse
    from bot.commands.registry import Command

#: Commands that the shell sends to the egress or to the agent's host if Muster or its register is unavailable.
PAST_MUSTER = frozenset({"cutoff", "restore", "stop", "kill", "freeze", "resume"})

_AUDITED = "The audit has this once Muster and its register are back."

#: Commands whose answer has a diff as data, which the shell prints below the text.
WITH_DIFF = frozenset({"diff"})

#: The command whose answer says where this terminal is to be joined to a program's.
HANDOVER = "handover"

#: The argument that means standard input where text is expected.
_STANDARD_INPUT = "-"


def arguments_of(command: Command, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command by name, from what the shell parsed. Text may come from standard input."""
    arguments: dict[str, Any] = {}
    for parameter in command.parameters:
        value = given[parameter.name]
        if parameter.type.rest:
            value = " ".join(value) or None
            if value == _STANDARD_INPUT:
                value = sys.stdin.read()
        if value is not None and not (parameter.type.flag and value == parameter.default):
            arguments[parameter.name] = value
    return arguments


def ask(
    command: Command, client: Callable[[], Client], given: dict[str, Any], *, as_json: bool, confirmed: bool
) -> int:
    """Send a command, print the answer, and return the exit status."""
    arguments = arguments_of(command, given)
    if command.name == HANDOVER and not as_json:
        from bot.interfaces.cli.terminal import handover

        handover.check_terminal()
    if command.asks(arguments) and not confirmed:
        look = _informed if command.informs else _refused
        if command.check is not None and (refused := look(client, command, arguments)) is not None:
            return show(refused, as_json=as_json)
        from bot.commands.parser import line_of

        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            # With what its check pinned, so that a person repeats what they were told of.
            line = command_line(line_of(command, arguments) if command.informs else command.name)
            told = " ".join(filter(None, (f"{line} needs your confirmation.", command.undo_words)))
            raise UserError(f"{told} Say --yes if you mean it; nothing was done.", code="command.unconfirmed")
        asked = f"Really {line_of(command, arguments)}? {written(command.undo_words, SHELL)}"
        click.confirm(asked.rstrip(), abort=True, err=True)
    try:
        answer = _run(client, command, arguments, confirmed=command.asks(arguments))
    except NotRunning as error:
        if command.name in PAST_MUSTER:
            return _past_muster(command, arguments, error, as_json=as_json)
        if command.name == "ps":
            error.told = _show_fleet(everybody=bool(arguments.get("all")), as_json=as_json)
        if command.name in ("budget", "pace"):
            error.told = _show_limits(pace=command.name == "pace", as_json=as_json)
        raise
    if command.name in PAST_MUSTER and _is_away(answer):
        return _past_muster(command, arguments, MusterError(str(answer.body["error"])), as_json=as_json)
    status = show(answer, as_json=as_json, tells_what_was_done=command.effects)
    if command.name in WITH_DIFF and status == DONE and not as_json and (diff := _diff(answer)):
        say_diff(diff, os.environ)
    if command.name == HANDOVER and status == DONE and not as_json:
        return handover.take(answer.body["data"], os.environ)
    return status


def _run(
    client: Callable[[], Client], command: Command, arguments: dict[str, Any], *, confirmed: bool
) -> GatewayResponse:
    """Send a command, and show its progress on a terminal."""
    ticker = Ticker() if sys.stderr.isatty() and not is_silenced() else None
    try:
        return client().run(
            command.name, arguments, confirmed=confirmed, progress=ticker.show if ticker is not None else None
        )
    finally:
        if ticker is not None:
            ticker.clear()


def _informed(client: Callable[[], Client], command: Command, arguments: dict[str, Any]) -> GatewayResponse | None:
    """Show what a person should know before they confirm a command, and pin it to that.

    Returns:
        The refusal of an impossible command; None if a person must confirm it.
    """
    answer = _run(client, command, arguments, confirmed=False)
    body = answer.body if isinstance(answer.body, dict) else {}
    found = body.get("data")
    if body.get("reason") != "confirm" or not isinstance(found, dict):
        return answer
    say(str(found.get("note", "")), error=True)
    arguments.update(found.get("arguments", {}))
    return None


def _show_fleet(*, everybody: bool, as_json: bool) -> bool:
    """Print what agent hosts and journals say, if there are any agents; return whether there are."""
    import time

    from bot.agents import status_view
    from bot.config.paths import Paths
    from bot.setup import offline_fleet

    fleet, now = offline_fleet.load(Paths.of(os.environ)), time.time()
    if not fleet.agents:
        return False
    if as_json:
        _print_json(status_view.fleet_json(fleet, now, everybody=everybody))
    else:
        say(status_view.fleet_text(fleet, now, everybody=everybody))
        say("This is what agents and their journals say themselves. What waits in Muster is unknown.")
    return True


def _show_limits(*, pace: bool, as_json: bool) -> bool:
    """Print what the egress or its ledger says of limits, if an egress ever ran here; return whether one did."""
    from bot.config.paths import Paths
    from bot.spending import budget_view, offline_limits, pace_view

    model = offline_limits.load(Paths.of(os.environ))
    if model is None or model.problem is not None:
        if model is not None:
            say(str(model.problem), error=True)
        return False
    if as_json:
        _print_json(pace_view.paces_json(model) if pace else budget_view.budget_json(model))
    else:
        say(pace_view.pace_text(model) if pace else budget_view.budget_text(model))
        say(budget_view.offline_words(model))
    return True


def _print_json(found: object) -> None:
    import json

    # ASCII, so that control sequences in an agent's data cannot reach the terminal.
    print(json.dumps(found, indent=2))


def _diff(answer: GatewayResponse) -> str:
    """Return the diff of an answer; nothing if it has none."""
    data = answer.body.get("data") if isinstance(answer.body, dict) else None
    return str(data.get("diff", "")) if isinstance(data, dict) else ""


def _refused(client: Callable[[], Client], command: Command, arguments: dict[str, Any]) -> GatewayResponse | None:
    """Return the refusal of an impossible command; None if a person must confirm it, or if Muster is unavailable."""
    source = next((each for each in command.parameters if each.name in arguments and each.type.source), None)
    if source is None:
        return None
    try:
        known = client().get(f"/v1/complete?source={source.type.source}").body
        words = known.get("words") if isinstance(known, dict) else None
        if not isinstance(words, list) or arguments[source.name] in words:
            return None
        answer = client().run(command.name, arguments)
    except MusterError:
        return None
    return None if isinstance(answer.body, dict) and answer.body.get("reason") == "confirm" else answer


def _is_away(answer: GatewayResponse) -> bool:
    """Return whether Muster could not record the command because its register is unavailable."""
    return answer.status == 503 and isinstance(answer.body, dict) and answer.body.get("code") == "register"


def _past_muster(command: Command, arguments: dict[str, Any], why: MusterError, *, as_json: bool) -> int:
    """Cut off, stop or resume an agent without Muster and its register, as the owner of its egress and host may."""
    if command.name == "resume":
        return _resume_directly(arguments, why, as_json=as_json)
    if command.name in {"stop", "kill", "freeze"}:
        return _end_directly(command.name, arguments, why, as_json=as_json)
    from bot.config.paths import Paths
    from bot.setup import offline_egress
    from egress.errors import EgressAbsent

    paths = Paths.of(os.environ)
    closes = command.name == "cutoff"
    try:
        said = (offline_egress.cut_off if closes else offline_egress.restore)(paths, arguments["name"])
    except EgressAbsent:
        say(f"The egress does not run either. {command_line('estop')} needs neither.", error=True)
        raise why from None
    say(str(why), error=True)
    if as_json:
        import json

        print(json.dumps({"id": None, "state": "cut off" if closes else "open"}))
    else:
        say(f"The egress itself was asked. {said} The audit has it once Muster and its register are back.")
    return DONE


def _end_directly(command: str, arguments: dict[str, Any], why: MusterError, *, as_json: bool) -> int:
    from bot.config.paths import Paths
    from bot.setup import offline_stop

    paths = Paths.of(os.environ)
    if arguments.get("discard"):
        say("Its workspace stays: only a running Muster deletes it.", error=True)
    name, now = arguments["name"], bool(arguments.get("now"))
    if command == "kill":
        said = offline_stop.kill(paths, name)
    else:
        said = (offline_stop.freeze if command == "freeze" else offline_stop.stop)(paths, name, now=now)
    say(str(why), error=True)
    if as_json:
        import json

        waits = said.endswith("its turn ends.")
        during, after = ("freezing", "frozen") if command == "freeze" else ("stopping", "stopped")
        print(json.dumps({"id": None, "state": during if waits else after}))
    else:
        back = command_line(f"{'resume' if command == 'freeze' else 'launch'} {name}")
        anew = ", in a new session" if command == "kill" else ""
        say(f"{said} Muster was not asked. It leaves the agent down until {back} starts it{anew}. {_AUDITED}")
    return DONE


def _resume_directly(arguments: dict[str, Any], why: MusterError, *, as_json: bool) -> int:
    from bot.config.paths import Paths
    from bot.setup import offline_stop

    name = arguments["name"]
    if arguments.get("prompt"):
        again = command_line(f"resume {name}")
        raise type(why)(f"{why} {again} works now, but without a prompt. Nothing was done.", code=why.code)
    started = offline_stop.resume(Paths.of(os.environ), name)
    say(str(why), error=True)
    if as_json:
        import json

        print(json.dumps({"id": None, "state": "starting" if started else "frozen"}))
    elif started:
        say(f"{name} runs again. Muster was not asked. {_AUDITED}")
    else:
        say(f"{name} does not run yet. Muster resumes it once it is back, if it is frozen. {_AUDITED}")
    return DONE
