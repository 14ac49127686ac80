"""Muster's folders with two agents, a person's files beside them, and what runs inside the sandbox of one."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

from fleet import runtimes, sandbox
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import BUILT_IN, SandboxProfile

LIMIT_S = 60.0


class Ground:
    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.hidden = (self.state,)
        self.workspace = self.state / "workspaces" / "coder0"
        self.home = self.state / "agents" / "coder0" / "home"
        self.journal = self.state / "agents" / "coder0" / "journal"
        self.other_home = self.state / "agents" / "coder1" / "home"
        for made in (self.workspace, self.home, self.journal, self.other_home, self.state / "run", folder / "person"):
            made.mkdir(parents=True)
        self.secrets = (
            self.journal / "entries",
            self.other_home / "key",
            self.state / "register.db",
            self.state / "run" / "gateway.sock",
            folder / "person" / "diary",
        )
        for file in self.secrets:
            file.write_text("secret")

    def copied(self, file: Path) -> Path:
        """A copy beside Muster's folders, for users who may not read the original."""
        copy = self.state.parent / file.name
        shutil.copy(file, copy)
        copy.chmod(0o644)
        return copy

    def wrapped(
        self,
        *command: str,
        locked: tuple[str, ...] = (),
        doors: tuple[Path, ...] = (),
        way: EgressGrant | None = None,
        profile: SandboxProfile = BUILT_IN["bubblewrap"],
    ) -> tuple[list[str], dict[str, str]]:
        prepared = runtimes.prepare(runtimes.RUNTIMES["sim"], home=self.home, workspace=self.workspace, model=None)
        prepared = dataclasses.replace(prepared, command=command, locked=tuple(self.home / name for name in locked))
        argv = sandbox.wrap(
            prepared,
            workspace=self.workspace,
            home=self.home,
            hidden=self.hidden,
            doors=doors,
            way=way,
            profile=profile,
        )
        return list(argv), dict(prepared.environment)

    def run(
        self,
        script: str,
        *,
        locked: tuple[str, ...] = (),
        doors: tuple[Path, ...] = (),
        way: EgressGrant | None = None,
        profile: SandboxProfile = BUILT_IN["bubblewrap"],
        **environment: str,
    ) -> str:
        argv, base = self.wrapped("/bin/sh", "-c", script, locked=locked, doors=doors, way=way, profile=profile)
        done = subprocess.run(
            argv, env={**base, **environment}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert "bwrap:" not in done.stderr
        return done.stdout + done.stderr
