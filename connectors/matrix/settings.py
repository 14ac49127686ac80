"""The block of a Matrix connector in ``muster.yaml``. Light: nothing of Matrix is imported here."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from register.references import Reference

_USER = re.compile(r"@[^:\s]+:\S+")
_ROOM = re.compile(r"![^\s|]+")


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


def _room(value: str) -> str:
    if not _ROOM.fullmatch(value):
        raise ValueError(
            f"not a room id: {value!r}. It begins with an exclamation mark; Element shows it under the room's "
            "settings, Advanced."
        )
    return value


class MatrixSettings(BaseModel):
    """One bot user on one homeserver, which may be any (Synapse, Conduit and its successors, Dendrite)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    homeserver: Annotated[str, AfterValidator(_address)] = Field(
        description="The address of the homeserver's client API, like https://matrix.example.org."
    )
    user: Annotated[str, AfterValidator(_user)] = Field(description="The bot's user, like @muster:example.org.")
    access_token: Reference | None = Field(default=None, description="The bot's access token, by reference.")
    password: Reference | None = Field(
        default=None,
        description="The bot's password, by reference; used once, to log in. The log-in is kept in Muster's folder.",
    )
    device: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9._=~-]{1,64}$", description="The device id to log in as, with a password."
    )
    display_name: str | None = Field(default=None, max_length=100, description="How the bot is called in rooms.")
    rooms: tuple[Annotated[str, AfterValidator(_room)], ...] = Field(
        default=(), description="The only rooms that count; empty: all into which an operator invited the bot."
    )
    messages_per_second: float | None = Field(
        default=None,
        gt=0,
        description="What the homeserver lets the bot say. Synapse's default is 0.2; empty: found out by being told.",
    )
    burst: int = Field(default=10, ge=1, description="How many messages may go out at once before that.")

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.access_token is None and self.password is None:
            raise ValueError(
                "neither access_token nor password is given. Write one, like access_token: env:MATRIX_TOKEN."
            )
        return self
