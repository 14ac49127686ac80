"""What the simulated model answers: a pure function of the conversation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from fleet.sim.provider import prompt_directives
from fleet.sim.provider.normalized_request import ConversationTurn, NormalizedRequest, turn_of
from fleet.sim.provider.prompt_directives import Obey, Repeat, RunCommand, Say, Step, UseTool

#: So much of a tool's output is repeated in the answer, in characters.
LONGEST_ECHO = 2_000
LONGEST_QUOTE = 400

# Names under which clients offer a shell, and the field that takes the command.
_SHELLS = {
    "Bash": "command",
    "bash": "command",
    "exec_command": "cmd",
    "shell_command": "command",
    "shell": "command",
    "local_shell": "command",
}


def reply(request: NormalizedRequest, order: str | None = None) -> tuple[Step, ...]:
    """Return the steps of the answer: texts, thoughts, pauses, failures, at most one tool call, at the end.

    Args:
        order: directives that stand in for those in the person's text (from a script).
    """
    turn = turn_of(request.items)
    steps, words = prompt_directives.parse(turn.text if order is None else order)
    if order is not None:
        words = turn.text
    if not any(isinstance(step, Say | UseTool | RunCommand | Obey) for step in steps):
        plain = answer(words, turn) if words or turn.pictures or not steps else "Done."
        steps = steps if turn.results else (*steps, Say(plain))
    part = _parts(_repeated(_obeyed(steps, turn)))
    now = part[len(turn.results)] if len(turn.results) < len(part) else ()
    if turn.results:
        now = (Say(_echo(*turn.results[-1])), *now)
    return tuple(_separated([_resolved(step, request.tools) for step in now]))


def answer(words: str, turn: ConversationTurn) -> str:
    """Return what is said where nothing was ordered."""
    seen = ""
    if turn.pictures:
        listed = ", ".join(f"{p.media_type}, {p.size} bytes" for p in turn.pictures)
        seen = f" I see {len(turn.pictures)} picture{'s' * (len(turn.pictures) != 1)} ({listed})."
    if not words:
        return f"You sent no words.{seen} Tell me what to do."
    quoted = words if len(words) <= LONGEST_QUOTE else f"{words[:LONGEST_QUOTE]}... ({len(words)} characters)"
    return f"You said: {quoted}{'' if quoted[-1] in '.!?' else '.'}{seen} I am the simulated model, and noted it."


def _echo(name: str, output: str) -> str:
    shown = output.strip()
    if len(shown) > LONGEST_ECHO:
        shown = f"{shown[:LONGEST_ECHO]}... ({len(output)} characters)"
    return f"{name} returned: {shown or 'nothing'}"


def _separated(steps: list[Step]) -> list[Step]:
    """Begin every text but the first on a line of its own."""
    done: list[Step] = []
    said = False
    for step in steps:
        if isinstance(step, Say) and said:
            done.append(Say(f"\n{step.text}", ("\n", *step.pieces) if step.pieces else ()))
        else:
            done.append(step)
        said = said or isinstance(step, Say)
    return done


def _obeyed(steps: tuple[Step, ...], turn: ConversationTurn) -> tuple[Step, ...]:
    """Put the orders of a tool's output where it is to be obeyed, if it has come."""
    done: list[Step] = []
    calls = 0
    waiting = list(steps)
    while waiting:
        step = waiting.pop(0)
        if isinstance(step, Obey):
            if 0 < calls <= len(turn.results):
                orders, _ = prompt_directives.parse(turn.results[calls - 1][1])
                # An output is obeyed once: one that says so itself would never end.
                waiting = [*(each for each in orders if not isinstance(each, Obey)), *waiting]
            continue
        calls += isinstance(step, UseTool | RunCommand)
        done.append(step)
    return tuple(done)


def _repeated(steps: tuple[Step, ...]) -> list[Step]:
    """Carry each repetition out on the text that follows it, or, where none does, on the one before."""
    done: list[Step] = []
    times = 1
    for step in steps:
        if isinstance(step, Repeat):
            times *= max(1, step.times)
        elif isinstance(step, Say) and times > 1:
            done.append(_times(step, times))
            times = 1
        else:
            done.append(step)
    if times > 1:
        for index in range(len(done) - 1, -1, -1):
            step = done[index]
            if isinstance(step, Say):
                done[index] = _times(step, times)
                break
    return done


def _times(step: Say, times: int) -> Say:
    times = min(times, prompt_directives.MOST_REPETITIONS)
    if step.pieces:
        return dataclasses.replace(step, text=step.text * times, pieces=step.pieces * times)
    return Say(" ".join([step.text] * times))


def _parts(steps: list[Step]) -> list[tuple[Step, ...]]:
    """Return one part per answer: a tool call ends it."""
    parts: list[list[Step]] = [[]]
    for step in steps:
        parts[-1].append(step)
        if isinstance(step, UseTool | RunCommand):
            parts.append([])
    return [tuple(part) for part in parts]


def _resolved(step: Step, tools: Mapping[str, Mapping[str, Any]]) -> Step:
    if isinstance(step, UseTool) and step.name not in tools:
        known = [name for name in tools if name.endswith(f"__{step.name}")]
        if len(known) == 1:
            return dataclasses.replace(step, name=known[0])
        if _takes_code(tools):
            return _code(step.name, step.input)
        return Say(f"I would call {step.name} with {json.dumps(step.input)}, but no such tool is offered.")
    if not isinstance(step, RunCommand):
        return step
    for name, key in _SHELLS.items():
        if name in tools:
            return UseTool(name, _shell_input(key, step.command, tools[name]))
    if _takes_code(tools):
        return _code("exec_command", {"cmd": step.command})
    return Say(f"I would run {step.command}, but no shell is offered.")


def _takes_code(tools: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the client is Codex in its code mode: one tool that takes a program, in which the others are
    called."""
    return tools.get("exec", {}).get("type") == "custom"


def _code(name: str, value: Mapping[str, Any]) -> UseTool:
    script = f"const result = await tools.{name}({json.dumps(value)});\ntext(result.output ?? result);\n"
    return UseTool("exec", {"input": script}, freeform=True)


def _shell_input(key: str, command: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    listed = properties.get(key, {}).get("type") == "array"
    value: dict[str, Any] = {key: ["sh", "-c", command] if listed else command}
    for name in schema.get("required") or ():
        if name not in value and properties.get(name, {}).get("type") == "string":
            value[name] = f"Run {command}"
    return value
