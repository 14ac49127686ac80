"""The block of a Discord connector in ``muster.yaml``. Light: nothing of Discord is imported here."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from core.secret_references import Reference

API = "https://discord.com/api/v10"


def _text(value: object) -> object:
    # YAML reads an id without quotes as a number.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _id(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{16,19}", value):
        raise ValueError(
            f"not a Discord id: {value!r}. It is a number of 17 to 20 digits: switch on Discord's developer mode (User "
            "Settings, Advanced), then right-click the server or channel and copy its id."
        )
    return value


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"not the address of an API: {value!r}. Discord's own is {API}.")
    return value.rstrip("/")


Snowflake = Annotated[str, BeforeValidator(_text), AfterValidator(_id)]


class DiscordSettings(BaseModel):
    """One bot user in one channel of one server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: Reference = Field(description="A reference to the bot's token.")
    guild: Snowflake = Field(description="The id of the server.")
    channel: Snowflake = Field(description="The id of the channel that is the fleet room. Its threads belong to it.")
    channels: tuple[Snowflake, ...] = Field(
        default=(), max_length=100, description="The ids of more channels and forums that it hears, with their threads."
    )
    message_content: bool = Field(
        default=True,
        description=(
            "Whether the bot has the message-content intent. Without it, it reads only direct messages and "
            "messages that mention it."
        ),
    )
    api: Annotated[str, AfterValidator(_address)] = Field(
        default=API, description="The address of Discord's REST API, if a proxy is used."
    )
