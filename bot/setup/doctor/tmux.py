"""Whether the main room can be shown in tmux, if that is configured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bot.config.loader import Check
from bot.setup.doctor.finding import DoctorFinding
from connectors.tmux.settings import TmuxSettings


def examine(checked: Check, which: Callable[[str], str | None]) -> Iterator[DoctorFinding]:
    """Check the tmux server of each tmux connector; it need not run."""
    for connector in checked.settings.connectors if checked.settings else ():
        if isinstance(connector.settings, TmuxSettings):
            trouble = _trouble(connector.settings, which)
            server, session = connector.settings.socket or "default", connector.settings.session
            yield DoctorFinding(
                name=f"connector {connector.name}",
                state="ok" if trouble is None else "wrong",
                found=trouble or f"can be shown on the tmux server {server}, in the session {session}",
                costs="The fleet's room has no pane. What is said there waits until it has one.",
            )


def _trouble(settings: TmuxSettings, which: Callable[[str], str | None]) -> str | None:
    if which("tmux") is None:
        return "There is no tmux here. Install the package tmux, or remove the connector."
    from connectors.tmux.pane_finder import Trouble, reach

    try:
        reach(settings.socket)
    except Trouble as error:
        return str(error)
    return None
