"""Making a channel beside another one (API reference, "Create Guild Channel")."""

from __future__ import annotations

from typing import Any, TypeAlias

from connectors.discord.json_values import identifier
from connectors.discord.rest_client import DiscordClient, DiscordUnreachable

Json: TypeAlias = dict[str, Any]

_TEXT = 0


async def create(wire: DiscordClient, *, guild: str, name: str, key: str, beside: str) -> str:
    """Make a text channel in the category of another channel, with the same permissions; once per key.

    Discord recognises no repeated request, so the key stands in the channel's topic.

    Args:
        wire: the connection.
        guild: the server.
        name: what the channel is called.
        key: identifies the request.
        beside: the other channel.

    Returns:
        The channel's id.

    Raises:
        DiscordRequestError: Discord did not do it.
    """
    there = await wire.call("GET", f"/guilds/{guild}/channels")
    channels: list[Json] = [each for each in there if isinstance(each, dict)] if isinstance(there, list) else []
    mark = f"({key})"
    for each in channels:
        if mark in str(each.get("topic") or "") and (made := identifier(each.get("id"))) is not None:
            return made
    near = next((each for each in channels if each.get("id") == beside), {})
    body: Json = {
        "name": name,
        "type": _TEXT,
        "topic": f"Words here open a topic of the project {name}. {mark}",
        "parent_id": near.get("parent_id"),
        "permission_overwrites": near.get("permission_overwrites") or [],
    }
    answer = await wire.call("POST", f"/guilds/{guild}/channels", body=body)
    made = identifier(answer.get("id")) if isinstance(answer, dict) else None
    if made is None:
        raise DiscordUnreachable("it made a channel without saying which")
    return made
