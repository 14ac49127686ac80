"""Bare git repositories of the forge for tests, with hooks that decline what a real forge declines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_HOOK = r"""#!/bin/sh
# Declines a push as forges do: for everybody (file "decline"), or on protected branches (file "protected").
if [ -f decline ]; then cat decline >&2; exit 1; fi
[ -f protected ] || exit 0
while read -r old new ref; do
    while read -r pattern; do
        case "$ref" in
            refs/heads/$pattern) echo "Gitea: Not allowed to push to protected branch ${ref#refs/heads/}" >&2; exit 1;;
        esac
    done < protected
done
exit 0
"""
QUOTA = "Gitea: quota exceeded: the organization has no space left"


def environment(home: Path) -> dict[str, str]:
    """Return the environment of git commands: no settings but the repository's own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


class BareRepository:
    """One bare repository, used from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.declined: str | None = None
        """What a push is declined with, if it is."""
        self._mergeable: dict[tuple[str, str], bool] = {}
        path.mkdir(parents=True)
        self.run("init", "--quiet", "--bare", "--initial-branch=main", ".")
        for key, value in (("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true"), ("gc.auto", "0")):
            self.run("config", key, value)
        hook = path / "hooks" / "pre-receive"
        hook.write_text(_HOOK)
        hook.chmod(0o755)

    def run(self, *arguments: str, stdin: bytes | None = None, fine: Sequence[int] = (0,)) -> str:
        """Run git in the repository and return its output without the last line end."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            env=environment(self.path),
            timeout=60,
        )
        if done.returncode not in fine:
            raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.decode('utf-8', 'replace')}")
        return done.stdout.decode("utf-8", "replace").removesuffix("\n")

    def commit(
        self, branch: str, files: Mapping[str, str | None], message: str, *, author: str, start: str | None = None
    ) -> str:
        """Commit files onto a branch, and return the commit's id.

        Args:
            branch: it is made if it does not exist.
            files: their content by path; None deletes one.
            message: of the commit.
            author: name of author and committer.
            start: where a new branch begins; without it a new history begins.
        """
        parent = self.sha(f"refs/heads/{branch}") or (self.sha(start) if start is not None else None)
        lines = [
            f"commit refs/heads/{branch}".encode(),
            f"committer {author} <{author}@forge.example> now".encode(),
            _data(message),
            *([f"from {parent}".encode()] if parent is not None else []),
        ]
        for path, content in files.items():
            lines += [f"D {path}".encode()] if content is None else [f"M 100644 inline {path}".encode(), _data(content)]
        self.run("fast-import", "--quiet", "--date-format=now", stdin=b"\n".join([*lines, b""]))
        found = self.sha(f"refs/heads/{branch}")
        assert found is not None
        return found

    def sha(self, ref: str) -> str | None:
        """Return the commit that a ref names, or None."""
        return self.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", fine=(0, 1)) or None

    def refs(self) -> dict[str, str]:
        """Return all refs with what they name."""
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return {ref: sha for ref, _, sha in (line.partition(" ") for line in lines)}

    def fetch(self, source: BareRepository, ref: str, target: str) -> None:
        """Take a ref of another repository, or of this one, as a ref."""
        self.run("fetch", "--quiet", str(source.path), f"+{ref}:{target}")

    def is_mergeable(self, base: str, head: str) -> bool:
        """Return whether git merges two commits without a conflict."""
        if (base, head) not in self._mergeable:
            done = subprocess.run(
                ["git", "merge-tree", "--write-tree", base, head],
                cwd=self.path,
                capture_output=True,
                env=environment(self.path),
                timeout=60,
            )
            self._mergeable[base, head] = done.returncode == 0
        return self._mergeable[base, head]

    def merge_base(self, base: str, head: str) -> str:
        return self.run("merge-base", base, head, fine=(0, 1))

    def diff(self, base: str, head: str) -> str:
        """Return what a pull request changes: from where it branched off."""
        text = self.run("diff", f"{base}...{head}")
        return f"{text}\n" if text else ""

    def merge(self, base_branch: str, head: str, message: str, *, author: str) -> str:
        """Merge a commit into a branch by a merge commit, and return that."""
        base = self.sha(f"refs/heads/{base_branch}")
        assert base is not None
        tree = self.run("merge-tree", "--write-tree", base, head)
        identity = ("-c", f"user.name={author}", "-c", f"user.email={author}@forge.example")
        commit = self.run(*identity, "commit-tree", tree, "-p", base, "-p", head, "-m", message)
        self.run("update-ref", f"refs/heads/{base_branch}", commit, base)
        return commit

    def decline_pushes(self, why: str | None) -> None:
        """Decline each push with a sentence, such as `QUOTA`; None takes pushes again."""
        self.declined = why
        place = self.path / "decline"
        if why is None:
            place.unlink(missing_ok=True)
        else:
            place.write_text(f"{why}\n")

    def protect(self, patterns: Sequence[str]) -> None:
        """Decline pushes to branches of these names or patterns."""
        (self.path / "protected").write_text("".join(f"{pattern}\n" for pattern in patterns))


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%s" % (len(content), content)
