"""Which permission requests of a question on the side are allowed: reads inside the workspace. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.approval_rules.workspace_paths import forms_of
from fleet.host.acp.update_parser import KnownToolCall

#: Kinds of tool calls that change files (Agent Client Protocol, tool kinds).
_CHANGING: Final = frozenset({"edit", "delete", "move"})


def may_read(facts: RequestFacts, verdict: RuleVerdict, workspace: Path) -> bool:
    """Return whether a request is a read inside the workspace, and no rule of the agent denies it or asks a person.

    Rules allow nothing here: what they let an agent do, a question on the side may still not do.
    """
    if facts.kind != "read" or not facts.paths:
        return False
    if verdict.effect == "deny" or (verdict.effect == "ask" and verdict.rule is not None):
        return False
    forms = [forms_of(path, workspace) for path in facts.paths]
    return all(each is not None and each.relative is not None for each in forms)


def has_changed(call: KnownToolCall, status: object) -> bool:
    """Return whether a tool call that was reported with this status has changed a file."""
    return call.tool_kind in _CHANGING and status == "completed"
