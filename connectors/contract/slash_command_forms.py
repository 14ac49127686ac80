"""Commands as a chat system may offer them in menus of its own: which there are, and what choosing one means.

A connector knows nothing of what commands do. Whoever makes it hands it `Commands`, if it asks for some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from connectors.contract.messages import Text

Value: TypeAlias = "str | int | float | bool"


class OptionKind(StrEnum):
    """What a value is."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One value that a command takes."""

    name: str
    """Of a to z, digits, - and _."""
    description: str
    kind: OptionKind = OptionKind.TEXT
    required: bool = False
    choices: tuple[str, ...] = ()
    """The only values there are; none: any."""
    completes: bool = False
    """Whether `Commands.complete` knows values that are likely."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One command."""

    name: str
    """One word, or two with a space between; no name of one word is also the first of two."""
    description: str
    options: tuple[Option, ...] = ()
    """In the order in which they are best asked for."""
    restricted: bool = False
    """Whether it is for those alone who may do everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asker:
    """Who chooses a command, as in `Inbound`."""

    sender: str
    groups: tuple[str, ...] = ()


class Commands(Protocol):
    """What a connector can ask about commands."""

    def forms(self) -> Sequence[Form]:
        """Return all of them."""

    def words(self, name: str, values: Mapping[str, Value]) -> Text:
        """Return what is said by choosing a command with these values, which may be anything; for the inbox."""

    async def complete(self, asker: Asker, name: str, option: str, typed: str) -> Sequence[str]:
        """Values that are likely, by what is typed of one so far; none for who may not give the command."""

    async def refusal(self, asker: Asker) -> str | None:
        """Return what is answered to whoever may give no command at all; None: they may."""
