"""The words of a rule's command."""

from __future__ import annotations

from fleet.approval_rules.shell_command import parse


def words_of(command: str) -> tuple[str, ...] | None:
    """Return the words, or None if it is not one simple command of literal words."""
    plain = parse(command).plain
    if plain is None or len(plain) != 1 or plain[0].redirects:
        return None
    return plain[0].words
