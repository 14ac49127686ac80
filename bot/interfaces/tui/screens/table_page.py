"""A page with a table, and the whole text of the row at its cursor below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget

from bot.interfaces.tui.widgets.row_table import RowTable, TableShape
from bot.interfaces.tui.widgets.text_pane import TextLine, TextPane
from bot.read_models.documents import Document, ReadModel

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class PageShape(Generic[_T]):
    """What a page shows of which document."""

    id: str
    title: str
    document: str
    table: TableShape[_T]
    items: Callable[[object], tuple[_T, ...]]
    """The rows of the document's value."""
    text: Callable[[_T, float, int], list[TextLine]] | None = None
    """The whole text of a row at a time, for a pane of a width; None: the page has no pane."""
    notes: Callable[[object, float], list[TextLine]] | None = None
    """What is said above the table."""
    before: Callable[[object], str | None] | None = None
    """The place of the older page of a value; None: the document has no pages."""


class TablePage(Widget, Generic[_T]):
    """One page."""

    DEFAULT_CSS = """
    TablePage { layout: vertical; height: 1fr; }
    TablePage .rows { height: 1fr; }
    TablePage .whole { height: 1fr; min-height: 5; border-top: solid $primary 50%; }
    """
    #: Seconds between two looks at what only time changes.
    TICK_S: ClassVar[float] = 1.0

    def __init__(self, shape: PageShape[_T], *, clock: Callable[[], float]) -> None:
        """Take what the page shows.

        Args:
            shape: the table and its document.
            clock: seconds since the epoch.
        """
        super().__init__(id=shape.id)
        self.shape = shape
        self.made_at: float | None = None
        self._clock = clock
        self._value: ReadModel | None = None
        self._extended = False
        self.before: str | None = None
        """The place of the next older page; None: there is none."""
        self.table = RowTable(shape.table, clock=clock)
        self.table.add_class("rows")
        self._notes = TextPane(most=4)
        self._notes.add_class("notes")
        self._notes.can_focus = False
        self.pane = TextPane()
        self.pane.add_class("whole")

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical():
            if self.shape.notes is not None:
                yield self._notes
            yield self.table
            if self.shape.text is not None:
                yield self.pane

    def on_mount(self) -> None:
        """Begin to let ages grow."""
        self._notes.display = False

    def take(self, document: Document) -> None:
        """Show a document."""
        self.made_at = document.made_at
        if document.value is None or document.value == self._value:
            return
        self._value = document.value
        items = self.shape.items(document.value)
        if self._extended:
            # What was read of older pages stays, and what went beyond the newest page meanwhile.
            newest = set(map(self.shape.table.key, items))
            items = (*items, *(each for each in self.table.items if self.shape.table.key(each) not in newest))
        elif self.shape.before is not None:
            self.before = self.shape.before(document.value)
        self.table.show(items)
        self._show_notes()
        self._show_text()

    def extend(self, value: object) -> None:
        """Show an older page as well."""
        there = set(map(self.shape.table.key, self.table.items))
        older = (each for each in self.shape.items(value) if self.shape.table.key(each) not in there)
        self._extended = True
        self.before = self.shape.before(value) if self.shape.before is not None else None
        self.table.show((*self.table.items, *older))

    def tick(self) -> None:
        """Show what only time changed."""
        self._show_notes()
        self.table.refresh_ages()
        self._show_text()

    def _show_notes(self) -> None:
        if self.shape.notes is not None and self._value is not None:
            notes = self.shape.notes(self._value, self._clock())
            self._notes.display = bool(notes)
            self._notes.show(notes)

    @on(RowTable.Moved)
    def _show_text(self) -> None:
        if self.shape.text is None:
            return
        item = self.table.selected
        self.pane.show([] if item is None else self.shape.text(item, self._clock(), self.pane.text_width))
