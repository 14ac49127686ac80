"""What the built-in agent can do beside talking: run a command, write a file. Both only after it was allowed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.sim.agent.session_store import ToolOutput, ToolUse

#: Of a command's output the rest is left out, in bytes.
LONGEST_OUTPUT = 64 * 1024
LONGEST_RUN_S = 600.0

DESCRIPTIONS: Mapping[str, str] = {
    "Bash": "Run a shell command in the workspace and return what it prints.",
    "Write": "Write a text file in the workspace, replacing what was there.",
}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "Bash": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    "Write": {
        "type": "object",
        "properties": {"file_path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["file_path", "content"],
    },
}


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as the model is told of it."""

    name: str
    description: str
    schema: Mapping[str, Any]


OFFERS = tuple(OfferedTool(name, text, SCHEMAS[name]) for name, text in DESCRIPTIONS.items())


def key(call: ToolUse) -> str:
    """Return what is allowed when this call is allowed for always: exactly the same once more."""
    return json.dumps([call.name, call.input], sort_keys=True)


def problem(call: ToolUse) -> str | None:
    """Return why the call cannot be carried out, if its input is not what the schema says."""
    if call.name not in SCHEMAS:
        return f"There is no tool {call.name}."
    for name in SCHEMAS[call.name]["required"]:
        if not isinstance(call.input.get(name), str):
            return f"{call.name} wants text as {name}."
    return None


def title(call: ToolUse) -> str:
    return str(call.input["command"]) if call.name == "Bash" else f"Write {call.input['file_path']}"


async def use(call: ToolUse, workspace: Path) -> ToolOutput:
    """Carry out an allowed call. A cancelled command is killed with all that is in its process group."""
    if call.name == "Bash":
        text, failed = await _run(call.input["command"], workspace)
    else:
        text, failed = _write(call.input["file_path"], call.input["content"], workspace)
    return ToolOutput(call.id, text, failed)


async def _run(command: str, workspace: Path) -> tuple[str, bool]:
    # The model's key is not the command's business.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            cwd=workspace,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"The command could not be started: {error}", True
    output, left_out = bytearray(), 0
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LONGEST_RUN_S):
            while piece := await process.stdout.read(64 * 1024):
                room = LONGEST_OUTPUT - len(output)
                output += piece[:room]
                left_out += max(0, len(piece) - room)
            status = await process.wait()
    except TimeoutError:
        return f"The command was stopped after {LONGEST_RUN_S:g} seconds.", True
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    text = output.decode("utf-8", "replace")
    if left_out:
        text += f"\n({left_out} more bytes left out)"
    if status:
        text += f"\n(exit status {status})"
    return text, status != 0


def _write(name: str, content: str, workspace: Path) -> tuple[str, bool]:
    root = workspace.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        return f"{name} lies outside the workspace {workspace}.", True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except (OSError, UnicodeError) as error:
        return f"{name} could not be written: {error}", True
    return f"Wrote {len(content.encode())} bytes to {name}.", False
