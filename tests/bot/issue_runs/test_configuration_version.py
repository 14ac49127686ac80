"""A record names the commit of muster.yaml only if it is the text in force, and its page only at the forge itself."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from bot.issue_runs.configuration_version import configuration_of, page_of

FORGE = "https://git.example.org"
SHA = "a" * 40


def _git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_with_the_text_in_force_is_the_version(tmp_path: Path) -> None:
    file = tmp_path / "muster.yaml"
    file.write_text("connectors: {}\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    bare = configuration_of(digest, file, "gitea", FORGE)
    assert bare is not None
    assert (bare.digest, bare.version, bare.url) == (f"sha256:{digest}", None, None)
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "x")
    _git(tmp_path, "remote", "add", "origin", f"{FORGE}/acme/config.git")
    sha = _git(tmp_path, "rev-parse", "HEAD")
    known = configuration_of(digest, file, "gitea", FORGE)
    assert known is not None
    assert (known.version, known.url) == (sha, f"{FORGE}/acme/config/src/commit/{sha}/muster.yaml")
    other = configuration_of("0" * 64, file, "gitea", FORGE)
    assert other is not None
    assert other.version is None
    assert configuration_of(None, file, "gitea", FORGE) is None


def test_a_repository_elsewhere_is_not_named() -> None:
    for origin in ("ssh://git@example.org/acme/config", "https://intern.example.org/acme/config", f"{FORGE}/a/b/c", ""):
        assert page_of(origin, SHA, "muster.yaml", "gitea", FORGE) is None
    page = page_of("https://github.com/acme/config.git", SHA, "m u.yaml", "github", "https://github.com")
    assert page == f"https://github.com/acme/config/blob/{SHA}/m%20u.yaml"
