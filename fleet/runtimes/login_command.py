"""A runtime's own login, run by a person."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError
from fleet.program_lookup import Which
from fleet.runtimes import base_environment as environments
from fleet.runtimes.declaration import Runtime, RuntimeRequest
from fleet.runtimes.preparation import found, furnish

#: Of the person's environment: where the login may be shown.
_SCREEN = ("TERM", "COLORTERM", "DISPLAY", "WAYLAND_DISPLAY")
#: These would open the agent's doors, not the person's.
_AGENTS_OWN = ("NODE_OPTIONS", "NO_BROWSER", "CODEX_CONFIG")


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A runtime's own login, to be run in the person's terminal."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


def login_command(
    runtime: Runtime, home: Path, *, which: Which = shutil.which, environ: Mapping[str, str] = os.environ
) -> Login:
    """Return how to log in with a runtime so that the login ends up in `home`, a folder that is there.

    Raises:
        RuntimeMissing: it is not installed.
        FleetError: it has no login.
    """
    if not runtime.login:
        raise FleetError(
            f"{runtime.title} has no login of its own. Give its account a credential in muster.yaml.",
            code="runtime.no_login",
        )
    program = found(runtime, runtime.login_program or runtime.program, which)
    asked = RuntimeRequest(
        home=home,
        workspace=home,
        sandboxed=True,
        model=None,
        provider=None,
        key=None,
        base_url=None,
        password=secrets.token_urlsafe(),
    )
    answer = runtime.answer(asked)
    furnish(runtime, home)
    screen = {name: environ[name] for name in _SCREEN if name in environ}
    folders = [program.folder] if program.folder is not None else []
    environment = {**environments.base(home, environ, folders), **answer.variables, **screen}
    for variable in _AGENTS_OWN:
        environment.pop(variable, None)
    return Login(command=(*program.command, *runtime.login), environment=environment)
