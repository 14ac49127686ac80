"""The loader of ``muster.yaml``. It validates the whole file before anything starts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from bot.config import identities, projects
from bot.config.checks import connector_checks
from bot.config.checks import cross_checks as spending
from bot.config.paths import Paths as Paths
from bot.config.schema import Account as Account
from bot.config.schema import ConnectorSettings as ConnectorSettings
from bot.config.schema import MusterFile as MusterFile
from bot.config.schema import PermissionWord as PermissionWord
from bot.config.schema import Settings as Settings
from bot.text.errors import ConfigError
from connectors.contract import connector_registry
from connectors.terminal.settings import TerminalSettings
from core import yaml_loader
from core.errors import MusterError
from core.validation_errors import FileProblems, Problem, suggestion
from fleet import roles
from fleet.roster import loader as roster
from fleet.sandbox import profiles

_CONNECTOR_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PERSON = re.compile(r"[^\W\d_][\w .-]{0,31}")
#: Keys of every connector's block; the kind defines the others.
_COMMON_KEYS = ("kind", "fleet_room", "bridge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """The result of `muster config check` for both files."""

    settings: Settings | None
    roster: roster.Roster | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def load(paths: Paths) -> Settings:
    """Read muster.yaml.

    Raises:
        ConfigError: the file is not valid; the message has one line per problem.
    """
    try:
        return _load(paths)
    except FileProblems as error:
        raise ConfigError(str(error)) from None


def check(paths: Paths) -> Check:
    """Check muster.yaml and roster.yaml, including their references to each other."""
    problems: list[Problem] = []
    settings: Settings | None = None
    fleet: roster.Roster | None = None
    try:
        settings = _load(paths)
    except FileProblems as error:
        problems += error.problems
    library = roles.library(paths.roles)
    problems += library.problems
    try:
        fleet = roster.read(
            paths.roster_yaml,
            accounts=None if settings is None else settings.accounts,
            sandboxes=None if settings is None else {*profiles.BUILT_IN, *settings.sandboxes},
            roots=() if settings is None or settings.agents.workspaces is None else [Path(settings.agents.workspaces)],
            known_roles=library.names,
            unusable_room=None if settings is None else functools.partial(unusable_room, settings),
        )
    except FileProblems as error:
        problems += error.problems
    warnings = list(settings.warnings if settings else ())
    warnings += connector_checks.warnings(settings.connectors) if settings else ()
    for path in (paths.roster_yaml, *paths.roles.glob("*.md")):
        if (open_ := yaml_loader.open_to_others(path)) and open_ not in warnings:
            warnings.append(open_)
    if fleet is not None and settings is not None and settings.budgets.agents:
        warnings += spending.not_in_roster(yaml_loader.read(paths.muster_yaml), [each.name for each in fleet.agents])
    if fleet is not None:
        problems += yaml_loader.in_order(breach.problem for breach in fleet.breaches)
    return Check(settings=settings, roster=fleet, problems=tuple(problems), warnings=tuple(warnings))


def unusable_room(settings: Settings, room: str, *, listed: bool = True) -> str | None:
    """Return the reason why a room (``CONNECTOR:ROOM``) cannot be an agent's, or None if it can.

    Args:
        settings: the configuration.
        room: the room.
        listed: whether the configuration must name the room, so that its connector hears it.
    """
    name, _, conversation = room.partition(":")
    connector = settings.connector(name)
    if connector is not None:
        # A Discord bot reads the channels that are listed; on Matrix it reads every room it is in, unless `rooms` lists
        # some.
        channel = getattr(connector.settings, "channel", None)
        more = getattr(connector.settings, "channels", ())
        heard = (channel, *more) if channel is not None else getattr(connector.settings, "rooms", ())
        if listed and heard and conversation not in (*heard, connector.fleet_room, *settings.project_rooms(name)):
            return (
                f"connectors.{name} does not hear what is said there, but in {', '.join(heard)}. Take one of its rooms."
            )
        return _unusable(type(connector.settings), conversation)
    names = [each.name for each in settings.connectors]
    if name in settings.broken:
        return None
    return f"no connector is called {name!r}.{suggestion(name, names)} Configured are {', '.join(names)}."


def schema(paths: Paths | None = None) -> dict[str, Any]:
    """Return the JSON schema of muster.yaml for editors; its $defs include the schema of roster.yaml."""
    whole = MusterFile.model_json_schema(by_alias=True)
    blocks: list[dict[str, Any]] = []
    definitions: dict[str, Any] = whole.setdefault("$defs", {})
    common: dict[str, dict[str, Any]] = {
        "kind": {"type": "string", "description": "Absent: the connector's name."},
        "fleet_room": {"type": "string", "description": "The main room, by its id; with matrix also by an address."},
        "bridge": {
            "type": "boolean",
            "default": False,
            "description": "Whether its main room mirrors that of the fleet, which is the first one in this file.",
        },
    }
    for kind in connector_registry.kinds():
        try:
            model = connector_registry.settings_model(kind)
        except MusterError:
            continue
        block = model.model_json_schema(by_alias=True)
        definitions |= block.pop("$defs", {})
        block["properties"] = {**common, **block.get("properties", {})}
        block["properties"]["kind"] = {**common["kind"], "const": kind}
        blocks.append(block)
    whole["properties"]["connectors"]["additionalProperties"] = {"anyOf": [*blocks, {"type": "null"}]}
    fleet = roster_schema(paths)
    del fleet["$schema"]
    definitions |= fleet.pop("$defs", {})
    definitions["RosterFile"] = fleet
    return {"$schema": roster.SCHEMA_DIALECT, **whole}


def roster_schema(paths: Paths | None = None) -> dict[str, Any]:
    """Return the JSON schema of roster.yaml, with the operator's own roles if `paths` is given."""
    return roster.schema(roles.library(None if paths is None else paths.roles).names)


def write_schemas(paths: Paths) -> dict[Path, str]:
    """Write both schemas beside their files; return for each the line that refers an editor to it.

    Raises:
        ConfigError: a schema cannot be written.
    """
    made = {}
    for path, content in ((paths.muster_yaml, schema(paths)), (paths.roster_yaml, roster_schema(paths))):
        target = path.with_name(f"{path.stem}.schema.json")
        try:
            paths.config.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}.") from error
        made[target] = f"# yaml-language-server: $schema={target.name}"
    return made


def _load(paths: Paths) -> Settings:
    try:
        text = yaml_loader.read_text(paths.muster_yaml)
    except FileNotFoundError:
        return _settings(MusterFile(), _connectors_of_nothing(), {}, paths, ())
    made = _checked(yaml_loader.parse(paths.muster_yaml, text), paths)
    return replace(made, digest=hashlib.sha256(text.encode()).hexdigest())


def check_text(paths: Paths, text: str) -> Settings:
    """Return the settings that muster.yaml would give with this text, which is not written.

    Raises:
        ConfigError: the text is not valid; the message has one line per problem.
    """
    try:
        return _checked(yaml_loader.parse(paths.muster_yaml, text), paths)
    except FileProblems as error:
        raise ConfigError(str(error)) from None


def _checked(document: yaml_loader.YamlDocument, paths: Paths) -> Settings:
    raw: dict[str, Any] = document.value if isinstance(document.value, dict) else {}
    # A section is empty if all its lines are commented out.
    document.drop_empty()
    known = document.validate(MusterFile)
    connectors, broken = _connectors(document, raw.get("connectors"))
    _check_operators(document, raw)
    if known is not None:
        _check_people(document, raw, known)
    spending.check(document, raw, known, paths)
    if known is not None:
        _check_projects(document, known, [each.name for each in connectors], broken)
    _check_schedules(document, raw, known)
    document.check()
    if known is None:
        raise AssertionError("a file that is not valid has a problem")
    warning = yaml_loader.open_to_others(paths.muster_yaml)
    return _settings(known, connectors, broken, paths, (warning,) if warning else ())


def _settings(
    known: MusterFile,
    connectors: tuple[ConnectorSettings, ...],
    broken: Mapping[str, str],
    paths: Paths,
    warnings: tuple[str, ...],
) -> Settings:
    return Settings(
        connectors=connectors,
        broken=broken,
        operators=_granted(connectors) | known.operators,
        people=known.people,
        command_prefix=known.command_prefix,
        accounts=known.accounts,
        agents=known.agents,
        approvals=known.approvals,
        delivery=known.delivery,
        redaction=known.redaction,
        watchdog=known.watchdog,
        retention=known.retention,
        budgets=known.budgets,
        pacing=known.pacing,
        dispatch=known.dispatch,
        schedules=known.schedules,
        telemetry=known.telemetry,
        metrics=known.metrics,
        sandboxes=projects.profiles(known.projects, known.agents.sandbox, known.sandboxes),
        projects=known.projects,
        rooms=known.rooms,
        topics=known.topics,
        forge=known.forge,
        traces=known.traces,
        web=known.web,
        register_url=known.register_.url or paths.register_url,
        register_password=known.register_.password,
        timezone=ZoneInfo(known.timezone),
        warnings=warnings,
    )


def _granted(connectors: tuple[ConnectorSettings, ...]) -> dict[str, PermissionWord]:
    """Return the permissions that the connectors' own blocks grant to groups of people."""
    found = {}
    for each in connectors:
        granted = getattr(each.settings, "granted", dict)
        found.update({f"{each.name}:{group}": word for group, word in granted().items()})
    return found


def _connectors_of_nothing() -> tuple[ConnectorSettings, ...]:
    return (ConnectorSettings(name="terminal", kind="terminal", settings=TerminalSettings()),)


def _connectors(
    document: yaml_loader.YamlDocument, raw: object
) -> tuple[tuple[ConnectorSettings, ...], dict[str, str]]:
    """Validate each block with its kind's own model, and report problems to the document."""
    made: list[ConnectorSettings] = []
    broken: dict[str, str] = {}
    if not isinstance(raw, dict) or not raw:
        return _connectors_of_nothing(), broken
    for name, block in raw.items():
        at = ("connectors", name)
        if not isinstance(block, dict | None):
            continue  # reported by the file's own model
        block = block or {}
        if not _CONNECTOR_NAME.fullmatch(name):
            document.report(at, "a connector's name is a lower-case letter, then letters, digits, - and _; at most 32.")
            continue
        kind, room = block.get("kind", name), block.get("fleet_room")
        for key, value in (("kind", kind), ("fleet_room", room)):
            if key in block and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
                document.report((*at, key), f"found {value!r:.80}; expected text.")
        bridge = block.get("bridge", False)
        if not isinstance(bridge, bool):
            document.report((*at, "bridge"), f"found {bridge!r:.80}; expected true or false.")
        if not isinstance(kind, str):
            continue
        try:
            model = connector_registry.settings_model(kind)
        except connector_registry.UnknownKind as error:
            named = "kind" in block
            way = "" if named else " Add kind: to give this connector a name of its own."
            document.report((*at, "kind") if named else at, f"{error}{way}")
            continue
        except connector_registry.BrokenKind as error:
            broken[name] = str(error)
            continue
        if isinstance(room, str) and (reason := _unusable(model, room)) is not None:
            document.report((*at, "fleet_room"), reason)
        own = {key: value for key, value in block.items() if key not in _COMMON_KEYS}
        settings = document.validate(model, own, at=at)
        if getattr(settings, "power_levels", None) is not None and room is None and not block.get("rooms"):
            document.report(
                (*at, "power_levels"),
                "levels count in rooms that are named here, and none is. Set fleet_room, or rooms.",
            )
        if settings is not None:
            room_id = cast("str | None", room)
            mirrors = bridge is True
            made.append(ConnectorSettings(name=name, kind=kind, settings=settings, fleet_room=room_id, bridge=mirrors))
    for loc, problem in connector_checks.problems(made, complete=not broken and not document.problems):
        document.report(loc, problem)
    return tuple(made), broken


def _unusable(model: type[BaseModel], room: str) -> str | None:
    """Return the reason why `room` cannot be a room of this kind, or None. Some kinds accept any room."""
    check = getattr(model, "check_room", None)
    try:
        if check is not None:
            check(room)
    except ValueError as error:
        return str(error)
    return None


def _check_operators(document: yaml_loader.YamlDocument, raw: Mapping[str, Any]) -> None:
    connectors, operators, accounts = (
        value if isinstance(value := raw.get(key), dict) else {} for key in ("connectors", "operators", "accounts")
    )
    kinds = {
        name: identities.ConnectorIdentityKind(name=block.get("kind", name), guild=str(block.get("guild")))
        for name, value in (connectors or {"terminal": None}).items()
        for block in [value if isinstance(value, dict) else {}]
    }
    for identity in operators:
        if (problem := identities.problem(identity, kinds)) is not None:
            document.report(("operators", identity), problem)
    for name in accounts:
        if not _CONNECTOR_NAME.fullmatch(name):
            document.report(
                ("accounts", name),
                "an account's name is a lower-case letter, then letters, digits, - and _; at most 32.",
            )


def _check_people(document: yaml_loader.YamlDocument, raw: Mapping[str, Any], known: MusterFile) -> None:
    """Report invalid identities, and identities of more than one person."""
    of: dict[str, str] = {}
    names = list(raw.get("connectors") or {"terminal": None})
    for name, own in known.people.items():
        at = ("people", name)
        if not _PERSON.fullmatch(name):
            document.report(at, "a person's name is a letter, then letters, digits, spaces, -, . and _; at most 32.")
        for identity in own:
            if identity in of:
                document.report(at, f"{identity[:120]} is {of[identity]} already; an identity is one person's.")
            connector, _, person = identity.partition(":")
            if connector not in names or not person.strip():
                document.report(
                    at,
                    f"{identity[:120]!r} is no identity: a connector's name, a colon and a user, as under operators. "
                    f"Configured are {', '.join(names)}.",
                )
            of[identity] = name


def _check_projects(
    document: yaml_loader.YamlDocument, known: MusterFile, connectors: Sequence[str], broken: Mapping[str, str]
) -> None:
    """Report projects and rooms that refer to nothing, and a room of two projects."""
    of: dict[str, str] = {}
    for name, project in known.projects.items():
        at = ("projects", name)
        if not projects.PROJECT_NAME.fullmatch(name):
            document.report(at, "a project's name is a lower-case letter, then letters, digits and -; at most 24.")
        if project.role == projects.ORCHESTRATOR:
            document.report((*at, "role"), "a topic has no orchestrator: the fleet has one. Take another role.")
        if projects.profile_of(name) in known.sandboxes:
            document.report(
                ("sandboxes", projects.profile_of(name)),
                f"this name belongs to the profile of the project {name}. Take another name.",
            )
        if project.room is not None and of.setdefault(project.room, name) != name:
            document.report(
                (*at, "room"), f"this is the room of the project {of[project.room]}. A room belongs to one project."
            )
    rooms = [(("projects", name, "room"), project.room) for name, project in known.projects.items()]
    for loc, room in [*rooms, *((("rooms", room), room) for room in known.rooms)]:
        connector, colon, _ = (room or "").partition(":")
        if room is not None and (not colon or connector not in {*connectors, *broken}):
            document.report(
                loc,
                f"no connector is called {connector[:40]!r}.{suggestion(connector, connectors)} Configured are "
                f"{', '.join(connectors)}.",
            )
    for room, block in known.rooms.items():
        if block.project is not None and block.project not in known.projects:
            names = list(known.projects)
            document.report(
                ("rooms", room, "project"),
                f"no project is called {block.project[:40]!r}.{suggestion(block.project, names)}",
            )
        elif block.words == projects.TOPIC and block.project is None and room not in of:
            document.report(("rooms", room), "words: topic needs a project here. Write which, like project: web.")


def _check_schedules(document: yaml_loader.YamlDocument, raw: Mapping[str, Any], known: MusterFile | None) -> None:
    """Report a `schedules.room` whose connector is missing, or that cannot be a room of that connector."""
    if known is None or known.schedules.room is None:
        return
    blocks = raw.get("connectors") or {"terminal": None}
    names = list(blocks)
    connector, _, room = known.schedules.room.partition(":")
    if connector in names:
        block = blocks[connector] if isinstance(blocks, dict) else None
        with contextlib.suppress(MusterError, AttributeError):
            reason = _unusable(connector_registry.settings_model((block or {}).get("kind", connector)), room)
            if reason is not None:
                document.report(("schedules", "room"), reason)
    else:
        there = f" Configured are {', '.join(names)}."
        document.report(
            ("schedules", "room"),
            f"no connector is called {connector!r}.{suggestion(connector, names)}{there}",
        )
