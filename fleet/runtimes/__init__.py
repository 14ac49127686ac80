"""The programs that are agents' minds, as data, and how each is made ready for one agent.

What every runtime gets: an environment built from nothing but what is listed (`environment`), a home of its own, no
settings from the project it works in (a repository can otherwise run programs and grant itself permissions), no
self-update. No secret is put on a command line or in a file: keys are in the environment alone.

A runtime is a module with one `Runtime` in it, and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.runtimes import claude, codex, custom, opencode, pi, sim
from fleet.runtimes.declaration import AccountLike, Provider, Runtime
from fleet.runtimes.login_command import Login, login_command
from fleet.runtimes.preparation import Prepared, prepare

__all__ = ["RUNTIMES", "AccountLike", "Login", "Prepared", "Provider", "Runtime", "login_command", "prepare"]

RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (claude.RUNTIME, codex.RUNTIME, opencode.RUNTIME, pi.RUNTIME, sim.RUNTIME, custom.RUNTIME)
}
