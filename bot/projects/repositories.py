"""The repository of a project: the folder that muster.yaml names, and the clone of a URL that becomes one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot.config.paths import Paths
from bot.text import markdown
from bot.text.errors import UserError
from fleet.errors import FleetError
from fleet.workspace import repository_discovery, sandboxed_git

#: Seconds that git may take to clone a project's repository.
CLONE_S: Final = 900.0
#: The protocols that git may use for that; `ext` and others would run programs that the URL names.
ALLOWED: Final = "https:http:ssh:git"


def folder_of(paths: Paths, repo: str) -> Path:
    """Return the folder of a project's repository.

    Raises:
        FleetError: there is no repository in it, or agents cannot get clones of it; the message says what to do.
    """
    folder = Path(repo).expanduser()
    if not folder.is_dir():
        raise FleetError(
            f"The repository {folder} is not there. Put it back, or name another one in muster.yaml.",
            code="project.no_repository",
        )
    found = repository_discovery.find(folder.resolve())
    if found is None:
        raise FleetError(
            f"{folder} is no git repository. Name one with --repo, or make it one with `git init`.",
            code="project.no_repository",
        )
    repository_discovery.check(found, paths.private_folders())
    return found.folder


def copy(url: str, name: str) -> Path:
    """Clone a repository for a project into ``~/muster/NAME``, as the person who runs Muster would.

    Returns:
        The folder; if there is one of this origin already, it is used.

    Raises:
        UserError: git failed, or something else is in the way.
    """
    place = Path("~/muster").expanduser() / name
    program = sandboxed_git.program().command
    if place.exists():
        asked = _git([*program, "-C", str(place), "config", "--get", "remote.origin.url"], 60.0)
        if asked.returncode == 0 and asked.stdout.strip() == url:
            return place
        raise UserError(
            f"{place} is there already, and is no clone of {markdown.code(url)}. Move it away, or name that folder "
            "with --repo.",
            code="project.in_the_way",
        )
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place.parent) as part:
        done = _git([*program, "clone", "--quiet", "--no-recurse-submodules", "--", url, f"{part}/clone"], CLONE_S)
        if done.returncode != 0:
            raise UserError(
                f"git cannot clone {markdown.code(url)}: {sandboxed_git.reason(done.stderr)} Clone it yourself, and "
                "name the folder with --repo.",
                code="project.not_cloned",
            )
        Path(part, "clone").rename(place)
    return place


def _git(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run git with the person's own settings and credentials, but without asking for any."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "GIT_ALLOW_PROTOCOL": ALLOWED}
    environment["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes"
    try:
        return subprocess.run(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"git took longer than {seconds:.0f} s. Clone by hand.", code="project.not_cloned") from None
