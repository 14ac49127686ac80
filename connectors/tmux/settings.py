"""The block of a tmux connector in ``muster.yaml``. Light: nothing of tmux is imported here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from connectors.terminal.settings import TerminalSettings

#: The session when none is named. No agent can be called so, so no agent's session ever meets it.
SESSION = "Muster"
WINDOW = "fleet"
#: Bytes that the address of a unix socket may have (unix(7)).
_LONGEST_PATH = 107


def _socket(value: str) -> str:
    if "/" not in value:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}", value):
            raise ValueError(
                f"found {value[:80]!r}; the name of a tmux server as `tmux -L` takes it (letters, digits, _ . -), or "
                "an absolute path as `tmux -S` does. Leave it out for tmux's default server."
            )
        return value
    path = str(Path(value).expanduser()) if value.startswith("~/") else value
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f"found {value[:80]!r}; a path is absolute, or begins with ~/.")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError(f"the path has more than {_LONGEST_PATH} bytes, which no socket may have.")
    return path


def _name(value: str) -> str:
    # tmux would fill in what is behind a #, run what is in #(...), and read . and : as parts of an address.
    if not re.fullmatch(r"\w[\w-]{0,39}", value):
        raise ValueError(f"found {value[:80]!r}; letters, digits, _ and - are allowed, 40 at most.")
    return value


class TmuxSettings(TerminalSettings):
    """One pane on one tmux server of this user's."""

    socket: Annotated[str, AfterValidator(_socket)] | None = Field(
        default=None,
        description="The tmux server: a name as for `tmux -L`, or an absolute path as for `tmux -S`. Absent: tmux's "
        "default server.",
    )
    session: Annotated[str, AfterValidator(_name)] = Field(
        default=SESSION, description="The session for the pane. It is created if needed."
    )
    window: Annotated[str, AfterValidator(_name)] = Field(default=WINDOW, description="The name of the pane's window.")
