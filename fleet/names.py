"""How agents are called. Names become folders, sockets, thread titles and words on command lines."""

from __future__ import annotations

import re

#: Lower-case letters, digits and dashes, beginning with a letter, at most 40 characters.
AGENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def is_agent_name(name: str) -> bool:
    return AGENT_NAME.fullmatch(name) is not None
