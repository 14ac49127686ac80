"""Cutting off and stopping at the egress, without the orchestrator and without the register.

Whoever may connect to the egress's control socket owns this installation, and is its admin. The egress records what it
was told, and the orchestrator takes it into the audit once it can.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bot.auth.owner import owner_identity
from bot.config.paths import Paths
from bot.egress_client import emergency_stop
from bot.text.errors import UserError
from bot.text.timestamps import timestamp
from egress.daemon import sync_control_client
from egress.errors import EgressAbsent, EgressRefused, EgressUnreachable
from egress.paths import EgressPaths


class _Ask(Protocol):
    """One request to the egress, signed where it changes something."""

    def __call__(self, method: str, path: str, **wanted: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """What an emergency stop did."""

    text: str
    warning: str = ""


def stop_all(paths: Paths) -> StopReport:
    """Close all agents' egress at once.

    Raises:
        MusterError: neither its file could be written nor did the egress hear of it.
    """
    unkept: Exception | None = None
    try:
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        emergency_stop.pull(paths.state, by=owner_identity(), at=str(timestamp(time.time())))
    except (UserError, OSError) as error:
        # A running egress can still stop.
        unkept = error
    runs, heard = True, False
    try:
        wanted = {"cause": "muster estop", "by": owner_identity()}
        sync_control_client.request(_control(paths), "POST", "/estop", wanted)
        heard = True
    except EgressAbsent:
        runs = False
    except EgressRefused:
        if unkept is not None:
            # Its message says how long its stop lasts.
            raise
    except EgressUnreachable:
        pass
    if unkept is not None and not heard:
        raise unkept
    silent = "The egress did not answer; it looks at the file before it lets anything out."
    return StopReport(
        text="Everything is stopped: no agent gets out. `muster estop --clear` ends it.",
        warning=silent if runs and not heard else "",
    )


def end_stop(paths: Paths) -> str:
    """End the emergency stop, and return a sentence about it. An egress that does not answer looks for the file."""
    control = _control(paths)
    held = emergency_stop.is_pulled(paths.state)
    with contextlib.suppress(EgressRefused, EgressUnreachable):
        # The egress can hold the stop without its file.
        held = bool(sync_control_client.request(control, "GET", "/standing").get("estop")) or held
        # Clear the egress first, so that the audit log names the person.
        wanted = {"cause": "muster estop --clear", "by": owner_identity()}
        sync_control_client.request(control, "POST", "/estop/clear", wanted)
    emergency_stop.release(paths.state)
    return "The emergency stop is over." if held else "There was no emergency stop."


def cut_off(paths: Paths, name: str) -> str:
    """Cut an agent off past Muster, which enters it into the audit once it can; what to say of it.

    Whoever may connect to the egress's control socket owns this installation, and is its admin.

    Raises:
        MusterError: the egress does not run, does not know the agent, or did not do it.
    """

    def act(ask: _Ask) -> str:
        _known(name, ask("GET", "/status").get("agents") or [])
        streams = ask("POST", "/deny", agent=name, action="cutoff", cause="")["streams"]
        ended = "" if not streams else f" {streams} request{'s' if streams > 1 else ''} ended in the middle."
        return f"Nothing of {name} leaves any more.{ended} `muster egress restore {name}` opens it again."

    return _directly(paths, act)


def restore(paths: Paths, name: str) -> str:
    """Let an agent out again past Muster; return what to say of it. It raises what `cut_off` raises."""

    def act(ask: _Ask) -> str:
        denials = ask("GET", "/standing").get("denials") or []
        if name not in [str(each.get("agent")) for each in denials]:
            _known(name, ask("GET", "/status").get("agents") or [])
            return f"{name} was not cut off; nothing was changed."
        ask("POST", "/allow", agent=name, cause=f"restored by {owner_identity()}")
        return f"{name} may go out again."

    return _directly(paths, act)


def _directly(paths: Paths, act: Callable[[_Ask], str]) -> str:
    control = _control(paths)
    signature = {"by": owner_identity(), "id": f"shell/{secrets.token_hex(8)}"}

    def ask(method: str, path: str, **wanted: str) -> dict[str, Any]:
        return sync_control_client.request(control, method, path, {**wanted, **signature} if wanted else None)

    try:
        said = act(ask)
    except EgressAbsent:
        raise EgressAbsent(
            "The egress does not run, so no agent in a sandbox reaches anything now. `muster estop` stops all, also "
            "after it starts again."
        ) from None
    held = (
        " The emergency stop holds all the same: `muster estop --clear` ends it."
        if emergency_stop.is_pulled(paths.state)
        else ""
    )
    return f"{said}{held}"


def _control(paths: Paths) -> Path:
    """The egress's control socket. `bot.egress_client.process` knows it too, and takes half a second to import."""
    return EgressPaths(state=paths.state, sockets=paths.sockets).control


def _known(name: str, served: Sequence[str]) -> None:
    if name not in served:
        from core.validation_errors import suggestion  # it loads pydantic, during which an agent would go on spending

        there = f"It serves {', '.join(served)}." if served else "It serves nobody."
        raise UserError(
            f"The egress serves no agent called {name[:40]!r}.{suggestion(name, served)} {there} Nothing was changed.",
            code="agent.unknown",
        )
