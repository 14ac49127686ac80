"""``roster.yaml``: the fleet as the operator wants it, read strictly, with every problem located.

Two kinds of problems there are. What is wrong with the file or an entry makes it unreadable. What the fleet as a whole
breaks (`Roster.breaches`: the floor, a role that there is not, a workspace out of the way) keeps a roster from being
written or applied, while single agents of it can still be launched by hand.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import boot_id, yaml_loader
from core.secret_references import HOW_TO_REFER
from core.validation_errors import FileProblems, Problem, closest
from fleet import roles
from fleet.errors import RosterError
from fleet.hosting.kinds import DEFAULT, TMUX
from fleet.name_rules import RESERVED, VARIABLE
from fleet.roster import required_roles
from fleet.roster import schema as entries
from fleet.roster.schema import (
    MINIMAL,
    NOT_IN_EFFECT,
    PRESETS,
    RUNTIMES,
    AgentEntry,
    Preset,
    RosterDefaults,
    RosterFile,
)
from fleet.sandbox.profiles import unknown as unknown_profile
from fleet.supervision import liveness

__all__ = ["HEADER", "PRESETS", "RUNTIMES", "AgentEntry", "FleetBreach", "Roster", "load", "read", "schema"]

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

HEADER = """\
# The fleet as you want it. Muster adds an entry when you launch a new agent; comments and order stay yours.
# Check your changes with: muster config check
# Apply them to a running fleet with: muster roster apply
# Let your editor complete this file: muster config schema --write
#
# agents:
#   - name: coder0          # a lower-case letter, then letters, digits and dashes; at most 40
#     role: coder           # what it is for; `muster roles` lists the roles
#     runtime: claude       # claude, codex, opencode, pi, sim, or custom with a command
#     model: opus           # as the runtime names it; absent: the runtime's own default
#     alias: Ada            # what chat shows beside the name
#     persistent: true      # brought up by `muster up`; absent: launched when needed
#     workspace: ~/src/app  # absent: a folder of its own in Muster's state
#     sandbox: bubblewrap   # none lets the agent act as you do: it could read your files and give Muster orders
#     hosting: tmux         # where it runs: process, tmux (`muster attach` looks in) or systemd; absent: process
#     env:                  # all that it gets of the environment; secrets as env:NAME, file:PATH or keyring:NAME
#       EDITOR: "true"
#     prompt: Prefer small commits.
version: 1
"""

_SECRETIVE = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(API_?)?KEY(_|$)", re.IGNORECASE)
#: Names that a problem lists.
_LISTED = 8


@dataclass(frozen=True, slots=True)
class _Known:
    """What entries may name; None: unchecked."""

    accounts: Mapping[str, Any] | None
    sandboxes: Collection[str] | None
    unusable: Callable[[str], str | None] | None = None
    """Why a room cannot be an agent's (``CONNECTOR:ROOM``); None: it can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetBreach:
    """A rule that the fleet as a whole breaks."""

    subject: str
    """Which: the same for the same breach, wherever it stands in the file."""
    problem: Problem


@dataclass(frozen=True, slots=True)
class Roster:
    """The agents, defaults filled in, in the order of the file."""

    agents: tuple[AgentEntry, ...] = ()
    defaults: RosterDefaults = field(default_factory=RosterDefaults)
    preset: Preset | None = None
    workspace_roots: tuple[str, ...] = ()
    """Folders outside the person's home in which workspaces may be."""
    breaches: tuple[FleetBreach, ...] = ()
    not_in_effect: tuple[Problem, ...] = ()
    """Keys that are set and do nothing yet; one for each such key, where it stands first."""
    elsewhere: Mapping[str | None, Problem] = field(default_factory=dict)
    """Why agents cannot run here, by name, because the roster puts them on another machine. None stands for the
    defaults, and so for agents without an entry."""

    def get(self, name: str) -> AgentEntry | None:
        """Return the entry of that agent."""
        return next((entry for entry in self.agents if entry.name == name), None)

    @property
    def minimal(self) -> bool:
        """Whether it needs neither an orchestrator nor an enhancer."""
        return self.preset == MINIMAL or not self.agents


def load(path: Path, *, accounts: Mapping[str, Any] | None = None, sandboxes: Collection[str] | None = None) -> Roster:
    """Read the roster; an absent file is an empty one.

    Args:
        path: the file.
        accounts: the accounts that entries may name; None leaves that unchecked.
        sandboxes: the sandbox profiles that entries may name; None leaves that unchecked.

    Raises:
        RosterError: it is not valid; one line per problem.
    """
    try:
        return read(path, accounts=accounts, sandboxes=sandboxes)
    except FileProblems as error:
        raise RosterError(str(error)) from None


def read(
    path: Path,
    *,
    accounts: Mapping[str, Any] | None = None,
    sandboxes: Collection[str] | None = None,
    roots: Sequence[Path] = (),
    known_roles: Collection[str] | None = None,
    unusable_room: Callable[[str], str | None] | None = None,
) -> Roster:
    """Like `load`, with the problems as values.

    Args:
        path: the file.
        accounts: the accounts that entries may name; None leaves that unchecked.
        sandboxes: the sandbox profiles that entries may name; None leaves that unchecked.
        roots: folders in which workspaces may be, beside the person's home and those that the file names.
        known_roles: the roles that there are; by default those that are shipped, and those in the folder ``roles``
            beside the file.
        unusable_room: says of a room (``CONNECTOR:ROOM``) why it cannot be an agent's; None leaves that unchecked.

    Raises:
        FileProblems: it is not valid.
    """
    if known_roles is None:
        known_roles = roles.library(path.parent / "roles").names
    with _uncollected():
        try:
            document = yaml_loader.read(path)
        except FileNotFoundError:
            return Roster()
        return _understood(document, _Known(accounts, sandboxes, unusable_room), roots, known_roles)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """In a roster of thousands, looking for cycles among what all stays takes as long as everything else."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _understood(
    document: yaml_loader.YamlDocument,
    known: _Known,
    roots: Sequence[Path],
    known_roles: Collection[str],
) -> Roster:
    document.drop_empty()
    raw = document.value if isinstance(document.value, dict) else {}
    written = raw.get("agents")
    listed: list[Any] = written if isinstance(written, list) else []
    if listed:
        # One by one below, so that a mistake in one hides none in another.
        document.value = {**raw, "agents": []}
    file = document.validate(RosterFile)
    document.value = raw or document.value
    defaults = RosterDefaults() if file is None else file.defaults
    _report_environment(document, ("defaults",), defaults.env)
    _report_skills(document, ("defaults",), defaults.skills)
    _report_freshness(document, ("defaults", "freshness"), defaults)
    agents = _entries(document, listed, defaults, known, whole=file is not None)
    document.check()
    if file is None:
        raise AssertionError("a file that is not valid has a problem")
    allowed = [*(Path(root) for root in file.workspace_roots), *roots]
    elsewhere = _elsewhere(document, agents, defaults)
    return Roster(
        agents=agents,
        defaults=defaults,
        preset=file.preset,
        workspace_roots=file.workspace_roots,
        breaches=(
            *(() if file.preset == MINIMAL else _below_the_floor(document, agents, known_roles)),
            *_strange_roles(document, listed, agents, known_roles),
            *_far_workspaces(document, agents, allowed),
            *(
                FleetBreach(subject=f"machine of {name}", problem=problem)
                for name, problem in elsewhere.items()
                if name
            ),
        ),
        elsewhere=elsewhere,
        not_in_effect=tuple(_without_effect(document, raw, listed)),
    )


def schema(known_roles: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON schema of roster.yaml, for editors that complete and check it."""
    whole = RosterFile.model_json_schema()
    if known_roles:
        for block in ("RosterDefaults", "AgentEntry"):
            role = whole["$defs"][block]["properties"]["role"]
            role["anyOf"] = [{"enum": list(known_roles)}, {"pattern": f"^{roles.ROLE_NAME.pattern}$"}, {"type": "null"}]
    return {"$schema": SCHEMA_DIALECT, **whole}


# --- entries -----------------------------------------------------------------------------------------------------


def _entries(
    document: yaml_loader.YamlDocument,
    listed: Sequence[Any],
    defaults: RosterDefaults,
    known: _Known,
    *,
    whole: bool,
) -> tuple[AgentEntry, ...]:
    """Return every entry that is valid, defaults filled in; the problems of the others go to the document."""
    agents: list[AgentEntry] = []
    first: dict[str, int] = {}
    for index, each in enumerate(listed):
        at = ("agents", index)
        entry = document.validate(AgentEntry, each, at=at)
        if entry is None:
            continue
        if entry.name in first:
            line = document.line(("agents", first[entry.name]))
            document.report((*at, "name"), f"a second agent of this name; the first is in line {line}.")
        first.setdefault(entry.name, index)
        _report_environment(document, at, entry.env)
        _report_skills(document, at, entry.skills)
        agents.append(_filled(entry, defaults))
        if whole:
            _report_misfits(document, at, entry, agents[-1], known)
    _report_aliases(document, listed, agents)
    return tuple(agents)


def _filled(entry: AgentEntry, defaults: RosterDefaults) -> AgentEntry:
    missing = {
        name: value for name in defaults.model_fields_set
        if name != "env" and getattr(entry, name) is None and (value := getattr(defaults, name)) is not None
    }  # fmt: skip
    if defaults.env:
        missing["env"] = {**defaults.env, **entry.env}
    return entry.model_copy(update=missing) if missing else entry


def _report_misfits(
    document: yaml_loader.YamlDocument,
    at: tuple[str | int, ...],
    written: AgentEntry,
    entry: AgentEntry,
    known: _Known,
) -> None:
    """What an entry says that does not fit the rest of it, the defaults, or muster.yaml."""
    if entry.runtime == "custom" and entry.command is None:
        document.report((*at, "command"), "is missing: the runtime custom needs a command line.")
    if entry.runtime != "custom" and entry.command is not None:
        document.report(
            (*at, "command"), f"goes with runtime: custom alone; the runtime here is {entry.runtime or 'not said'}."
        )
    if written.freshness is not None or written.heartbeat is not None:
        key = "heartbeat" if written.freshness is None else "freshness"
        _report_freshness(document, (*at, key), entry)
    if known.accounts is not None and entry.account is not None and entry.account not in known.accounts:
        place = at if written.account is not None else ("defaults",)
        there = f"Known are {', '.join(known.accounts)}." if known.accounts else "muster.yaml has no accounts."
        problem_at = (*place, "account")
        document.report(problem_at, f"no account is called {entry.account!r}. {there}")
    if known.sandboxes is not None and entry.sandbox is not None and entry.sandbox not in known.sandboxes:
        place = at if written.sandbox is not None else ("defaults",)
        document.report((*place, "sandbox"), unknown_profile(entry.sandbox, known.sandboxes))
    if known.unusable is not None and entry.room is not None and (reason := known.unusable(entry.room)) is not None:
        document.report((*(at if written.room is not None else ("defaults",)), "room"), reason)


def _report_aliases(document: yaml_loader.YamlDocument, listed: Sequence[Any], agents: Sequence[AgentEntry]) -> None:
    """No one is shown as someone else."""
    taken = {entry.name: entry.name for entry in agents}
    for index, each in enumerate(listed):
        alias = each.get("alias") if isinstance(each, dict) else None
        if not isinstance(alias, str):
            continue
        name = each.get("name")
        owner = taken.setdefault(alias.casefold(), str(name))
        if owner != name:
            document.report(("agents", index, "alias"), f"{alias[:40]!r} is what {owner} is called. Take another.")


def _report_freshness(document: yaml_loader.YamlDocument, at: tuple[str | int, ...], entry: entries.Common) -> None:
    try:
        liveness.check_freshness(entry.heartbeat, entry.freshness)
    except ValueError as error:
        document.report(at, str(error))


def _report_environment(document: yaml_loader.YamlDocument, at: Sequence[str | int], env: Mapping[str, Any]) -> None:
    for name, value in env.items():
        place = (*at, "env", name)
        if not VARIABLE.fullmatch(name):
            document.report(place, "not a name for an environment variable.")
        elif RESERVED.fullmatch(name):
            document.report(place, "is Muster's to set. Leave it out.")
        elif isinstance(value, str) and value and _SECRETIVE.search(name):
            document.report(place, f"looks like a secret, and secrets do not stand in this file. {HOW_TO_REFER}")


# --- the fleet as a whole ----------------------------------------------------------------------------------------


def _below_the_floor(
    document: yaml_loader.YamlDocument, agents: Sequence[AgentEntry], known: Collection[str]
) -> list[FleetBreach]:
    found = required_roles.breaches([(entry.name, entry.role) for entry in agents])
    # Where a role is only spelled wrongly, that is said, and not that no one has it.
    missed = any(each.agent is None for each in found)
    strange = {entry.role for entry in agents if entry.role is not None} - set(known) if missed else set()
    spelled_wrongly = {f"no {closest(role, list(known))}" for role in strange}
    return [
        FleetBreach(
            subject=each.subject,
            problem=document.problem(
                ("agents",) if each.agent is None else ("agents", each.agent, "role"), each.message
            ),
        )
        for each in found
        if each.subject not in spelled_wrongly
    ]


def _strange_roles(
    document: yaml_loader.YamlDocument, listed: Sequence[Any], agents: Sequence[AgentEntry], known: Collection[str]
) -> list[FleetBreach]:
    found = []
    for index, (written, entry) in enumerate(zip(listed, agents, strict=True)):
        if entry.role is not None and entry.role not in known:
            at = ("agents", index, "role") if written.get("role") is not None else ("defaults", "role")
            found.append(
                FleetBreach(
                    subject=f"role of {entry.name}", problem=document.problem(at, unknown_role(entry.role, known))
                )
            )
    return found


def unknown_role(role: str, known: Collection[str]) -> str:
    """Return what to say of a role that there is not."""
    return f"{roles.unknown(role, known)}; a page roles/{role}.md beside roster.yaml makes another."


def _far_workspaces(
    document: yaml_loader.YamlDocument, agents: Sequence[AgentEntry], roots: Sequence[Path]
) -> list[FleetBreach]:
    """Workspaces outside the person's home: more likely a slip than a wish, and a wish can be said."""
    found = []
    for index, entry in enumerate(agents):
        if entry.workspace is None or is_near(entry.workspace, roots):
            continue
        message = (
            f"{entry.workspace} lies outside your home {_homes()[0]}. Move it there, or list a folder that it is in "
            "under workspace_roots at the top of this file."
        )
        at = ("agents", index, "workspace")
        found.append(FleetBreach(subject=f"workspace of {entry.name}", problem=document.problem(at, message)))
    return found


def _elsewhere(
    document: yaml_loader.YamlDocument, agents: Sequence[AgentEntry], defaults: RosterDefaults
) -> dict[str | None, Problem]:
    """Find agents that belong on another machine: this version cannot run them there, and must not run them here."""
    found: dict[str | None, Problem] = {}
    places: list[tuple[str | None, entries.Common, tuple[str | int, ...]]] = [(None, defaults, ("defaults",))]
    places += [(entry.name, entry, ("agents", index)) for index, entry in enumerate(agents)]
    for name, entry, at in places:
        key, wanted = ("ssh", entry.ssh) if entry.host is None else ("host", entry.host)
        if wanted is None or (key == "host" and boot_id.is_this(wanted)):
            continue
        written = (*at, key) if document.has((*at, key)) else ("defaults", key)
        found[name] = document.problem(
            written,
            f"{wanted} is another machine than this one ({boot_id.name()}), and this version runs agents here alone. "
            "Remove the key to run the agent here, or run Muster on that machine.",
        )
    return found


def _report_skills(document: yaml_loader.YamlDocument, at: tuple[str | int, ...], skills: Sequence[str] | None) -> None:
    """Refuse a skill whose name leads out of the folder ``skills`` beside the roster, over a link."""
    root = document.path.parent / "skills"
    for index, skill in enumerate(skills or ()):
        with contextlib.suppress(OSError):
            if not (root / skill).resolve().is_relative_to(root.resolve()):
                document.report(
                    (*at, "skills", index), f"{skill} leads out of {root} over a link. Put the skill itself there."
                )


def is_near(workspace: str, roots: Sequence[Path]) -> bool:
    """Return whether a folder lies in the person's home, or in one of the `roots`."""
    return any(Path(workspace).is_relative_to(root) for root in (*_homes(), *roots))


@functools.cache
def _home(written: str) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((Path(written), Path(written).resolve())))


def _homes() -> tuple[Path, ...]:
    """Return the person's home, as it is written and as it is; the root folder where there is none, so that all is in
    it."""
    written = os.path.expanduser("~")
    return _home(written if os.path.isabs(written) else "/")


def _without_effect(document: yaml_loader.YamlDocument, raw: Mapping[str, Any], listed: Sequence[Any]) -> list[Problem]:
    found = []
    defaults = raw.get("defaults")
    for key, instead in NOT_IN_EFFECT.items():
        places: list[tuple[str | int, ...]] = []
        if isinstance(defaults, dict) and defaults.get(key) is not None:
            places.append(("defaults", key))
        places += [("agents", index, key) for index, each in enumerate(listed) if each.get(key) is not None]
        if places:
            more = f" It is set in {len(places) - 1} more place{'' if len(places) == 2 else 's'}." if places[1:] else ""
            message = f"not in effect in this version: it is kept, and {instead}.{more}"
            found.append(document.problem(places[0], message))
    defaults = defaults if isinstance(defaults, dict) else {}
    if unused := _unused_sockets(defaults, listed):
        found.append(document.problem(unused, "does nothing without `hosting: tmux` beside it."))
    return found


def _unused_sockets(defaults: Mapping[str, Any], listed: Sequence[Any]) -> tuple[str | int, ...] | None:
    """Return where a tmux server is named first for who does not run in tmux."""
    hostings = [each.get("hosting") or defaults.get("hosting") or DEFAULT for each in listed]
    for index, (each, hosting) in enumerate(zip(listed, hostings, strict=True)):
        if each.get("tmux_socket") is not None and hosting != TMUX:
            return ("agents", index, "tmux_socket")
    named = defaults.get("tmux_socket") is not None
    return ("defaults", "tmux_socket") if named and TMUX not in (*hostings, defaults.get("hosting")) else None
