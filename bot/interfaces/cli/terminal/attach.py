"""`muster attach`: a view of an agent's tmux session."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from bot.config.paths import Paths
from bot.text.errors import UserError
from fleet.control.host_spec import AgentSpec
from fleet.hosting import TMUX
from fleet.hosting.host_command_line import SPEC
from fleet.hosting.tmux import TmuxSession, attachment, command
from fleet.name_rules import is_agent_name
from fleet.supervision import host_lifecycle


def attach(paths: Paths, name: str, environ: Mapping[str, str], *, control: bool) -> None:
    """Replace this process with tmux, showing the agent's session. Returns only with an error.

    Raises:
        UserError: there is no session to show; the message says what to do instead.
    """
    words = line(paths, name, control=control)
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UserError(
            f"Watching a session needs a terminal. `muster tail {name}` prints what {name} did.",
            code="terminal.missing",
        )
    # Without TMUX, tmux shows the session inside the person's own session, too.
    os.execvpe(words[0], words, {key: value for key, value in environ.items() if key != "TMUX"})  # noqa: S606


def line(paths: Paths, name: str, *, control: bool) -> list[str]:
    """Return the command line that shows the session.

    Raises:
        UserError: there is none; the message says what to do instead.
    """
    look = f"`muster watch {name}` and `muster tail {name}` show what it does without tmux"
    folder = paths.agent_folder(name) if is_agent_name(name) else None
    if folder is None or not (folder / SPEC).exists():
        raise UserError(
            f"No agent called {name[:60]!r} was ever started here. `muster ps` lists those that there are.",
            code="agent.unknown",
        )
    try:
        spec = AgentSpec.read(folder / SPEC)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"What {name} was started with cannot be read ({error}); {look}.", code="agent.unreadable"
        ) from None
    if not host_lifecycle.is_running(folder):
        start = f"`muster launch {name}` starts it, or `muster resume {name}` where it is frozen"
        raise UserError(f"{name} does not run. {start}; {look}.", code="agent.not_running")
    if spec.hosting != TMUX:
        where = {"systemd": "a systemd unit", "process": "a process of its own"}.get(spec.hosting, spec.hosting)
        raise UserError(
            f"{name} runs in {where}, not in tmux, so there is no session to attach to; {look}. To have it in tmux, "
            f"write `hosting: tmux` into its entry in {paths.roster_yaml}, then `muster restart {name}`.",
            code="agent.not_in_tmux",
        )
    session = TmuxSession(agent=name, folder=folder, socket=spec.tmux_socket or None)
    found = session.name()
    if found is None:
        raise UserError(
            f"{name} runs, but its tmux session was closed, or this shell looks for tmux elsewhere (TMUX_TMPDIR). "
            f"`muster restart {name}` makes another, and {look}.",
            code="agent.not_in_tmux",
        )
    return command(session.socket, *attachment(found, control=control))
