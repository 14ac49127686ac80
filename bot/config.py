"""The settings of an installation: ``muster.yaml``, validated as a whole before anything starts.

An absent file or key keeps its meaning for ever: no connectors means one terminal, no operators means only the person
at the terminal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from bot.errors import ConfigError
from connectors import registry
from fleet import durations, liveness, logs, roles, roster, sizes, yamlfile
from fleet.problems import FileProblems, Problem, suggestion
from register import address
from register.errors import MusterError, RegisterError
from register.references import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.paths import Paths

_CONNECTOR_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
#: Keys of every connector's block; the others are the kind's own.
_COMMON_KEYS = ("kind", "fleet_room")
_RUNTIMES = [name for name in roster.RUNTIMES if name != "custom"]


Duration = Annotated[
    float,
    BeforeValidator(durations.of_setting),
    WithJsonSchema({"type": ["string", "number"], "description": "A length of time: 30s, 15m, 2h, 1h30m, 7d."}),
]
"""Seconds, written ``15m``."""


Size = Annotated[
    int,
    BeforeValidator(sizes.of_setting),
    WithJsonSchema({"type": ["string", "integer"], "description": "An amount of data: 200 MB, 1.5 GB, 64 MiB."}),
]
"""Bytes, written ``200 MB``."""


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ModuleNotFoundError, KeyError):
        raise ValueError(f"not a time zone: {value[:60]!r}. Write one like Europe/Vienna, or UTC.") from None
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[!-/:-@\[-`{-~]{1,3}", value) or value in ("/", "@", "#"):
        raise ValueError(
            f"found {value[:20]!r}; one to three signs such as !, ., !! or ~ are allowed (not / @ #, which chat "
            "programs keep for themselves)."
        )
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
        reason = "holds a user or a question mark" if "@" in value or "?" in value else repr(value[:80])
        raise ValueError(f"not a plain URL: {reason}. Write it like https://api.example.org.")
    return value.rstrip("/")


def _pattern(value: str) -> str:
    try:
        matches_nothing = re.compile(f"x|(?:{value})").search("") is None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {value[:80]!r} ({error}).") from None
    if not matches_nothing:
        raise ValueError(f"the pattern {value[:80]!r} fits the empty text, so it would hide everything.")
    return value


def _runtime(value: str) -> str:
    if value not in _RUNTIMES:
        raise ValueError(f"found {value[:60]!r}; allowed are {', '.join(_RUNTIMES)}.{suggestion(value, _RUNTIMES)}")
    return value


def _register_url(value: str) -> str:
    try:
        address.parse(value)
    except RegisterError as error:
        raise ValueError(str(error)) from None
    return value


def _folder(value: str) -> str:
    path = Path(value)
    if value.startswith("~/"):
        path = path.expanduser()
    if not path.is_absolute() or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; an absolute path is wanted, or one that begins with ~/.")
    return str(path)


class Block(BaseModel):
    """A part of muster.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)


class Approvals(Block):
    """How permission requests of agents are treated."""

    timeout: Duration = Field(default=900.0, description="A request that nobody answers is denied after this long.")


class Delivery(Block):
    """How what is said reaches chat."""

    give_up_after: Duration = Field(
        default=86_400.0, description="What could not be delivered for this long becomes a dead letter."
    )


class RedactionSettings(Block):
    """What is hidden in everything that leaves for chat, files or logs, besides what is known to be secret."""

    patterns: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), max_length=100, description="Regular expressions; what they fit is hidden."
    )


class AgentDefaults(Block):
    """What holds for agents whose entry in roster.yaml does not say otherwise."""

    runtime: Annotated[str, AfterValidator(_runtime), WithJsonSchema({"enum": _RUNTIMES})] | None = Field(
        default=None, description="The runtime of agents that are launched without one."
    )
    model: str | None = Field(default=None, description="The model, as the runtime names it.")
    sandbox: Literal["bubblewrap", "none"] | None = Field(
        default=None, description="Absent: bubblewrap. With none, an agent acts as you do and could give Muster orders."
    )
    workspaces: Annotated[str, AfterValidator(_folder)] | None = Field(
        default=None, description="The folder in which each agent gets a workspace of its own."
    )
    initialize_timeout: Duration = Field(
        default=60.0, description="A runtime that says nothing for so long has failed."
    )
    heartbeat: Duration = Field(default=10.0, description="How often a runtime is asked whether it is there.")
    freshness: Duration | None = Field(
        default=None,
        description="An agent that was not heard for so long is unknown. Absent: three heartbeats, at least 30s.",
    )

    messages_per_minute: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Two agents that write to one another more often wait until an operator lets them go on.",
    )
    messages_per_hour: int = Field(
        default=60,
        ge=1,
        le=60_000,
        description="The same, counted over an hour: two that keep within a minute's bound for long.",
    )
    show_messages: bool = Field(
        default=True, description="Whether the room sees a line of each message between agents."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        liveness.check_freshness(self.heartbeat, self.freshness)
        return self


class Watchdog(Block):
    """What is looked after while nobody looks."""

    every: Duration = Field(default=10.0, description="How often the fleet is looked at.")
    turn_silence: Duration = Field(
        default=1800.0,
        description="A turn in which nothing happens for so long is told, and again at doubling intervals.",
    )
    cancel_after: Duration | None = Field(
        default=None, description="A turn in which nothing happens for so long is cancelled. Absent: never."
    )
    expiry_notice: Duration = Field(
        default=120.0, description="So long before it expires, a permission request is brought back to mind."
    )
    settling: Duration = Field(
        default=60.0, description="Where roster and reality differ, that is told once it has lasted so long."
    )


class RegisterSettings(Block):
    """The database."""

    url: Annotated[str, AfterValidator(_register_url)] | None = Field(
        default=None,
        description="sqlite:/// and an absolute path, or postgresql://USER@HOST/DATABASE, whose schema muster is then "
        "used. Absent: a file in the state folder.",
    )
    password: Reference | None = Field(
        default=None,
        description="Where the password for a PostgreSQL server is. Absent: whatever else lets Muster in, such as the "
        "server's own socket.",
    )

    @field_validator("password")
    @classmethod
    def _for_a_server(cls, value: Reference | None, info: ValidationInfo) -> Reference | None:
        if value is not None and not str(info.data.get("url", "postgresql:")).startswith("postgresql:"):
            raise ValueError("an SQLite file has no password. Leave it out, or give register.url a postgresql:// one.")
        return value


class Retention(Block):
    """How much is kept of what only grows. The oldest goes first; what was not told or sent yet never does."""

    journals: Size = Field(default=64 * 2**20, description="Of each agent's journal, behind what was told of it.")
    logs: Size = Field(default=logs.LIMIT, description="The log of Muster, and of each agent host, each.")
    files: Size = Field(default=10**9, description="Files on their way to chat, and those that came from there, each.")


class Account(Block):
    """A login or an API key with one provider of models."""

    provider: Literal["anthropic", "openai"]
    credential: Reference | None = Field(default=None, description="Where the key is. Absent: the runtime's own login.")
    base_url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None, description="Where the provider is reached, when it is not the provider's own address."
    )


PermissionWord = Literal["viewer", "operator", "admin"]


class MusterFile(Block):
    """Muster's settings (muster.yaml)."""

    connectors: dict[str, dict[str, Any] | None] = Field(
        default={}, description="The chat systems, by a name of your choice. Absent: this terminal."
    )
    operators: dict[str, PermissionWord] = Field(
        default={},
        description="Who may command the fleet: an identity such as matrix:@ana:example.org, and its permission.",
    )
    command_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="!", description="What commands begin with."
    )
    accounts: dict[str, Account] = Field(default={}, description="Logins and API keys with providers, by a name.")
    agents: AgentDefaults = AgentDefaults()
    approvals: Approvals = Approvals()
    delivery: Delivery = Delivery()
    redaction: RedactionSettings = RedactionSettings()
    register_: RegisterSettings = Field(default=RegisterSettings(), alias="register")
    retention: Retention = Retention()
    watchdog: Watchdog = Watchdog()
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="The zone in which times are shown, like Europe/Vienna."
    )


_RETENTION = Retention()


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorSettings:
    """One connector as it is configured."""

    name: str
    kind: str
    settings: BaseModel
    """An instance of the kind's settings model."""
    fleet_room: str | None = None
    """The main room, by the connector's own id; None: wherever an operator speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What muster.yaml says, its defaults filled in. Durations are seconds."""

    connectors: tuple[ConnectorSettings, ...]
    broken: Mapping[str, str]
    """Connectors that are configured but cannot be used on this machine, and why."""
    operators: Mapping[str, PermissionWord]
    command_prefix: str
    accounts: Mapping[str, Account]
    agents: AgentDefaults
    approvals: Approvals
    delivery: Delivery
    redaction: RedactionSettings
    watchdog: Watchdog
    register_url: str
    retention: Retention = _RETENTION
    register_password: Reference | None = None
    timezone: ZoneInfo
    warnings: tuple[str, ...] = ()
    """What should be mended, but keeps nothing from starting."""

    def connector(self, name: str) -> ConnectorSettings | None:
        """The connector of that name."""
        return next((each for each in self.connectors if each.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What `muster config check` found in both files."""

    settings: Settings | None
    roster: roster.Roster | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def load(paths: Paths) -> Settings:
    """Read muster.yaml.

    Raises:
        ConfigError: it is not valid; one line per problem.
    """
    try:
        return _load(paths)
    except FileProblems as error:
        raise ConfigError(str(error)) from None


def check(paths: Paths) -> Check:
    """Read muster.yaml and roster.yaml, and what they say of each other."""
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
            roots=() if settings is None or settings.agents.workspaces is None else [Path(settings.agents.workspaces)],
            known_roles=library.names,
        )
    except FileProblems as error:
        problems += error.problems
    warnings = list(settings.warnings if settings else ())
    for path in (paths.roster_yaml, *paths.roles.glob("*.md")):
        if (open_ := yamlfile.open_to_others(path)) and open_ not in warnings:
            warnings.append(open_)
    if fleet is not None:
        problems += yamlfile.in_order(breach.problem for breach in fleet.breaches)
    return Check(settings=settings, roster=fleet, problems=tuple(problems), warnings=tuple(warnings))


def schema(paths: Paths | None = None) -> dict[str, Any]:
    """The JSON schema of muster.yaml, for editors to complete and check it; that of roster.yaml is among its $defs."""
    whole = MusterFile.model_json_schema(by_alias=True)
    blocks: list[dict[str, Any]] = []
    definitions: dict[str, Any] = whole.setdefault("$defs", {})
    common = {
        "kind": {"type": "string", "description": "Absent: the connector's name."},
        "fleet_room": {"type": "string", "description": "The id of the main room."},
    }
    for kind in registry.kinds():
        try:
            model = registry.settings_model(kind)
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
    """The JSON schema of roster.yaml, with the operator's own roles where it is known where they are."""
    return roster.schema(roles.library(None if paths is None else paths.roles).names)


def write_schemas(paths: Paths) -> dict[Path, str]:
    """Write both schemas beside their files; for each the line by which an editor finds it.

    Raises:
        ConfigError: that cannot be done.
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
        document = yamlfile.read(paths.muster_yaml)
    except FileNotFoundError:
        return _settings(MusterFile(), _connectors_of_nothing(), {}, paths, ())
    raw: dict[str, Any] = document.value if isinstance(document.value, dict) else {}
    # Of a section whose lines are all commented out only the name is left.
    document.drop_empty()
    known = document.validate(MusterFile)
    connectors, broken = _connectors(document, raw.get("connectors"))
    _check_operators(document, raw)
    document.check()
    if known is None:
        raise AssertionError("a file that is not valid has a problem")
    warning = yamlfile.open_to_others(paths.muster_yaml)
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
        operators=known.operators,
        command_prefix=known.command_prefix,
        accounts=known.accounts,
        agents=known.agents,
        approvals=known.approvals,
        delivery=known.delivery,
        redaction=known.redaction,
        watchdog=known.watchdog,
        retention=known.retention,
        register_url=known.register_.url or paths.register_url,
        register_password=known.register_.password,
        timezone=ZoneInfo(known.timezone),
        warnings=warnings,
    )


def _connectors_of_nothing() -> tuple[ConnectorSettings, ...]:
    return (ConnectorSettings(name="terminal", kind="terminal", settings=registry.NoSettings()),)


def _connectors(document: yamlfile.Document, raw: object) -> tuple[tuple[ConnectorSettings, ...], dict[str, str]]:
    """Validate each block with its kind's own model; problems go to the document."""
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
                document.report((*at, key), f"found {value!r:.80}; a text is wanted.")
        if not isinstance(kind, str):
            continue
        try:
            model = registry.settings_model(kind)
        except registry.UnknownKind as error:
            named = "kind" in block
            way = "" if named else " Add kind: to give this connector a name of its own."
            document.report((*at, "kind") if named else at, f"{error}{way}")
            continue
        except registry.BrokenKind as error:
            broken[name] = str(error)
            continue
        own = {key: value for key, value in block.items() if key not in _COMMON_KEYS}
        settings = document.validate(model, own, at=at)
        if settings is not None:
            room_id = cast("str | None", room)
            made.append(ConnectorSettings(name=name, kind=kind, settings=settings, fleet_room=room_id))
    return tuple(made), broken


def _check_operators(document: yamlfile.Document, raw: Mapping[str, Any]) -> None:
    connectors, operators, accounts = (
        value if isinstance(value := raw.get(key), dict) else {} for key in ("connectors", "operators", "accounts")
    )
    names = list(connectors or {"terminal": None})
    kinds = {
        name: (block or {}).get("kind", name) for name, block in connectors.items() if isinstance(block, dict | None)
    }
    for identity in operators:
        at = ("operators", identity)
        connector, colon, person = identity.partition(":")
        if not colon or not person.strip() or not identity.isprintable():
            document.report(at, "an identity is a connector's name, a colon and a user, like matrix:@ana:example.org.")
        elif connector not in names:
            there = f" Configured are {', '.join(names)}."
            document.report(at, f"no connector is called {connector!r}.{suggestion(connector, names)}{there}")
        elif kinds.get(connector) == "matrix" and not re.fullmatch(r"@[^:\s]+:\S+", person):
            document.report(at, f"not a Matrix user: {person[:80]!r}. Write it like {connector}:@ana:example.org.")
    for name in accounts:
        if not _CONNECTOR_NAME.fullmatch(name):
            document.report(
                ("accounts", name),
                "an account's name is a lower-case letter, then letters, digits, - and _; at most 32.",
            )
