"""The page of one row: all of its text, as it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer

from bot.interfaces.tui.screens.table_page import TablePage
from bot.interfaces.tui.widgets.text_pane import TextLine, TextPane


class RowScreen(Screen[None]):
    """One row of a page. It stays when the row is gone, and says so."""

    DEFAULT_CSS = """
    RowScreen #whole { height: 1fr; border-top: solid $primary 50%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "app.leave", "Back")]

    def __init__(self, page: TablePage[Any], key: str, clock: Callable[[], float]) -> None:
        """Take the row.

        Args:
            page: the page that lists it.
            key: names the row there.
            clock: seconds since the epoch.
        """
        super().__init__()
        self.page, self._key, self._clock = page, key, clock
        self.line = TextPane(most=2, id="line")
        self.line.can_focus = False
        self.pane = TextPane(id="whole")

    @property
    def item(self) -> object | None:
        """The row as it is now; None: it is no longer listed."""
        return next((each for each in self.page.table.items if self.page.shape.table.key(each) == self._key), None)

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical():
            yield self.line
            yield self.pane
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show the row."""
        self.pane.focus()
        self.call_after_refresh(self.tick)

    def tick(self) -> None:
        """Show what is new, and let ages grow."""
        item, text = self.item, self.page.shape.text
        if item is not None and text is not None:
            self.pane.show(text(item, self._clock(), self.pane.text_width))
        elif self.pane.lines[:1] != (_GONE,):
            self.pane.show([_GONE, *self.pane.lines])


_GONE = TextLine("This is no longer listed. Below is what was known last. Esc goes back.", "bad")
