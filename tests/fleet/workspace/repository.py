"""A person's repository, and an agent with a clone of it, for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from fleet import workspace
from fleet.workspace import Clone, Collected, Repository
from fleet.workspace import sandboxed_git as git

LIMIT_S = 60.0

#: As whom the person commits; nothing of the settings of whoever runs the tests.
PERSON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.org",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.org",
}


class Ground:
    """The folders of a person and of Muster, below one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "code" / "project"
        self.clone = Clone(agent="coder0", place=folder / "workspaces" / "coder0", folder=folder / "agents" / "coder0")
        self.readonly: tuple[Path, ...] = ()

    # --- the person ---------------------------------------------------------------------------------------------

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """What git says to the person."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.project,
            env=PERSON,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def begin(self) -> Ground:
        """A repository with one commit on main."""
        self.project.mkdir(parents=True)
        self.git("init", "--quiet", "-b", "main")
        self.commit("read.me", "hello")
        return self

    def commit(self, name: str, text: str, *, cwd: Path | None = None) -> str:
        """Commit a file. Returns the commit."""
        ((cwd or self.project) / name).write_text(text)
        self.git("add", "--", name, cwd=cwd)
        self.git("commit", "--quiet", "-m", f"Write {name}.", cwd=cwd)
        return self.git("rev-parse", "HEAD", cwd=cwd)

    def at(self, name: str) -> str | None:
        """The commit that a name stands for in the person's repository."""
        return next(iter(self.git("for-each-ref", "--format=%(objectname)", name).splitlines()), None)

    # --- Muster -------------------------------------------------------------------------------------------------

    def repository(self, folder: Path | None = None) -> Repository:
        found = workspace.find(folder or self.project)
        assert found is not None
        workspace.check(found, (self.folder / "agents", self.folder / "workspaces"))
        return found

    def prepare(self, folder: Path | None = None, *, sandboxed: bool = True) -> Ground:
        """Make the clone, or find it."""
        self.readonly = self.clone.prepare(self.repository(folder), sandboxed=sandboxed)
        return self

    def collect(self) -> Collected | None:
        """Take over what the agent committed, and take note of it."""
        collected = self.clone.collect()
        if collected is not None:
            self.clone.acknowledge(collected)
        return collected

    # --- the agent ----------------------------------------------------------------------------------------------

    def agent(self, script: str, *, status: int = 0) -> str:
        """What a shell in the agent's sandbox says."""
        command = ("/bin/sh", "-ec", script)
        argv = git.inside(command, readonly=self.readonly, writable=(self.clone.place,), cwd=self.clone.place)
        done = subprocess.run(
            argv,
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout.strip()

    def work(self, name: str = "work", text: str = "done") -> str:
        """The agent commits a file. Returns the commit."""
        return self.agent(f"echo {text} > {name}; git add {name}; git commit -qm {name}; git rev-parse HEAD")
