"""Validation of identities: ``CONNECTOR:PERSON`` or ``CONNECTOR:GROUP``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bot.config.schema import Settings
from core.validation_errors import suggestion

_SNOWFLAKE = r"[1-9][0-9]{16,19}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorIdentityKind:
    """The facts about a connector that decide which identities are valid on it."""

    name: str | None = None
    """The connector's kind; None if unknown."""
    guild: str | None = None
    """The Discord server."""
    levels: bool = False
    """Whether a Matrix power level (``level:50``) may identify people."""


def configured(settings: Settings) -> dict[str, ConnectorIdentityKind]:
    """Return the configured connectors by name."""
    found = {name: ConnectorIdentityKind() for name in settings.broken}
    for each in settings.connectors:
        guild = getattr(each.settings, "guild", None)
        found[each.name] = ConnectorIdentityKind(
            name=each.kind, guild=None if guild is None else str(guild), levels=True
        )
    return found


def problem(identity: str, connectors: Mapping[str, ConnectorIdentityKind]) -> str | None:
    """Return what is wrong with an identity and what to write instead, or None if it is valid.

    Args:
        identity: any text.
        connectors: the configured connectors by name.
    """
    connector, colon, person = identity.partition(":")
    if not colon or not person.strip() or not identity.isprintable():
        return "an identity is a connector's name, a colon and a user, like matrix:@ana:example.org."
    kind = connectors.get(connector)
    if kind is None:
        there = f" Configured are {', '.join(connectors)}."
        return f"no connector is called {connector[:80]!r}.{suggestion(connector, list(connectors))}{there}"
    if kind.name == "matrix" and not re.fullmatch(r"@[^:\s]+:\S+", person):
        if kind.levels and re.fullmatch(r"level:-?[0-9]+", person):
            return None
        return f"not a Matrix user: {person[:80]!r}. Write it like {connector}:@ana:example.org."
    return _on_discord(connector, person, kind.guild) if kind.name == "discord" else None


def _on_discord(connector: str, person: str, guild: str | None) -> str | None:
    """Return what is wrong with a Discord user's ID or a role (``role:ID``), or None if it is valid."""
    word, colon, role = person.partition(":")
    if not colon:
        if re.fullmatch(_SNOWFLAKE, person):
            return None
        return (
            f"not a Discord user: {person[:80]!r}. Write the id, like {connector}:345678901234567890; with developer "
            "mode on, Discord copies it from a person's menu. For everybody with a role write "
            f"{connector}:role:123456789012345678."
        )
    if word != "role" or not re.fullmatch(_SNOWFLAKE, role):
        return (
            f"not a Discord role: {person[:80]!r}. Write its id, like {connector}:role:123456789012345678; with "
            "developer mode on, Discord copies it from the role's menu (Server Settings, Roles)."
        )
    if role == guild:
        return (
            "that is the id of the server, which is also that of the role @everyone: everybody who joins would have "
            "this permission. Name another role, or people."
        )
    return None
