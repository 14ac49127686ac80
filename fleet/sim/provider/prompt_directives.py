"""Orders to the simulated model, written in double brackets into what a person says.

    [[say: TEXT]]             answer TEXT
    [[think: TEXT]]           think TEXT first
    [[run: COMMAND]]          run COMMAND with the shell tool that the client offers, whatever its name
    [[tool: NAME {JSON}]]     call that tool with that input; a tool of an MCP server also by its name there alone
    [[commit: PATH TEXT]]     write TEXT into the file PATH and commit it, with the shell
    [[obey]]                  carry out the orders in what the last tool returned, as a model does that takes
                              what it reads for what its person said
    [[script: PATH]]          carry out the orders in a file: read it with the shell, and obey
    [[stream: N TEXT]]        say TEXT N times, each in a chunk of its own
    [[repeat: N]]             say the following text N times
    [[slow: SECONDS]]         pause so long between chunks, from here on
    [[delay: SECONDS]]        pause once, here
    [[wait: NAME]]            pause here until someone posts to /sim/release/NAME
    [[hang]]                  pause here for ever
    [[error: STATUS xTIMES retry-after=SECONDS billed MESSAGE]]
                              fail: with this HTTP status when nothing was said before, in mid-stream otherwise;
                              only the first TIMES times that this very request comes. billed: the error says what
                              was billed (a status in any API, in mid-stream that of Responses)
    [[disconnect xTIMES]]     break the connection here
    [[short xTIMES]]          close it here, in the middle of the body
    [[unfinished xTIMES]]     end the body here in good order, without the terminal event
    [[fill: BYTES]]           say so much, in large chunks
    [[cache: READ WRITTEN]]   so many tokens of the input came from a cache, and went into one, wherever it is in the
                              text

Orders are carried out from left to right. A tool call ends an answer: what follows it is said when the tool's output
has come. Words around orders are not answered, unless there are only pauses, failures and repetitions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    pieces: tuple[str, ...] = ()
    """How it is cut into chunks; empty: as the provider likes."""


@dataclass(frozen=True, slots=True)
class Think:
    text: str


@dataclass(frozen=True, slots=True)
class UseTool:
    name: str
    input: Mapping[str, Any]
    freeform: bool = False
    """The tool takes text instead of JSON: `input` has it as ``input``."""


@dataclass(frozen=True, slots=True)
class RunCommand:
    command: str


@dataclass(frozen=True, slots=True)
class Obey:
    """Carry out the orders in what the last tool returned."""


@dataclass(frozen=True, slots=True)
class Repeat:
    times: int


@dataclass(frozen=True, slots=True)
class Slow:
    seconds: float


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float


@dataclass(frozen=True, slots=True)
class WaitDirective:
    name: str | None
    """None: for ever."""


@dataclass(frozen=True, slots=True)
class Fail:
    status: int
    message: str = ""
    times: int | None = None
    retry_after: float | None = None
    billed: bool = False
    """The error tells a bill."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    times: int | None = None
    how: Literal["reset", "short", "unfinished"] = "reset"


@dataclass(frozen=True, slots=True)
class CachedInput:
    """So many tokens of the input came from a cache, and went into one."""

    read: int
    written: int


Step: TypeAlias = (
    Say | Think | UseTool | RunCommand | Obey | Repeat | Slow | Delay | WaitDirective | Fail | Disconnect | CachedInput
)

#: More than this is not said, streamed or waited for, whoever asks.
MOST_REPETITIONS = 100_000
LONGEST_PAUSE_S = 3_600.0
LARGEST_FILL = 64 * 1024 * 1024
_FILL_PIECE = 64 * 1024

_OPENING = re.compile(
    r"\[\[\s*(say|think|run|tool|commit|obey|script|stream|repeat|slow|delay|wait|hang|error|disconnect|short|unfinished|fill|cache)"
    r"\b\s*:?[ \t]*",
    re.IGNORECASE,
)
_ERROR = re.compile(
    r"(?P<status>[1-5]\d\d)(?:\s+x(?P<times>\d+))?(?:\s+retry-after=(?P<after>[\d.]+))?"
    r"(?P<billed>\s+billed\b)?\s*(?P<message>.*)",
    re.DOTALL,
)
_RUN_LINE = re.compile(r"^(?:please[ ,]+)?run:?[ \t]+`(?P<command>[^`\n]+)`[ \t.!]*$", re.IGNORECASE | re.MULTILINE)


def parse(text: str) -> tuple[tuple[Step, ...], str]:
    """Return the orders in a text, and the words around them. What looks like an order but cannot be read stays words.

    A line of its own that says "run `COMMAND`" is an order too.
    """
    steps: list[Step] = []
    words: list[str] = []
    place = 0
    while opening := _OPENING.search(text, place):
        found = _read(opening.group(1).lower(), text, opening.end())
        if found is None:
            words.append(text[place : opening.end()])
            place = opening.end()
            continue
        read, end = found
        words.append(text[place : opening.start()])
        steps += read
        place = end
    words.append(text[place:])
    rest = "".join(words).strip()
    if not any(isinstance(step, UseTool | RunCommand | Say) for step in steps) and (line := _RUN_LINE.search(rest)):
        steps.append(RunCommand(line["command"]))
    return tuple(steps), rest


def _read(name: str, text: str, start: int) -> tuple[tuple[Step, ...], int] | None:
    if name == "tool":
        return _read_tool(text, start)
    end = text.find("]]", start)
    if end < 0:
        return None
    argument = text[start:end].strip()
    if name == "script":
        return ((RunCommand(f"cat {shlex.quote(argument)}"), Obey()), end + 2) if argument else None
    step = _step(name, argument)
    return None if step is None else ((step,), end + 2)


def _read_tool(text: str, start: int) -> tuple[tuple[Step, ...], int] | None:
    match = re.compile(r"([\w.:-]+)\s*").match(text, start)
    if match is None:
        return None
    place = match.end()
    value: dict[str, Any] = {}
    if text.startswith("{", place):
        try:
            value, place = json.JSONDecoder().raw_decode(text, place)
        except ValueError:
            return None
    closing = re.compile(r"\s*\]\]").match(text, place)
    return None if closing is None else ((UseTool(match[1], value),), closing.end())


def _step(name: str, argument: str) -> Step | None:
    try:
        match name:
            case "say":
                return Say(argument)
            case "think":
                return Think(argument)
            case "run":
                return RunCommand(argument) if argument else None
            case "commit":
                path, _, content = argument.partition(" ")
                return RunCommand(_commit(path, content)) if path else None
            case "obey":
                return Obey()
            case "stream":
                number, _, text = argument.partition(" ")
                pieces = tuple(f"{text or 'word'} " for _ in range(min(int(number), MOST_REPETITIONS)))
                return Say("".join(pieces), pieces)
            case "repeat":
                return Repeat(min(int(argument), MOST_REPETITIONS))
            case "slow":
                return Slow(_pause(argument))
            case "delay":
                return Delay(_pause(argument))
            case "wait":
                return WaitDirective(argument) if argument else None
            case "hang":
                return WaitDirective(None)
            case "disconnect":
                return Disconnect(_times(argument))
            case "short" | "unfinished":
                return Disconnect(_times(argument), name)
            case "fill":
                size = min(int(argument), LARGEST_FILL)
                text = ("lorem ipsum " * (size // 12 + 1))[:size]
                return Say(text, tuple(text[at : at + _FILL_PIECE] for at in range(0, size, _FILL_PIECE)))
            case "error":
                return _error(argument)
            case "cache":
                read, written = argument.split()
                return CachedInput(max(0, int(read)), max(0, int(written)))
    except ValueError:
        pass
    return None


def _commit(path: str, content: str) -> str:
    file, folder = shlex.quote(path), shlex.quote(os.path.dirname(path) or ".")
    return (
        f"mkdir -p {folder} && printf '%s\\n' {shlex.quote(content)} > {file} && git add -- {file} "
        f"&& git commit -q -m {shlex.quote(f'Write {path}')} && git rev-parse HEAD"
    )


def _pause(argument: str) -> float:
    seconds = float(argument)
    if not 0 <= seconds <= LONGEST_PAUSE_S:
        raise ValueError(argument)
    return seconds


def _times(argument: str) -> int | None:
    return int(argument.removeprefix("x")) if argument else None


def _error(argument: str) -> Fail | None:
    match = _ERROR.fullmatch(argument)
    if match is None:
        return None
    return Fail(
        status=int(match["status"]),
        message=match["message"].strip(),
        times=int(match["times"]) if match["times"] else None,
        retry_after=float(match["after"]) if match["after"] else None,
        billed=match["billed"] is not None,
    )
