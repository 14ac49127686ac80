"""A forge's repository in a folder, for tests: real git, without a network."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from core.signing.signing_key import SigningKey
from fleet import workspace
from forge.provenance import git_notes
from forge.provenance.notes import note_line
from tests.forge.provenance.records import PLAIN

KEY = SigningKey(b"k" * 32)
PERSON = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@example.org",
    "GIT_COMMITTER_NAME": "Ana", "GIT_COMMITTER_EMAIL": "a@b.c",
}  # fmt: skip


class BareForge:
    """A bare repository, and clones of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = folder / "remote.git"
        self.git(folder, "init", "--quiet", "--bare", "-b", "main", str(self.remote))
        first = self.clone("first")
        for name in ("one", "two", "three"):
            (first / name).write_text(name)
            self.git(first, "add", name)
            self.git(first, "commit", "--quiet", "-m", name)
        self.git(first, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        self.commit = self.git(first, "rev-parse", "HEAD")

    def git(self, folder: Path, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=folder, env=PERSON, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def clone(self, name: str) -> Path:
        self.git(self.folder, "clone", "--quiet", str(self.remote), name)
        return self.folder / name

    def repository(self, folder: Path) -> workspace.Repository:
        found = workspace.find(folder)
        assert found is not None
        return found

    def publish(self, folder: Path, line: str, **how: object) -> None:
        git_notes.publish(self.repository(folder), str(self.remote), self.commit, line, **how)  # type: ignore[arg-type]

    def note(self) -> list[str]:
        """The lines of the note at the remote."""
        return self.git(self.remote, "notes", "--ref=muster", "show", self.commit).splitlines()

    def line(self, run: str, *, key: SigningKey = KEY, audit: str | None = None) -> str:
        """The signed record of a run."""
        return note_line(replace(PLAIN, run=run, audit=audit), self.commit, key)
