"""The schema of muster.yaml, and the settings that result from it.

The meaning of an absent key never changes: no connectors means one terminal, and no operators means only the person at
the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from bot.config.accounts import Account as Account
from bot.config.approvals import Approvals
from bot.config.dispatch import Dispatch
from bot.config.forge.settings import ForgeBlock
from bot.config.limits import Budgets
from bot.config.pacing import Pacing
from bot.config.projects import ProjectBlock, RoomBlock, TopicsBlock
from bot.config.reports import Schedules
from bot.config.sandbox_profiles import ProfileBlock
from bot.config.surfaces.web import WebBlock
from bot.config.telemetry import MetricsBlock, Telemetry, TracesBlock
from bot.config.types import Block, Duration, Folder, Pattern, Size
from core import log_rotation as logs
from core.errors import RegisterError
from core.secret_references import Reference
from core.validation_errors import suggestion
from database.engine import dsn
from fleet.roster import loader
from fleet.sandbox.profiles import NAME as PROFILE_NAME
from fleet.supervision import liveness

_RUNTIMES = [name for name in loader.RUNTIMES if name != "custom"]


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
            "clients reserve)."
        )
    return value


def _runtime(value: str) -> str:
    if value not in _RUNTIMES:
        raise ValueError(f"found {value[:60]!r}; allowed are {', '.join(_RUNTIMES)}.{suggestion(value, _RUNTIMES)}")
    return value


def _register_url(value: str) -> str:
    try:
        dsn.parse(value)
    except RegisterError as error:
        raise ValueError(str(error)) from None
    return value


class DeliveryBlock(Block):
    """Message delivery to chat."""

    give_up_after: Duration = Field(
        default=86_400.0, description="How long to try to deliver a message before it becomes a dead letter."
    )


class RedactionSettings(Block):
    """Patterns to mask in chat, files and logs, in addition to the known secrets."""

    patterns: tuple[Pattern, ...] = Field(
        default=(), max_length=100, description="Regular expressions. What they match is masked."
    )


class AgentDefaults(Block):
    """Defaults for agents whose entry in roster.yaml does not override them."""

    runtime: Annotated[str, AfterValidator(_runtime), WithJsonSchema({"enum": _RUNTIMES})] | None = Field(
        default=None, description="The default runtime of agents."
    )
    model: str | None = Field(default=None, description="The default model, by the runtime's name for it.")
    sandbox: Annotated[str, Field(pattern=f"^{PROFILE_NAME.pattern}$")] | None = Field(
        default=None,
        description=(
            "bubblewrap, none, or one of `sandboxes`. Default: bubblewrap. With none, an agent can do "
            "all that you can, including commands to Muster."
        ),
    )
    workspaces: Folder | None = Field(default=None, description="The folder for agents' workspaces.")
    initialize_timeout: Duration = Field(default=60.0, description="How long a runtime may take to start.")
    heartbeat: Duration = Field(default=10.0, description="How often each runtime is asked for a sign of life.")
    freshness: Duration | None = Field(
        default=None,
        description=(
            "How long after its last sign of life an agent's state becomes unknown. Default: three "
            "heartbeats, at least 30s."
        ),
    )

    messages_per_minute: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="How many messages a pair of agents may exchange per minute before an operator must allow more.",
    )
    messages_per_hour: int = Field(
        default=60,
        ge=1,
        le=60_000,
        description="The same per hour.",
    )
    show_messages: bool = Field(
        default=True, description="Whether the room shows a line for each message between agents."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        liveness.check_freshness(self.heartbeat, self.freshness)
        return self


class WatchdogBlock(Block):
    """The periodic checks of the fleet."""

    every: Duration = Field(default=10.0, description="How often the watchdog checks the fleet.")
    turn_silence: Duration = Field(
        default=1800.0,
        description="How long a turn may be silent before it is reported, and again at doubling intervals.",
    )
    cancel_after: Duration | None = Field(
        default=None, description="How long a turn may be silent before it is cancelled. Default: never."
    )
    expiry_notice: Duration = Field(
        default=120.0, description="How long before a permission request expires its reminder is posted."
    )
    settling: Duration = Field(
        default=60.0, description="How long the roster and what runs may differ before that is reported."
    )


class RegisterSettings(Block):
    """The database."""

    url: Annotated[str, AfterValidator(_register_url)] | None = Field(
        default=None,
        description=(
            "sqlite:/// and an absolute path, or postgresql://USER@HOST/DATABASE, whose schema muster is "
            "used. Default: a file in the state folder."
        ),
    )
    password: Reference | None = Field(
        default=None,
        description="A reference to the PostgreSQL password. Default: none, for example with a local socket.",
    )

    @field_validator("password")
    @classmethod
    def _for_a_server(cls, value: Reference | None, info: ValidationInfo) -> Reference | None:
        if value is not None and not str(info.data.get("url", "postgresql:")).startswith("postgresql:"):
            raise ValueError("an SQLite file has no password. Leave it out, or give register.url a postgresql:// one.")
        return value


class Retention(Block):
    """How much of journals, logs and files is kept, and how long topics that ended are.

    The oldest data is deleted first, undelivered data never.
    """

    journals: Size = Field(default=64 * 2**20, description="Each agent's journal, as far as it was posted.")
    logs: Size = Field(default=logs.LIMIT, description="Muster's log, and each agent host's log.")
    files: Size = Field(default=10**9, description="Files to chat, and files from chat, each.")
    topics: Duration = Field(
        default=30 * 86_400.0,
        description=(
            "How long after its end a topic is kept, with its agent and its journal, and how long the agent of a run. "
            "A clone with work that is nowhere else stays."
        ),
    )


PermissionWord = Literal["viewer", "operator", "admin"]


class MusterFile(Block):
    """Muster's settings (muster.yaml)."""

    connectors: dict[str, dict[str, Any] | None] = Field(
        default={}, description="The chat systems, by a name of your choice. Default: this terminal."
    )
    operators: dict[str, PermissionWord] = Field(
        default={},
        description=(
            "Who may command the fleet: an identity such as matrix:@ana:example.org, or everyone with a "
            "role (discord:role:123456789012345678), and the permission."
        ),
    )
    people: dict[str, tuple[str, ...]] = Field(
        default={},
        description=(
            "Identities that belong to one person, by the name that other rooms show. They share one place "
            "in the task queue. Permissions are under operators."
        ),
    )
    command_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="!", description="The prefix of commands in chat."
    )
    accounts: dict[str, Account] = Field(default={}, description="Logins and API keys with providers, by a name.")
    agents: AgentDefaults = AgentDefaults()
    approvals: Approvals = Approvals()
    budgets: Budgets = Budgets()
    delivery: DeliveryBlock = DeliveryBlock()
    dispatch: Dispatch = Dispatch()
    forge: ForgeBlock | None = Field(
        default=None, description="Issues of a forge that become pull requests. Default: there are none."
    )
    metrics: MetricsBlock = MetricsBlock()
    pacing: Pacing = Pacing()
    projects: dict[str, ProjectBlock] = Field(
        default={}, description="Repositories that people work on in topics, by a name of your choice."
    )
    redaction: RedactionSettings = RedactionSettings()
    sandboxes: dict[str, ProfileBlock] = Field(
        default={},
        description="Sandbox profiles by a name of your choice, besides bubblewrap, container and none.",
    )
    register_: RegisterSettings = Field(default=RegisterSettings(), alias="register")
    retention: Retention = Retention()
    rooms: dict[str, RoomBlock] = Field(
        default={}, description="Where plain words go, by the room (CONNECTOR:ROOM). Default: to the orchestrator."
    )
    schedules: Schedules = Schedules()
    telemetry: Telemetry = Telemetry()
    topics: TopicsBlock = TopicsBlock()
    traces: TracesBlock | None = Field(
        default=None, description="Traces for an OpenTelemetry collector. Default: none are sent."
    )
    watchdog: WatchdogBlock = WatchdogBlock()
    web: WebBlock | None = Field(default=None, description="The dashboard for browsers. Default: there is none.")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="The time zone for times and schedules, such as Europe/Vienna."
    )


_RETENTION = Retention()
_BUDGETS = Budgets()
_PACING = Pacing()
_DISPATCH = Dispatch()
_SCHEDULES = Schedules()
_TELEMETRY = Telemetry()
_METRICS = MetricsBlock()
_TOPICS = TopicsBlock()


#: Kinds of connectors that only the local user can reach, with the default main room of each.
OWN_ROOMS: Final[Mapping[str, str]] = MappingProxyType({"terminal": "fleet", "tmux": "fleet"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorSettings:
    """The configuration of one connector."""

    name: str
    kind: str
    settings: BaseModel
    """An instance of the kind's settings model."""
    fleet_room: str | None = None
    """The ID of the main room; None for any room in which an operator writes."""
    bridge: bool = False
    """Whether the connector's main room mirrors the fleet's main room."""

    @property
    def main_room(self) -> str | None:
        """The main room or the kind's default; None for any room in which an operator writes."""
        return self.room or OWN_ROOMS.get(self.kind)

    @property
    def room(self) -> str | None:
        """The configured main room, or None."""
        # A bot on Discord lives in one channel, which is its main room unless something else is said.
        return self.fleet_room or getattr(self.settings, "channel", None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The contents of muster.yaml with its defaults filled in. Durations are in seconds."""

    connectors: tuple[ConnectorSettings, ...]
    broken: Mapping[str, str]
    """Configured connectors that cannot be used on this machine, each with the reason."""
    operators: Mapping[str, PermissionWord]
    command_prefix: str
    accounts: Mapping[str, Account]
    agents: AgentDefaults
    approvals: Approvals
    delivery: DeliveryBlock
    redaction: RedactionSettings
    watchdog: WatchdogBlock
    register_url: str
    retention: Retention = _RETENTION
    budgets: Budgets = _BUDGETS
    pacing: Pacing = _PACING
    dispatch: Dispatch = _DISPATCH
    schedules: Schedules = _SCHEDULES
    telemetry: Telemetry = _TELEMETRY
    metrics: MetricsBlock = _METRICS
    sandboxes: Mapping[str, ProfileBlock] = field(default_factory=dict)
    """The profiles of the file, and one for each project (`bot.config.projects.profile_of`)."""
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    projects: Mapping[str, ProjectBlock] = field(default_factory=dict)
    rooms: Mapping[str, RoomBlock] = field(default_factory=dict)
    topics: TopicsBlock = _TOPICS
    forge: ForgeBlock | None = None
    """None: no issues become pull requests."""
    traces: TracesBlock | None = None
    """None: no traces are sent."""
    web: WebBlock | None = None
    """None: there is no dashboard."""
    register_password: Reference | None = None
    timezone: ZoneInfo
    warnings: tuple[str, ...] = ()
    """Problems that do not prevent a start."""
    digest: str | None = None
    """SHA-256 of the file's text that these were read from, as hexadecimal digits; None: there is no file."""

    def project_rooms(self, connector: str) -> tuple[str, ...]:
        """Return the projects' own rooms on a connector."""
        rooms = [project.room.partition(":") for project in self.projects.values() if project.room is not None]
        return tuple(dict.fromkeys(room for name, _, room in rooms if name == connector))

    def connector(self, name: str) -> ConnectorSettings | None:
        """Return the connector of that name, or None."""
        return next((each for each in self.connectors if each.name == name), None)
