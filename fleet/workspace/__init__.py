"""Where an agent works: in a clone of the person's repository, on a branch of its own, or in a plain folder.

A workspace is the agent's, and hostile: what is in a repository can run programs in whoever calls git there. So
an agent never works where the person does, in their repository or a worktree of it. It gets a clone; what it commits on
its branch ``muster/AGENT`` is fetched into the person's repository, and nothing else is. Git opens a clone inside the
sandbox only.
"""

from fleet.workspace.branch_update import CloneCondition, Collected
from fleet.workspace.clone import Clone, NotClean, uncommitted
from fleet.workspace.repository_discovery import Repository, check, find
from fleet.workspace.service import Workspace, Workspaces, left_behind
from fleet.workspace.untrusted_files import delete

__all__ = [
    "Clone",
    "CloneCondition",
    "Collected",
    "NotClean",
    "Repository",
    "Workspace",
    "Workspaces",
    "check",
    "delete",
    "find",
    "left_behind",
    "uncommitted",
]
