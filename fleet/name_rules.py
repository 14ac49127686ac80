"""How agents are called, and variables of their environment. Names become folders, sockets, thread titles and words on
command lines."""

from __future__ import annotations

import re

#: Lower-case letters, digits and dashes, beginning with a letter, at most 40 characters.
AGENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Variables that Muster sets, or that are a way to run a program inside the runtime before it starts.
RESERVED = re.compile(r"HOME|PATH|USER|LOGNAME|SHELL|TMPDIR|XDG_.*|MUSTER_.*|LD_.*|DYLD_.*|BASH_ENV|ENV|PYTHON.*")


def is_agent_name(name: str) -> bool:
    return AGENT_NAME.fullmatch(name) is not None
