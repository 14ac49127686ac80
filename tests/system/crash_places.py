"""The places at which processes of Muster can be made to die, as they declare them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

_LIST = """
import importlib, json, pkgutil, sys
from core.crash_points import places
def load(package):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith(("fleet.sim", "database.migrations.env")):
            importlib.import_module(module.name)
    return sorted(places())
print(json.dumps([load(package) for package in sys.argv[1:]]))
"""


def outside_of_agent_hosts() -> frozenset[str]:
    """Every place of all other processes: the orchestrator's, the egress's and the one that sets a homeserver up."""
    # Modules of the agent host's serve the orchestrator too; what they declare is passed by agent hosts.
    host, *_, all_of_them = _listed()
    return all_of_them - host


def of_agent_host() -> frozenset[str]:
    """Every place of an agent host's process."""
    return _listed()[0]


@cache
def _listed() -> tuple[frozenset[str], ...]:
    """What is declared once the agent host is loaded, and once each further package is."""
    # In a process of its own: tests declare steps, too.
    packages = ("fleet.host", "bot", "connectors", "core", "database", "scheduler", "fleet", "conduit", "egress")
    listed = subprocess.run([sys.executable, "-P", "-c", _LIST, *packages], check=True, capture_output=True, text=True)
    return tuple(frozenset(places) for places in json.loads(listed.stdout))
