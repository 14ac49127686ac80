"""The block of a Matrix connector in ``muster.yaml``. Light: nothing of Matrix is imported here."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from core.secret_references import Reference

_USER = re.compile(r"@[^:\s]+:\S+")
_ROOM = re.compile(r"![^\s|]{1,254}")
#: The highest number that events can hold (Matrix spec v1.11, "Canonical JSON").
_HIGHEST = 2**53 - 1
_ALIAS = re.compile(r"#[^\s|:]+:[^\s|]+")


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not a URL: {value!r}. Write http:// or https:// first, like https://matrix.example.org.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "the address of a homeserver has no user, question mark or #, like https://matrix.example.org."
        )
    return value.rstrip("/")


def _user(value: str) -> str:
    if not _USER.fullmatch(value):
        raise ValueError(f"not a Matrix user: {value!r}. Write the whole id, like @muster:example.org.")
    return value


def is_room(value: str) -> bool:
    """Return whether it is the id of a room."""
    return _ROOM.fullmatch(value) is not None and value.isprintable()


def is_alias(value: str) -> bool:
    """Return whether it is an address of a room (Matrix spec v1.11, "Room aliases")."""
    return _ALIAS.fullmatch(value) is not None and len(value) <= 255 and value.isprintable()


def _room(value: str) -> str:
    if not (is_room(value) or is_alias(value)):
        raise ValueError(
            f"not a room: {value[:80]!r}. Write its id, which begins with an exclamation mark (Element shows it under "
            "the room's settings, Advanced), or one of its addresses, like #fleet:example.org."
        )
    return value


class PowerLevelSettings(BaseModel):
    """From which power level on someone may do what. No one is listed: who has the level in the room has the right."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    viewer: int | None = Field(default=None, ge=1, le=_HIGHEST, description="May look.")
    operator: int | None = Field(default=None, ge=1, le=_HIGHEST, description="May command agents, like 50.")
    admin: int | None = Field(default=None, ge=1, le=_HIGHEST, description="May do everything, like 100.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        given = [step for step in (self.viewer, self.operator, self.admin) if step is not None]
        if not given:
            raise ValueError("no level is named. Write one, like operator: 50.")
        if given != sorted(given):
            raise ValueError("a higher permission must have at least the level of a lower one.")
        return self

    def steps(self) -> tuple[int, ...]:
        """Return the levels that are named."""
        return tuple(sorted({step for step in (self.viewer, self.operator, self.admin) if step is not None}))


class MatrixSettings(BaseModel):
    """One bot user on one homeserver, which may be any (Synapse, Conduit and its successors, Dendrite)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    homeserver: Annotated[str, AfterValidator(_address)] = Field(
        description="The address of the homeserver's client API, like https://matrix.example.org."
    )
    user: Annotated[str, AfterValidator(_user)] = Field(description="The bot's user, like @muster:example.org.")
    access_token: Reference | None = Field(default=None, description="A reference to the bot's access token.")
    password: Reference | None = Field(
        default=None,
        description="A reference to the bot's password. It is used once, to log in; Muster keeps the session.",
    )
    device: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9._=~-]{1,64}$", description="The device id to log in as, with a password."
    )
    display_name: str | None = Field(default=None, max_length=100, description="The bot's display name.")
    rooms: tuple[Annotated[str, AfterValidator(_room)], ...] = Field(
        default=(),
        description=(
            "The only rooms besides the main one, by id or address. Empty: all rooms that an operator "
            "invited the bot to."
        ),
    )
    power_levels: PowerLevelSettings | None = Field(
        default=None,
        description=("Power levels that give permissions, in the main room and in `rooms`. Default: none do."),
    )
    encryption: Literal["required", "allowed", "off"] = Field(
        default="off",
        description=("off: no encrypted rooms. allowed: encrypted rooms too. required: only encrypted rooms."),
    )
    trust: Literal["operators", "all"] = Field(
        default="operators",
        description=(
            "Who gets the keys to the bot's messages in encrypted rooms. operators: everyone with a "
            "permission. all: everyone in the room."
        ),
    )
    messages_per_second: float | None = Field(
        default=None,
        gt=0,
        description=(
            "The homeserver's rate limit for the bot. Synapse's default is 0.2. Default: learned from the homeserver."
        ),
    )
    burst: int = Field(default=10, ge=1, description="How many messages may be sent at once before that limit applies.")

    def granted(self) -> dict[str, str]:
        """Return the permission that each group of people has who are in it (`Inbound.groups`)."""
        levels = self.power_levels
        given = (
            ()
            if levels is None
            else (("viewer", levels.viewer), ("operator", levels.operator), ("admin", levels.admin))
        )
        return {f"level:{step}": word for word, step in given if step is not None}

    @staticmethod
    def check_room(value: str) -> None:
        """Raises ValueError when this can be no room's id, no address of one, and no thread in one."""
        _room(value.partition("|")[0])

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.access_token is None and self.password is None:
            raise ValueError(
                "neither access_token nor password is given. Write one, like access_token: env:MATRIX_TOKEN."
            )
        return self
