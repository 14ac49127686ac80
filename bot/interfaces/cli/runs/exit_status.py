"""The exit status of a shell command that waited for an agent. 0 to 3 mean what they mean for every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.interfaces.cli.output import DONE

#: The agent's turn failed, or it crashed or could not start.
AGENT_FAILED: Final = 4
#: It met a limit of spending.
LIMIT_MET: Final = 5
#: Its time was over.
TIMED_OUT: Final = 6
#: Somebody stopped it, or took the words back.
STOPPED: Final = 7
#: It goes on only when a person acts.
NEEDS_A_PERSON: Final = 8
#: A signal ended the command, and the agent goes on: 128 and the signal's number.
BY_SIGNAL: Final = 128

#: By the state in which the work ended.
OF_STATE: Final[Mapping[str, int]] = {
    "done": DONE,
    "failed": AGENT_FAILED,
    "limit": LIMIT_MET,
    "timed_out": TIMED_OUT,
    "stopped": STOPPED,
    "waiting": NEEDS_A_PERSON,
}
