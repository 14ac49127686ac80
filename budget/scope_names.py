"""Scopes of budgets as people read and write them. Pure.

The agents of a project have a sandbox profile of their own, and its scope bounds the project. People know it as
``project:web``, and not as ``profile:project-web``.
"""

from __future__ import annotations

from typing import Final

#: How the name of a project's sandbox profile begins.
PROJECT_PROFILE: Final = "project-"
#: The scope in commands for the default allowance of each agent; the egress uses the scope ``host`` for it.
EACH_AGENT: Final = "agent"
_WRITTEN: Final = "project:"
_STORED: Final = f"profile:{PROJECT_PROFILE}"


def shown_scope(scope: str) -> str:
    """Return a scope, or the key of a window that begins with one, as people read it."""
    name = scope.removeprefix(_STORED)
    return scope if name == scope else f"{_WRITTEN}{name}"


def stored_scope(scope: str) -> str:
    """Return a scope as it is stored, the reverse of `shown_scope`."""
    name = scope.removeprefix(_WRITTEN)
    return scope if name == scope else f"{_STORED}{name}"


def scope_of(kind: str, scope: str) -> str:
    """Return the scope in commands for the kind and scope of the egress."""
    return EACH_AGENT if (kind, scope) == ("allowance", "host") else scope
