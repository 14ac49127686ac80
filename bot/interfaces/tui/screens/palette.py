"""The palette: every command of the table, and the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from bot.interfaces.tui.screens.dialogs import literal


@runtime_checkable
class HasPalette(Protocol):
    """An app that offers entries."""

    def palette_entries(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        """Return the name of each entry, what it does, and the function that does it."""


class CommandProvider(Provider):
    """Offers what the app offers. Names and explanations are text, never markup."""

    most: ClassVar[int] = 200

    def _entries(self) -> list[tuple[str, str, Callable[[], None]]]:
        app = self.app
        return [*app.palette_entries()][: self.most] if isinstance(app, HasPalette) else []

    async def discover(self) -> Hits:
        """Offer everything."""
        for name, meaning, act in self._entries():
            yield DiscoveryHit(literal(name), partial(act), name, _help(meaning))

    async def search(self, query: str) -> Hits:
        """Offer what fits."""
        matcher = self.matcher(query)
        for name, meaning, act in self._entries():
            score = matcher.match(name)
            if score > 0:
                shown = matcher.highlight(name)
                yield Hit(
                    score, shown if isinstance(shown, Content) else literal(name), partial(act), name, _help(meaning)
                )


def _help(meaning: str) -> str:
    # Textual reads this text as markup.
    return meaning.replace("[", "(").replace("]", ")")
