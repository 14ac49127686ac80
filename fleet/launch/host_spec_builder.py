"""From what an agent is to be to what its agent host is told, and starting it.

What a plan decided (fleet.launch.launch_plan), the role, the runtime, the credentials and the sandbox come together
here, and nowhere else: the folders and the home are made, and the command line and the environment stand in the
`AgentSpec`.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from fleet import hosting, roles, runtimes, sandbox, tools
from fleet.approval_rules.rules import ApprovalRule
from fleet.control.host_spec import AgentSpec
from fleet.launch import model_access
from fleet.launch.launch_plan import DesiredAgent, Planner, hosting_of
from fleet.launch.simultaneous_starts import simultaneous_starts
from fleet.roster.launch_overrides import Basis
from fleet.roster.schema import AgentEntry
from fleet.runtimes import Prepared, kept_sessions
from fleet.sandbox.egress_grant import TURN_FILE, Allowance, EgressGrant, OpenWay, WayAsked
from fleet.sandbox.profiles import SandboxProfile
from fleet.supervision import host_lifecycle
from fleet.tools import Tool
from fleet.workspace import Workspaces, untrusted_files

#: In an agent's private folder: the conversation of the person's that was copied into its home.
_TAKEN_OVER: Final = "taken-over"
_ID_BYTES: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Introduction:
    """What an agent is told of the fleet, and which of Muster's own tools it gets."""

    text: str = ""
    tools: Sequence[Tool] = ()


_UNKNOWN = Introduction()
_NONE: Mapping[str, str] = MappingProxyType({})


class StandingGrant(Protocol):
    """What was allowed for always (database.queries.chat.approvals.Grant)."""

    @property
    def digest(self) -> str: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    planner: Planner
    socket_of: Callable[[str], Path]
    login_of: Callable[[str], Path]
    """The home in which the login of a runtime is kept."""
    environ: Mapping[str, str]
    """Where references to secrets are looked up."""
    tools_socket_of: Callable[[str], Path] | None = None
    """Where an agent reaches Muster's own tools; None: it has none."""
    introduce: Callable[[str], Awaitable[Introduction]] | None = None
    """Looks up what the agent of that name is told at its start."""
    viewer_of: Callable[[str], Sequence[str]] = lambda _: ()
    """The command line that shows in a tmux session what the agent of that name says and does."""
    ends_with: str = ""
    """The process with which the agent hosts end (fleet.supervision.owner_process); empty: they outlive all others."""
    installation: str = ""
    """Tells apart the units of several installations of one person (fleet.hosting.systemd_unit_text)."""
    accounts_of: Callable[[DesiredAgent], Awaitable[Mapping[str, str]]] | None = None
    """Looks up, or chooses, the account of each provider that an agent is on; None: it uses the first that fits."""
    open_way: OpenWay | None = None
    """Opens an agent's way out before it is started, where the planner says that agents get one."""
    rules_of: Callable[[DesiredAgent], Awaitable[Sequence[ApprovalRule]]] | None = None
    """Looks up the approval rules whose scopes hold for an agent; None: it has none, and all is asked."""
    starting: asyncio.Semaphore = field(default_factory=simultaneous_starts)
    """Held while an agent host starts."""

    def folder(self, name: str) -> Path:
        """Return the private folder of an agent."""
        return self.planner.folder_of(name)

    def socket(self, name: str) -> Path:
        """Return the control socket of an agent host."""
        return self.socket_of(name)

    @property
    def workspaces(self) -> Workspaces:
        """Where the agents work."""
        return self.planner.workspaces

    async def start(
        self, row: DesiredAgent, *, floor: int, grants: Sequence[StandingGrant], withdrawn: Sequence[str] = ()
    ) -> None:
        """Start an agent host, and return when it answers.

        Args:
            row: the agent.
            floor: its incarnation is a later one.
            grants: what was allowed for always.
            withdrawn: messages that were taken back while it did not run.

        Raises:
            FleetError: it cannot be started; the message is for the operator.
        """
        introduction = await self.introduce(row.name) if self.introduce is not None else Introduction()
        marker = secrets.token_hex(16)
        leased = await self.accounts_of(row) if self.accounts_of is not None else {}
        rules = await self.rules_of(row) if self.rules_of is not None else ()
        way = None
        if self.open_way is not None:
            way = await self.open_way(await asyncio.to_thread(self.asks_for_way, row, marker, leased))
        spec = await asyncio.to_thread(
            self.spec, row, floor, grants, introduction, way=way, marker=marker, leased=leased, rules=rules
        )
        async with self.starting:
            await host_lifecycle.spawn(replace(spec, withdrawn=tuple(withdrawn)))

    def asks_for_way(self, row: DesiredAgent, marker: str, leased: Mapping[str, str] = _NONE) -> WayAsked:
        """Return what is said of `row` to whoever opens its way out.

        Args:
            row: the agent.
            marker: as its agent host will be told.
            leased: the accounts that it is on, by provider.

        Raises:
            FleetError: it could not use one; the message says what to do.
        """
        profile = self.planner.profile(row.sandbox)
        entry = self.planner.read_roster().get(row.name)
        self.planner.check_access(row.runtime, entry, profile, role=row.role, model=row.model)
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
                for account in self.planner.accounts_of(row, entry, leased)
                if model_access.by_way(runtimes.RUNTIMES[row.runtime], account, profile.kind)
            },
            listener="port" if profile.kind == "none" else "unix",
            control_socket=str(self.socket(row.name)),
            marker=marker,
            turn_file=str(self.folder(row.name) / TURN_FILE),
            allowances=() if basis is None else _allowances(row.launch_id, basis.said),
        )

    def spec(
        self,
        row: DesiredAgent,
        floor: int,
        grants: Sequence[StandingGrant],
        introduction: Introduction = _UNKNOWN,
        *,
        way: EgressGrant | None = None,
        marker: str | None = None,
        leased: Mapping[str, str] = _NONE,
        rules: Sequence[ApprovalRule] = (),
    ) -> AgentSpec:
        """Everything that the agent host of `row` is told. Makes the folders that it needs.

        Args:
            row: the agent.
            floor: of its journal's incarnations.
            grants: what was allowed for always.
            introduction: what it is told of the fleet.
            way: its way out; None: it uses the host's network, and its account's own key.
            marker: the word by which its processes are found; drawn where none is given.
            leased: the accounts that it is on, by provider.
            rules: its approval rules.
        """
        fleet = self.planner.read_roster()
        entry = fleet.get(row.name)
        runtime = runtimes.RUNTIMES[row.runtime]
        profile = self.planner.profile(row.sandbox)
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
        context = (entry or fleet.defaults).context
        prepared = self._prepared(
            row, entry, profile, home=home, workspace=workspace, context=context, way=way, leased=leased
        )
        taken_over = self._taken_over(row, home, workspace)
        instructions = roles.instructions(
            self.planner.roles().get(row.role), entry.prompt if entry is not None else None
        )
        door = None
        if self.tools_socket_of is not None and introduction.tools and runtime.tools:
            door = self.tools_socket_of(row.name)
        bridge = tools.readonly(of_host=profile.programs_of_host) if door is not None else ()
        prepared = replace(prepared, readonly=(*prepared.readonly, *settled.readonly, *bridge))
        command, terminal = prepared.command, prepared.terminal
        if sandboxed:
            wrap = functools.partial(
                sandbox.wrap,
                workspace=workspace,
                home=home,
                hidden=self.planner.hidden,
                doors=() if door is None else (door,),
                profile=profile,
                way=way,
            )
            command = wrap(prepared)
            terminal = wrap(replace(prepared, command=terminal), terminal=True) if terminal else ()
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
            ends_with=self.ends_with,
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
            aside=runtime.asks and not runtime.no_aside,
            aside_meta=prepared.aside_meta,
            terminal=tuple(terminal),
            taken_over=taken_over,
            resume_session=row.keep_session,
            incarnation_floor=floor,
            grants=tuple({"digest": grant.digest, "title": grant.title} for grant in grants),
            approval_rules=tuple(rule.to_json() for rule in rules),
            sandboxed=sandboxed,
            initialize_timeout_s=self.planner.defaults.initialize_timeout_s,
            log_bytes=self.planner.defaults.log_bytes,
            heartbeat_s=(entry.heartbeat if entry is not None else None) or self.planner.defaults.heartbeat_s,
            permission_timeout_s=self.planner.defaults.permission_timeout_s,
            hints=prepared.hints,
            tools_socket=str(door or ""),
            tools=tuple(tool.to_json() for tool in introduction.tools) if door is not None else (),
            mcp_servers=(tools.server(door, sandbox.interpreter(profile)),) if door is not None else (),
        )

    def _prepared(
        self,
        row: DesiredAgent,
        entry: AgentEntry | None,
        profile: SandboxProfile,
        *,
        home: Path,
        workspace: Path,
        context: int | None,
        way: EgressGrant | None,
        leased: Mapping[str, str],
    ) -> Prepared:
        """Make the agent's runtime ready, with the access to models that its way out gives it."""
        runtime, sandboxed = runtimes.RUNTIMES[row.runtime], profile.kind != "none"
        accounts = self.planner.accounts_of(row, entry, leased)
        by_way = way is not None and all(model_access.by_way(runtime, each, profile.kind) for each in accounts)
        if way is not None and by_way:
            accounts = tuple(model_access.through(each, way, login=bool(runtime.login)) for each in accounts)
        return runtimes.prepare(
            runtime,
            home=home,
            workspace=workspace,
            model=row.model,
            command=entry.command if entry is not None else None,
            account=accounts[0] if accounts else None,
            extra_environment={
                **(model_access.environment(way) if way is not None else {}),
                **(model_access.variables(accounts[1:]) if by_way else {}),
                **self._resolved(profile.env),
                **self._resolved(entry.env if entry is not None else {}),
            },
            login=self.login_of(row.runtime),
            without_login=way is not None and sandboxed,
            sandboxed=sandboxed,
            context=context,
            elsewhere=not profile.programs_of_host,
        )

    def _taken_over(self, row: DesiredAgent, home: Path, workspace: Path) -> str:
        """Bring an agent the person's conversation that its launch named, and return its id; empty if none was named.

        Raises:
            FleetError: it is not there any more.
        """
        basis = Basis.from_json(row.basis)
        session = "" if basis is None else basis.said.get("session", "")
        # Out of the agent's reach. Once it has the conversation, the person's may change or go.
        mark = self.folder(row.name) / _TAKEN_OVER
        if session and untrusted_files.content(mark, _ID_BYTES) != session.encode():
            found = kept_sessions.find(row.runtime, session, Path.home(), self.environ)
            kept_sessions.take_over(row.runtime, found, home=home, cwd=workspace)
            untrusted_files.put(mark, session.encode())
        return session

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
    return (
        Allowance(
            scope=f"launch:{launch_id}",
            amount=float(tokens),
            may_raise="budget_may_raise" in said,
            set_at=float(said.get("budget_set_at", 0.0)),
        ),
    )
