"""From what is wanted of an agent to what its agent host is told.

Roster, defaults, runtime, credentials and sandbox come together here, and nowhere else. `plan` decides before anything
is started and touches nothing; `start` acts.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fleet import access, editing, hosting, journal, lifecycle, logs, roles, roster, runtimes, sandbox, tools
from fleet.access import Account as Account  # noqa: TC001 - whoever makes an Assembly takes it from here
from fleet.basis import FIELDS, LAUNCH_ALONE, Basis, described
from fleet.entries import AgentEntry
from fleet.errors import FleetError
from fleet.runtimes import preparation
from fleet.sandbox.profiles import BUILT_IN, DEFAULT, unknown
from fleet.spec import AgentSpec
from fleet.way import TURN_FILE, Allowance, WayAsked
from fleet.workspace import Workspaces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fleet.entries import Common
    from fleet.roster import Roster
    from fleet.runtimes import Runtime
    from fleet.sandbox.profiles import Kind, Profile
    from fleet.tools import Tool
    from fleet.way import OpenWay, Way
    from fleet.workspace import Repository

#: What an agent is for when nobody says.
DEFAULT_ROLE = "coder"
DEFAULT_RUNTIME = "claude"


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What holds for agents whose roster entry does not say otherwise. Times in seconds."""

    runtime: str | None = None
    model: str | None = None
    sandbox: str | None = None
    workspaces: str | None = None
    initialize_timeout_s: float = 60.0
    heartbeat_s: float = 10.0
    permission_timeout_s: float = 900.0
    log_bytes: int = logs.LIMIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
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


class Wanted(Protocol):
    """What the register knows of an agent that is to be started (register.queries.agents.AgentRow)."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def sandbox(self) -> str: ...
    @property
    def workspace(self) -> str: ...
    @property
    def launch_id(self) -> str: ...
    @property
    def basis(self) -> Mapping[str, Any] | None: ...
    @property
    def keep_session(self) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Introduction:
    """What an agent is told of the fleet, and which of Muster's own tools it gets."""

    text: str = ""
    tools: Sequence[Tool] = ()


_UNKNOWN = Introduction()


class Granted(Protocol):
    """What was allowed for always (register.queries.approvals.Grant)."""

    @property
    def digest(self) -> str: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    folder_of: Callable[[str], Path]
    socket_of: Callable[[str], Path]
    workspace_of: Callable[[str], Path]
    login_of: Callable[[str], Path]
    """The home in which the login of a runtime is kept."""
    roster: Path
    hidden: Sequence[Path]
    """Muster's own folders, which no sandbox may show."""
    accounts: Mapping[str, Account]
    defaults: Defaults
    environ: Mapping[str, str]
    tools_socket_of: Callable[[str], Path] | None = None
    """Where an agent reaches Muster's own tools; None: it has none."""
    introduce: Callable[[str], Awaitable[Introduction]] | None = None
    """Looks up what the agent of that name is told at its start."""
    viewer_of: Callable[[str], Sequence[str]] = lambda _: ()
    """The command line that shows in a tmux session what the agent of that name says and does."""
    installation: str = ""
    """Tells apart the units of several installations of one person (fleet.hosting.units)."""
    profiles: Mapping[str, Profile] = field(default_factory=lambda: BUILT_IN)
    """The sandbox profiles that there are, by name."""
    open_way: OpenWay | None = None
    """Opens an agent's way out before it is started. None: sandboxes have the host's network, and agents their keys."""

    # --- places -------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """The private folder of an agent."""
        return self.folder_of(name)

    def socket(self, name: str) -> Path:
        """The control socket of an agent host."""
        return self.socket_of(name)

    @property
    def workspaces(self) -> Workspaces:
        """Where the agents work."""
        return Workspaces(own=self._own_workspace, folder=self.folder_of, hidden=self.hidden)

    def _own_workspace(self, name: str) -> Path:
        if self.defaults.workspaces is not None:
            return Path(self.defaults.workspaces) / name
        return self.workspace_of(name)

    def places(self, name: str, workspace: str) -> bool:
        """Whether the roster or the defaults put the agent into this folder anyway."""
        entry = roster.load(self.roster).get(name)
        known = [self._own_workspace(name), *([Path(entry.workspace)] if entry and entry.workspace else [])]
        return _expanded(workspace).resolve() in {path.resolve() for path in known}

    def sandbox_kind(self, profile: str) -> Kind | None:
        """What kind of sandbox is called so; None: none is by now."""
        found = self.profiles.get(profile)
        return None if found is None else found.kind

    # --- deciding -----------------------------------------------------------------------------------------------

    def plan(self, name: str, asked: Mapping[str, str | None]) -> Plan:
        """What `name` would be started as: what was asked for, else its roster entry, else the defaults.

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
        runtime = asked.get("runtime") or written.runtime or self.defaults.runtime or DEFAULT_RUNTIME
        if runtime not in runtimes.RUNTIMES:
            raise FleetError(f"No runtime is called {runtime!r}; there are {', '.join(sorted(runtimes.RUNTIMES))}.")
        self._check_command(name, runtime, entry)
        wanted_sandbox = asked.get("sandbox") or written.sandbox or self.defaults.sandbox
        placed = asked.get("workspace") or (entry.workspace if entry else None)
        workspace = _expanded(placed) if placed else self._own_workspace(name)
        if not workspace.is_absolute():
            raise FleetError(f"The workspace {placed!r} is no absolute path; write it from / or ~/ on.")
        if placed and not workspace.is_dir():
            raise FleetError(f"The workspace {workspace} is no folder; make it first, or leave --workspace out.")
        chosen = sandbox.choose(wanted_sandbox, known=self.profiles)
        self._check_access(runtime, written, chosen)
        sandboxed = chosen.kind != "none"
        repository = self.workspaces.check(name, workspace, clone=written.clone, sandboxed=sandboxed)
        if repository is not None or sandboxed:
            workspace = workspace.resolve()
        said = {word: value for word in (*FIELDS, *LAUNCH_ALONE) if (value := asked.get(word)) is not None}
        if "workspace" in said:
            said["workspace"] = str(workspace)
        plan = Plan(
            name=name,
            role=asked.get("role") or written.role or DEFAULT_ROLE,
            runtime=runtime,
            model=asked.get("model") or written.model or self.defaults.model,
            sandbox=chosen.name,
            kind=chosen.kind,
            workspace=workspace,
            repository=repository,
            new=entry is None,
            own_workspace=not placed,
            said=said,
            basis=Basis(said=said, roster=described(written)),
            alias=entry.alias if entry is not None else None,
        )
        role = asked.get("role")
        editing.check_entry(self._entry_of(plan), fleet if entry is None or role is not None else None)
        if role is not None and role not in (known := self._roles()):
            raise FleetError(f"No {roster.unknown_role(role, known.names).removeprefix('no ')}")
        if chosen.programs_of_host:
            _check_installed(runtimes.RUNTIMES[runtime], entry.command if entry is not None else None)
        hosting.check(name, hosting_of(written)[0])
        if entry is None:
            # What it says is written into the roster, and is the roster's from then on.
            added = AgentEntry.model_validate(self._entry_of(plan))
            alone = {word: value for word, value in said.items() if word in LAUNCH_ALONE}
            return replace(plan, basis=Basis(said=alone, roster=described(fleet.defaults, added)))
        return plan

    def replan(self, row: Wanted) -> Plan:
        """What an agent would be started as now: as the roster says by now, but for what its launch said itself.

        One that the roster does not know, or of whose launch nothing more is known, stays what it is.

        Raises:
            FleetError: it could not be started; the message says what to do.
        """
        entry = roster.load(self.roster).get(row.name)
        before = Basis.from_json(row.basis)
        if entry is None or before is None:
            return self._as_it_was(row, entry)
        plan = self.plan(row.name, {field: value for field, value in before.said.items() if field != "role"})
        basis = replace(plan.basis, said=before.said)
        plan = replace(plan, role=before.said.get("role", plan.role), basis=basis)
        if plan.own_workspace and "workspace" not in before.roster:
            # Nobody moved it: where Muster puts new ones may have changed, but its work is here.
            return replace(plan, workspace=Path(row.workspace))
        return plan

    def as_it_is(self, row: Wanted) -> Plan:
        """What an agent is started as that is to be what it was at its launch.

        Raises:
            FleetError: it could not be started; the message says what to do.
        """
        place = self.workspaces.place(row.name, Path(row.workspace))
        if row.keep_session and not place.is_dir() and journal.incarnations(self.folder(row.name)):
            raise FleetError(
                f"Its workspace {place} is not there any more. Put it back where it was, or give up its conversation "
                "with it: `kill` does that."
            )
        return self._as_it_was(row, roster.load(self.roster).get(row.name))

    def _as_it_was(self, row: Wanted, entry: AgentEntry | None) -> Plan:
        self._check_command(row.name, row.runtime, entry)
        hosting.check(row.name, hosting_of(entry)[0])
        workspace = Path(row.workspace)
        chosen = sandbox.choose(row.sandbox, known=self.profiles)
        if chosen.programs_of_host:
            _check_installed(runtimes.RUNTIMES[row.runtime], entry.command if entry is not None else None)
        self._check_access(row.runtime, entry, chosen)
        clone = entry.clone if entry is not None else None
        return Plan(
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
        )

    def _check_command(self, name: str, runtime: str, entry: AgentEntry | None) -> None:
        if runtime == "custom" and (entry is None or entry.command is None):
            raise FleetError(
                f"the runtime custom needs a command line: give {name} an entry in {self.roster.name} with "
                "`command: [program, argument]`."
            )

    def _profile(self, name: str) -> Profile:
        profile = self.profiles.get(name)
        if profile is None:
            raise FleetError(unknown(name, self.profiles))
        return profile

    def _check_access(self, runtime: str, entry: Common | None, profile: Profile) -> None:
        if self.open_way is not None:
            declared = runtimes.RUNTIMES[runtime]
            access.check(declared, self._account(runtime, entry), profile.kind)

    def _roles(self) -> roles.Library:
        return roles.library(self.roster.parent / "roles")

    def read_roster(self) -> Roster:
        """The roster as it stands in its file now.

        Raises:
            RosterError: it is not valid.
        """
        return roster.load(self.roster)

    def remember(self, plan: Plan) -> None:
        """Write a new agent into the roster.

        Raises:
            RosterError: that cannot be done; the agent runs all the same.
        """
        if plan.new and roster.load(self.roster).get(plan.name) is None:
            editing.add_agent(self.roster, self._entry_of(plan))

    def _entry_of(self, plan: Plan) -> dict[str, str]:
        entry: dict[str, str] = {"name": plan.name, "role": plan.role, "runtime": plan.runtime}
        if plan.model:
            entry["model"] = plan.model
        if not plan.own_workspace:
            entry["workspace"] = str(plan.workspace)
        if plan.sandbox != DEFAULT or "sandbox" in plan.said:
            entry["sandbox"] = plan.sandbox
        return entry

    # --- acting -------------------------------------------------------------------------------------------------

    async def start(self, row: Wanted, *, floor: int, grants: Sequence[Granted]) -> None:
        """Start an agent host, and return when it answers.

        Raises:
            FleetError: it cannot be started; the message is for the operator.
        """
        introduction = await self.introduce(row.name) if self.introduce is not None else Introduction()
        marker = secrets.token_hex(16)
        way = None
        if self.open_way is not None:
            way = await self.open_way(await asyncio.to_thread(self.asks_for_way, row, marker))
        spec = await asyncio.to_thread(self.spec, row, floor, grants, introduction, way=way, marker=marker)
        await lifecycle.spawn(spec)

    def asks_for_way(self, row: Wanted, marker: str) -> WayAsked:
        """What is said of `row` to whoever opens its way out.

        Args:
            row: the agent.
            marker: as its agent host will be told.

        Raises:
            FleetError: it could not use one; the message says what to do.
        """
        profile = self._profile(row.sandbox)
        entry = roster.load(self.roster).get(row.name)
        self._check_access(row.runtime, entry, profile)
        basis = Basis.from_json(row.basis)
        return WayAsked(
            agent=row.name,
            launch_id=row.launch_id,
            role=row.role,
            profile=profile.name,
            profiles=profile.lineage,
            routes=profile.routes,
            accounts={
                account.provider: account.name
                for account in self._accounts(row.runtime, entry)
                if access.by_way(runtimes.RUNTIMES[row.runtime], account, profile.kind)
            },
            listener="port" if profile.kind == "none" else "unix",
            control_socket=str(self.socket(row.name)),
            marker=marker,
            turn_file=str(self.folder(row.name) / TURN_FILE),
            allowances=() if basis is None else _allowances(row.launch_id, basis.said),
        )

    def spec(
        self,
        row: Wanted,
        floor: int,
        grants: Sequence[Granted],
        introduction: Introduction = _UNKNOWN,
        *,
        way: Way | None = None,
        marker: str | None = None,
    ) -> AgentSpec:
        """Everything that the agent host of `row` is told. Makes the folders that it needs.

        Args:
            row: the agent.
            floor: of its journal's incarnations.
            grants: what was allowed for always.
            introduction: what it is told of the fleet.
            way: its way out; None: it uses the host's network, and its account's own key.
            marker: the word by which its processes are found; drawn where none is given.
        """
        fleet = roster.load(self.roster)
        entry = fleet.get(row.name)
        runtime = runtimes.RUNTIMES[row.runtime]
        profile = self._profile(row.sandbox)
        sandboxed = profile.kind != "none"
        hosted, tmux_socket = hosting_of(entry or fleet.defaults)
        folder = self.folder(row.name)
        home = folder / "home"
        for needed in (folder, home):
            needed.mkdir(mode=0o700, parents=True, exist_ok=True)
        settled = self.workspaces.settle(
            row.name,
            Path(row.workspace),
            clone=entry.clone if entry is not None else None,
            sandboxed=sandboxed,
            goes_on=row.keep_session,
        )
        workspace = settled.place
        accounts = self._accounts(row.runtime, entry)
        by_way = way is not None and all(access.by_way(runtime, each, profile.kind) for each in accounts)
        if way is not None and by_way:
            accounts = tuple(access.through(each, way, login=bool(runtime.login)) for each in accounts)
        prepared = runtimes.prepare(
            runtime,
            agent=row.name,
            home=home,
            workspace=workspace,
            model=row.model,
            command=entry.command if entry is not None else None,
            account=accounts[0] if accounts else None,
            extra_environment={
                **(access.environment(way) if way is not None else {}),
                **(access.variables(accounts[1:]) if by_way else {}),
                **self._resolved(profile.env),
                **self._resolved(entry.env if entry is not None else {}),
            },
            login=self.login_of(row.runtime),
            without_login=way is not None and sandboxed,
            sandboxed=sandboxed,
            context=(entry or fleet.defaults).context,
            elsewhere=not profile.programs_of_host,
        )
        instructions = roles.instructions(self._roles().get(row.role), entry.prompt if entry is not None else None)
        command = prepared.command
        door = None
        if self.tools_socket_of is not None and introduction.tools and runtime.tools:
            door = self.tools_socket_of(row.name)
        bridge = tools.readonly(of_host=profile.programs_of_host) if door is not None else ()
        prepared = replace(prepared, readonly=(*prepared.readonly, *settled.readonly, *bridge))
        if sandboxed:
            doors = () if door is None else (door,)
            command = sandbox.wrap(
                prepared, workspace=workspace, home=home, hidden=self.hidden, doors=doors, profile=profile, way=way
            )
        return AgentSpec(
            agent=row.name,
            role=row.role,
            runtime=row.runtime,
            model=row.model,
            launch_id=row.launch_id,
            marker=marker or secrets.token_hex(16),
            folder=str(folder),
            socket=str(self.socket(row.name)),
            workspace=str(workspace),
            sandbox=row.sandbox,
            hosting=hosted,
            tmux_socket=tmux_socket if hosted == hosting.TMUX else "",
            viewer=tuple(self.viewer_of(row.name)) if hosted == hosting.TMUX else (),
            installation=self.installation,
            command=tuple(command),
            environment=prepared.environment,
            cwd=str(workspace),
            removal=sandbox.removal(profile, home),
            way_folder=str(way.socket.parent) if way is not None and way.socket is not None else "",
            adapter=runtime.adapter,
            child_names=runtime.child_names,
            models=prepared.models,
            instructions="\n\n".join(filter(None, (instructions, introduction.text, settled.instructions))),
            session_meta=prepared.session_meta,
            session_mode=prepared.session_mode,
            resume_session=row.keep_session,
            incarnation_floor=floor,
            grants=tuple({"digest": grant.digest, "title": grant.title} for grant in grants),
            initialize_timeout_s=self.defaults.initialize_timeout_s,
            log_bytes=self.defaults.log_bytes,
            heartbeat_s=(entry.heartbeat if entry is not None else None) or self.defaults.heartbeat_s,
            permission_timeout_s=self.defaults.permission_timeout_s,
            hints=prepared.hints,
            tools_socket=str(door or ""),
            tools=tuple(tool.to_json() for tool in introduction.tools) if door is not None else (),
            mcp_servers=(tools.server(door, sandbox.interpreter(profile)),) if door is not None else (),
        )

    def _account(self, runtime: str, entry: Common | None) -> Account | None:
        named = entry.account if entry is not None else None
        return access.account_of(runtimes.RUNTIMES[runtime], named, self.accounts)

    def _accounts(self, runtime: str, entry: Common | None) -> tuple[Account, ...]:
        """The account that an agent uses, and with a way out such others as its program could use as well."""
        account = self._account(runtime, entry)
        if account is None:
            return ()
        named = entry.account if entry is not None else None
        others = access.further(runtimes.RUNTIMES[runtime], named, self.accounts) if self.open_way is not None else ()
        return (account, *others)

    def _resolved(self, written: Mapping[str, Any]) -> dict[str, str]:
        """Variables, those that are references looked up."""
        return {
            name: value if isinstance(value, str) else value.resolve(self.environ) for name, value in written.items()
        }

    def discard_workspace(self, workspace: Path, name: str) -> bool:
        """Delete a workspace that Muster made. False: it lies elsewhere, and stays.

        Raises:
            FleetError: something of it could not be deleted.
        """
        return self.workspaces.discard(name, workspace)


def _allowances(launch_id: str, said: Mapping[str, str]) -> tuple[Allowance, ...]:
    tokens = said.get("budget")
    if tokens is None:
        return ()
    return (Allowance(scope=f"launch:{launch_id}", amount=float(tokens), may_raise="budget_may_raise" in said),)


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
    """Where an agent runs, and the tmux server that is named for it, as the roster says; empty where none is."""
    if entry is None:
        return hosting.DEFAULT, ""
    return entry.hosting or hosting.DEFAULT, entry.tmux_socket or ""


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FleetError(
            f"the workspace {path!r} begins with a person who is not known here; write it from /."
        ) from None


def picture(attachment: Mapping[str, object]) -> dict[str, str]:
    """A picture as the control protocol takes it."""
    path = Path(str(attachment["path"]))
    return {
        "name": str(attachment["name"]),
        "media_type": str(attachment["media_type"]),
        "data": base64.b64encode(path.read_bytes()).decode(),
    }
