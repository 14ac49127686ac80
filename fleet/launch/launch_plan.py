"""What an agent would be started as: what was asked for, the roster, the defaults, and what this machine has of it.

Reads, and changes nothing: what is refused here is refused before anything was begun.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from core import log_rotation
from fleet import hosting, roles, runtimes, sandbox
from fleet.errors import FleetError
from fleet.journal import reader
from fleet.launch import model_access
from fleet.launch.model_access import ModelAccount
from fleet.roster import edit
from fleet.roster import loader as roster
from fleet.roster.launch_overrides import FIELDS, LAUNCH_ALONE, Basis, LaunchedAgent, described
from fleet.roster.loader import Roster
from fleet.roster.schema import AgentEntry, Common
from fleet.runtimes import Runtime, preparation
from fleet.sandbox.profiles import BUILT_IN, DEFAULT, JOINS, Kind, SandboxProfile, named, unknown
from fleet.workspace import Repository, Workspaces

#: What an agent is for when no one says.
DEFAULT_ROLE = "coder"
DEFAULT_RUNTIME = "claude"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchDefaults:
    """What holds for agents whose roster entry does not say otherwise. Times in seconds."""

    runtime: str | None = None
    model: str | None = None
    sandbox: str | None = None
    workspaces: str | None = None
    initialize_timeout_s: float = 60.0
    heartbeat_s: float = 10.0
    permission_timeout_s: float = 900.0
    log_bytes: int = log_rotation.LIMIT


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchPlan:
    """An agent as it would be started."""

    name: str
    role: str
    runtime: str
    model: str | None
    sandbox: str
    """The sandbox profile's name."""
    kind: Kind
    """And what it is."""
    workspace: Path
    """The folder that was named for it, or its own."""
    repository: Repository | None
    """That folder as a repository of which the agent gets a clone; None: it works in the folder itself."""
    new: bool
    """The roster has no entry of this name yet."""
    own_workspace: bool
    """The workspace is where Muster puts those that nobody placed elsewhere."""
    said: Mapping[str, str]
    """What was asked for over the roster."""
    basis: Basis
    alias: str | None = None
    """What chat shows beside its name."""
    room: str | None = None
    """Where its thread belongs (``CONNECTOR:ROOM``); None: in the main room."""
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The accounts that it could use, by provider; that of its model first."""

    @property
    def entry(self) -> dict[str, str]:
        """As the roster would say it."""
        entry = {"name": self.name, "role": self.role, "runtime": self.runtime}
        if self.model:
            entry["model"] = self.model
        if not self.own_workspace:
            entry["workspace"] = str(self.workspace)
        # A roster names one profile.
        if JOINS not in self.sandbox and (self.sandbox != DEFAULT or "sandbox" in self.said):
            entry["sandbox"] = self.sandbox
        return entry


class DesiredAgent(LaunchedAgent, Protocol):
    """What the register knows of an agent that is to be started (database.queries.agents.agents.AgentRow)."""

    @property
    def name(self) -> str: ...
    @property
    def workspace(self) -> str: ...
    @property
    def launch_id(self) -> str: ...
    @property
    def basis(self) -> Mapping[str, Any] | None: ...
    @property
    def keep_session(self) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Planner:
    """Decides what agents are started as."""

    folder_of: Callable[[str], Path]
    """The private folder of an agent."""
    workspace_of: Callable[[str], Path]
    """Where an agent works that nobody placed elsewhere, unless the defaults say where."""
    roster: Path
    hidden: Sequence[Path]
    """Muster's own folders, which no sandbox may show."""
    repositories: Path | None = field(default=None, kw_only=True)
    """Where Muster keeps repositories of its own, of which agents get clones."""
    accounts: Mapping[str, ModelAccount]
    defaults: LaunchDefaults
    profiles: Mapping[str, SandboxProfile] = field(default_factory=lambda: BUILT_IN)
    """The sandbox profiles that there are, by name."""
    with_way: bool = False
    """Agents get a way out (fleet.sandbox.egress_grant) before they are started. Otherwise sandboxes have the host's
    network, and agents their accounts' keys."""

    @property
    def workspaces(self) -> Workspaces:
        """Where the agents work."""
        return Workspaces(
            own=self._own_workspace, folder=self.folder_of, hidden=self.hidden, repositories=self.repositories
        )

    def _own_workspace(self, name: str) -> Path:
        if self.defaults.workspaces is not None:
            return Path(self.defaults.workspaces) / name
        return self.workspace_of(name)

    def places(self, name: str, workspace: str) -> bool:
        """Return whether the roster or the defaults put the agent into this folder anyway."""
        entry = roster.load(self.roster).get(name)
        known = [self._own_workspace(name), *([Path(entry.workspace)] if entry and entry.workspace else [])]
        return _expanded(workspace).resolve() in {path.resolve() for path in known}

    def sandbox_kind(self, profile: str) -> Kind | None:
        """Return what kind of sandbox is called so; None: none is now."""
        found = named(profile, self.profiles)
        return None if found is None else found.kind

    # --- deciding -----------------------------------------------------------------------------------------------

    def plan(self, name: str, asked: Mapping[str, str | None]) -> LaunchPlan:
        """Return what `name` would be started as: what was asked for, else its roster entry, else the defaults.

        Args:
            name: the agent.
            asked: by the names of `basis.FIELDS` and `basis.LAUNCH_ALONE`.

        Raises:
            FleetError: it could not be started; the message says what to do.
        """
        fleet = roster.load(self.roster)
        entry = fleet.get(name)
        # An agent that is new gets an entry, for which the roster's defaults hold.
        written = entry or fleet.defaults
        _check_machine(fleet, name)
        runtime = asked.get("runtime") or written.runtime or self.defaults.runtime or DEFAULT_RUNTIME
        if runtime not in runtimes.RUNTIMES:
            raise FleetError(
                f"No runtime is called {runtime!r}; there are {', '.join(sorted(runtimes.RUNTIMES))}.",
                code="runtime.unknown",
            )
        self._check_command(name, runtime, entry)
        wanted_sandbox = asked.get("sandbox") or written.sandbox or self.defaults.sandbox
        placed = asked.get("workspace") or (entry.workspace if entry else None)
        workspace = _expanded(placed) if placed else self._own_workspace(name)
        if not workspace.is_absolute():
            raise FleetError(
                f"The workspace {placed!r} is no absolute path; write it from / or ~/ on.", code="workspace.invalid"
            )
        if placed and not workspace.is_dir():
            raise FleetError(
                f"The workspace {workspace} is no folder; make it first, or leave --workspace out.",
                code="workspace.missing",
            )
        chosen = sandbox.choose(wanted_sandbox, known=self.profiles)
        role = asked.get("role") or written.role or DEFAULT_ROLE
        model = asked.get("model") or written.model or self.defaults.model
        if chosen.programs_of_host:
            _check_installed(runtimes.RUNTIMES[runtime], entry.command if entry is not None else None)
        self.check_access(runtime, written, chosen, role=role, model=model)
        sandboxed = chosen.kind != "none"
        repository = self.workspaces.check(name, workspace, clone=written.clone, sandboxed=sandboxed)
        if repository is not None or sandboxed:
            workspace = workspace.resolve()
        said = {word: value for word in (*FIELDS, *LAUNCH_ALONE) if (value := asked.get(word)) is not None}
        if "workspace" in said:
            said["workspace"] = str(workspace)
        plan = LaunchPlan(
            name=name,
            role=role,
            runtime=runtime,
            model=model,
            sandbox=chosen.name,
            kind=chosen.kind,
            workspace=workspace,
            repository=repository,
            new=entry is None,
            own_workspace=not placed,
            said=said,
            basis=Basis(said=said, roster=described(written)),
            alias=entry.alias if entry is not None else None,
            room=written.room,
            accounts=self.choices(runtime, written, role=role, model=model),
        )
        new_role = asked.get("role") is not None
        edit.check_entry(plan.entry, fleet if entry is None or new_role else None)
        if new_role and role not in (known := self.roles()):
            raise FleetError(f"No {roster.unknown_role(role, known.names).removeprefix('no ')}", code="role.unknown")
        hosting.check(name, hosting_of(written)[0])
        if entry is None:
            # What it says is written into the roster, and is the roster's from then on.
            added = AgentEntry.model_validate(plan.entry)
            alone = {word: value for word, value in said.items() if word in LAUNCH_ALONE}
            return replace(plan, basis=Basis(said=alone, roster=described(fleet.defaults, added)))
        return plan

    def replan(self, row: DesiredAgent) -> LaunchPlan:
        """Return what an agent would be started as now: as the roster says now, but for what its launch said itself.

        One that the roster does not know, or of whose launch nothing more is known, stays what it is.

        Raises:
            FleetError: it could not be started; the message says what to do.
        """
        fleet = roster.load(self.roster)
        entry = fleet.get(row.name)
        before = Basis.from_json(row.basis)
        if entry is None or before is None:
            _check_machine(fleet, row.name)
            return self._as_it_was(row, entry)
        plan = self.plan(row.name, {field: value for field, value in before.said.items() if field != "role"})
        basis = replace(plan.basis, said=before.said)
        plan = replace(plan, role=before.said.get("role", plan.role), basis=basis)
        if plan.own_workspace and "workspace" not in before.roster:
            # No one moved it: where Muster puts new ones may have changed, but its work is here.
            return replace(plan, workspace=Path(row.workspace))
        return plan

    def as_it_is(self, row: DesiredAgent) -> LaunchPlan:
        """Return what an agent is started as that is to be what it was at its launch.

        Raises:
            FleetError: it could not be started; the message says what to do.
        """
        place = self.workspaces.place(row.name, Path(row.workspace))
        if row.keep_session and not place.is_dir() and reader.incarnations(self.folder_of(row.name)):
            raise FleetError(
                f"Its workspace {place} is not there any more. Put it back where it was, or give up its conversation "
                "with it: `kill` does that.",
                code="workspace.missing",
            )
        fleet = roster.load(self.roster)
        _check_machine(fleet, row.name)
        return self._as_it_was(row, fleet.get(row.name))

    def _as_it_was(self, row: DesiredAgent, entry: AgentEntry | None) -> LaunchPlan:
        self._check_command(row.name, row.runtime, entry)
        hosting.check(row.name, hosting_of(entry)[0])
        workspace = Path(row.workspace)
        chosen = sandbox.choose(row.sandbox, known=self.profiles)
        if chosen.programs_of_host:
            _check_installed(runtimes.RUNTIMES[row.runtime], entry.command if entry is not None else None)
        self.check_access(row.runtime, entry, chosen, role=row.role, model=row.model)
        clone = entry.clone if entry is not None else None
        return LaunchPlan(
            name=row.name,
            role=row.role,
            runtime=row.runtime,
            model=row.model,
            sandbox=chosen.name,
            kind=chosen.kind,
            workspace=workspace,
            repository=self.workspaces.check(row.name, workspace, clone=clone, sandboxed=chosen.kind != "none"),
            new=False,
            own_workspace=workspace == self._own_workspace(row.name),
            said={},
            basis=Basis.from_json(row.basis) or Basis(said={}, roster={}),
            accounts=self.choices(row.runtime, entry, role=row.role, model=row.model),
        )

    def _check_command(self, name: str, runtime: str, entry: AgentEntry | None) -> None:
        if runtime == "custom" and (entry is None or entry.command is None):
            raise FleetError(
                f"the runtime custom needs a command line: give {name} an entry in {self.roster.name} with "
                "`command: [program, argument]`.",
                code="runtime.no_command",
            )

    def profile(self, name: str) -> SandboxProfile:
        profile = named(name, self.profiles)
        if profile is None:
            raise FleetError(unknown(name, self.profiles), code="sandbox.unknown")
        return profile

    def check_access(
        self, runtime: str, entry: Common | None, profile: SandboxProfile, *, role: str, model: str | None
    ) -> None:
        if self.with_way:
            found = model_access.chosen(self._choices(runtime, entry, role, model), {})
            model_access.check(runtimes.RUNTIMES[runtime], found[0] if found else None, profile.kind)

    # --- what there is ------------------------------------------------------------------------------------------

    def roles(self) -> roles.Library:
        return roles.library(self.roster.parent / "roles")

    def read_roster(self) -> Roster:
        """Return the roster as it is in its file now.

        Raises:
            RosterError: it is not valid.
        """
        return roster.load(self.roster)

    def _choices(
        self, runtime: str, entry: Common | None, role: str, model: str | None
    ) -> Mapping[str, tuple[ModelAccount, ...]]:
        named = entry.account if entry is not None else None
        found = model_access.choices(runtimes.RUNTIMES[runtime], named, self.accounts, role=role, model=model)
        # Without a way out an agent holds the key of one account.
        return found if self.with_way else dict(list(found.items())[:1])

    def choices(
        self, runtime: str, entry: Common | None, *, role: str, model: str | None
    ) -> Mapping[str, tuple[str, ...]]:
        """Return the names of the accounts that such an agent could use, by provider; that of its model first.

        Raises:
            FleetError: there is none.
        """
        found = self._choices(runtime, entry, role, model)
        return {provider: tuple(account.name for account in each) for provider, each in found.items()}

    def choices_of(self, row: DesiredAgent) -> Mapping[str, tuple[str, ...]]:
        """Return the same of an agent that is to be started as what it is."""
        return self.choices(row.runtime, self.read_roster().get(row.name), role=row.role, model=row.model)

    def accounts_of(
        self, row: DesiredAgent, entry: Common | None, leased: Mapping[str, str]
    ) -> tuple[ModelAccount, ...]:
        """Return the account that an agent uses, and with a way out such others as its program could use as well.

        Args:
            row: the agent.
            entry: what the roster says of it.
            leased: the accounts that it is on, by provider.
        """
        return model_access.chosen(self._choices(row.runtime, entry, row.role, row.model), leased)


def _check_machine(fleet: Roster, name: str) -> None:
    """Refuse an agent that the roster puts on another machine.

    Raises:
        FleetError: it does; the message names file, line and key.
    """
    problem = fleet.elsewhere.get(name if fleet.get(name) is not None else None)
    if problem is not None:
        raise FleetError(str(problem), code="agent.elsewhere")


def _check_installed(runtime: Runtime, command: Sequence[str] | None) -> None:
    """Look for the programs of a runtime as its start will.

    Args:
        runtime: the runtime.
        command: the command line, of the runtime custom alone.

    Raises:
        RuntimeMissing: one is not installed; the message says how to install it.
    """
    program = runtime.program or (command[0] if command else "")
    # A program that the model names is not known before the start puts the name in.
    for name in (program, *runtime.needs.values()):
        if "{model}" not in name:
            preparation.found(runtime, name, shutil.which)


def hosting_of(entry: Common | None) -> tuple[str, str]:
    """Return where an agent runs, and the tmux server that is named for it, as the roster says; empty where none is."""
    if entry is None:
        return hosting.DEFAULT, ""
    return entry.hosting or hosting.DEFAULT, entry.tmux_socket or ""


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FleetError(
            f"the workspace {path!r} begins with a person who is not known here; write it from /.",
            code="workspace.invalid",
        ) from None
