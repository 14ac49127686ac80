"""The places at which an orchestrator and an agent host can be made to die, as they declare them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

_LIST = """
import importlib, pkgutil, sys
for package in sys.argv[1].split():
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith(tuple(sys.argv[2].split()) or ("-",)):
            importlib.import_module(module.name)
from register.crashpoints import places
print("\\n".join(sorted(places())))
"""


@cache
def of_orchestrator() -> frozenset[str]:
    """Every place of the orchestrator's process."""
    # Modules of the agent host's serve the orchestrator too; what they declare is passed by agent hosts.
    listed = _listed("bot connectors register scheduler fleet", "fleet.host fleet.sim register.migrations.env")
    return listed - of_agent_host()


@cache
def of_agent_host() -> frozenset[str]:
    """Every place of an agent host's process."""
    return _listed("fleet.host", "")


def _listed(packages: str, without: str) -> frozenset[str]:
    # In a process of its own: tests declare steps, too.
    listed = subprocess.run(
        [sys.executable, "-P", "-c", _LIST, packages, without], check=True, capture_output=True, text=True
    )
    return frozenset(listed.stdout.split())
