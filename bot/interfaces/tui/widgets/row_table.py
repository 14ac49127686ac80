"""A table of many rows. Only the rows in view are drawn, so that a thousand agents cost as much as thirty."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, TypeAlias, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from bot.interfaces.tui.widgets.cells import fitted
from bot.interfaces.tui.widgets.text_pane import LOOK_CLASSES, LOOK_CSS, Look

_T = TypeVar("_T")

Cell: TypeAlias = tuple[str, Look]
Order: TypeAlias = tuple[float | str, ...]
_GAP: Final = 1
#: Rows that are kept as they were drawn, beyond those that there are.
_MOST_KEPT: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class TableColumn(Generic[_T]):
    """A column of a table."""

    title: str
    width: int
    """The least width."""
    cell: Callable[[_T, float], Cell]
    """Its text for an item at a time."""
    order: Callable[[_T], Order] | None = None
    """By what it sorts; None: it does not."""
    grows: int = 0
    """Its part of the width that is left."""
    right: bool = False
    rank: int = 0
    """Where there is no room, columns of the highest rank are left out first; those of rank 0 never are."""


@dataclass(frozen=True, kw_only=True)
class TableShape(Generic[_T]):
    """How items become rows."""

    columns: tuple[TableColumn[_T], ...]
    key: Callable[[_T], str]
    words: Callable[[_T], str]
    """What a filter searches, in lower case."""
    order: Callable[[_T], Order] | None = None
    """The order before a person sorts; None: that of the items."""
    empty: str = "Nothing here."


def fit(columns: Sequence[TableColumn[_T]], width: int) -> list[tuple[TableColumn[_T], int]]:
    """Return the columns that fit into `width`, with the width of each."""
    kept = list(columns)

    def needed() -> int:
        return sum(each.width for each in kept) + _GAP * (len(kept) - 1)

    for rank in sorted({each.rank for each in columns if each.rank}, reverse=True):
        if needed() <= width:
            break
        kept = [each for each in kept if each.rank != rank]
    left = max(0, width - needed())
    parts = sum(each.grows for each in kept)
    widths = [each.width + (left * each.grows // parts if parts else 0) for each in kept]
    return list(zip(kept, widths, strict=True))


class RowTable(ScrollView, Generic[_T], can_focus=True):
    """A table with a cursor, a filter and an order."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--head", "table--cursor", "table--empty", *LOOK_CLASSES}
    DEFAULT_CSS = f"""
    RowTable {{
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        {LOOK_CSS}
        & > .table--head {{ text-style: bold; color: $text-primary; background: $boost; }}
        & > .table--cursor {{ background: $primary 25%; text-style: bold; }}
        &:focus > .table--cursor {{ background: $primary 60%; color: $text; text-style: bold; }}
        & > .table--empty {{ color: $foreground 60%; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
        Binding("o", "sort(1)", "Sort by the next column", show=False),
        Binding("O", "reverse", "Reverse the order", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row, or on none."""

        def __init__(self, table: ScrollView, key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> ScrollView:
            """The table."""
            return self.table

    class Chosen(Message):
        """A person opened a row."""

        def __init__(self, table: ScrollView, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> ScrollView:
            """The table."""
            return self.table

    def __init__(self, shape: TableShape[_T], *, clock: Callable[[], float] = time.time, id: str | None = None) -> None:
        """Take how items become rows.

        Args:
            shape: the columns.
            clock: seconds since the epoch.
            id: the widget's id.
        """
        super().__init__(id=id)
        self._shape = shape
        self._clock = clock
        self._items: tuple[_T, ...] = ()
        self._rows: list[_T] = []
        self._places: dict[str, int] = {}
        self._cursor: str | None = None
        self._loaded = False
        self._filter = ""
        self._sorted_by: int | None = None
        self._reversed = False
        self._fitted: list[tuple[TableColumn[_T], int]] = []
        self._drawn: dict[tuple[str, bool], tuple[_T, Strip]] = {}
        """The row of an item, without and with the cursor."""
        self._styles_of: dict[str, Style] = {}

    # --- what is shown ----------------------------------------------------------------------------------------------

    @property
    def items(self) -> tuple[_T, ...]:
        """All items, also those that the filter hides."""
        return self._items

    @property
    def rows(self) -> list[_T]:
        """The items that are shown, in order."""
        return self._rows

    @property
    def selected(self) -> _T | None:
        """The item at the cursor."""
        place = self._place
        return None if place is None else self._rows[place]

    def show(self, items: Sequence[_T]) -> None:
        """Show other items. The cursor stays on its item; if that is gone, it stays in its place."""
        known = {self._shape.key(each): each for each in self._items}
        # An item that is equal stays the same object, and so its row need not be drawn.
        kept = tuple(before if (before := known.get(self._shape.key(each))) == each else each for each in items)
        if kept != self._items or not self._loaded:
            self._loaded = True
            self._items = tuple(each for each in kept if each is not None)
            self._arrange()

    def filter(self, words: str) -> None:
        """Show only rows that have all these words."""
        if words.casefold() != self._filter:
            self._filter = words.casefold()
            self._arrange()
            self.refresh()

    @property
    def filter_words(self) -> str:
        """The present filter."""
        return self._filter

    def select(self, key: str) -> None:
        """Move the cursor to the row of this key, if there is one."""
        if key in self._places:
            self._move_to(self._places[key])

    def refresh_ages(self) -> None:
        """Draw all rows anew, because time went on."""
        self._drawn.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """Forget what was drawn in another style."""
        self._drawn.clear()
        self._styles_of.clear()
        super().notify_style_update()

    def _style(self, name: str = "") -> Style:
        found = self._styles_of.get(name)
        if found is None:
            found = self.get_component_rich_style(name, partial=True) if name else self.rich_style
            self._styles_of[name] = found
        return found

    def _in_view(self) -> list[_T]:
        top = self.scroll_offset.y
        return self._rows[top : top + max(1, self.size.height - 1)]

    def _arrange(self) -> None:
        before, seen, count = self._place or 0, self._in_view(), len(self._rows)
        words = self._filter.split()
        rows = [each for each in self._items if all(word in self._shape.words(each) for word in words)]
        order = self._shape.order if self._sorted_by is None else self._shape.columns[self._sorted_by].order
        if order is not None:
            rows.sort(key=order, reverse=self._reversed)
        elif self._reversed:
            rows.reverse()
        self._rows = rows
        self._places = {self._shape.key(each): place for place, each in enumerate(rows)}
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        if len(self._drawn) > 4 * max(_MOST_KEPT, len(rows)):
            self._drawn.clear()
        if self._cursor not in self._places:
            self._move_to(before)
        now = self._in_view()
        if not count or len(seen) != len(now):
            self.refresh()
            return
        for place, (one, other) in enumerate(zip(seen, now, strict=True)):
            if one is not other:
                self._refresh_line(place + 1)

    def _refresh_line(self, y: int) -> None:
        self.refresh(Region(0, y, self.size.width, 1))

    @property
    def _place(self) -> int | None:
        return None if self._cursor is None else self._places.get(self._cursor)

    def _move_to(self, place: int) -> None:
        place = max(0, min(place, len(self._rows) - 1))
        key = self._shape.key(self._rows[place]) if self._rows else None
        if key != self._cursor:
            before, self._cursor = self._place, key
            self.post_message(self.Moved(self, key))
            for changed in (before, place):
                if changed is not None:
                    self._refresh_line(changed - self.scroll_offset.y + 1)
        self._into_view(place)

    def _into_view(self, place: int) -> None:
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if place < top:
            self.scroll_to(y=place, animate=False, immediate=True)
        elif place >= top + height:
            self.scroll_to(y=place - height + 1, animate=False, immediate=True)

    # --- keys and mouse ---------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to((self._place or 0) + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by a screen."""
        self.action_move(by * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        """Open the row at the cursor."""
        if self._cursor is not None and self._cursor in self._places:
            self.post_message(self.Chosen(self, self._cursor))

    def action_sort(self, by: int) -> None:
        """Sort by the next column that sorts, and after the last one as at first."""
        choices = [None, *(place for place, each in enumerate(self._shape.columns) if each.order is not None)]
        self.sort_by(choices[(choices.index(self._sorted_by) + by) % len(choices)])

    def sort_by(self, column: int | None) -> None:
        """Sort by a column, or as at first."""
        self._sorted_by, self._reversed = column, False
        self._arrange()
        self.refresh()

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._reversed = not self._reversed
        self._arrange()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor, open a row on the second click, or sort by a heading."""
        if event.y == 0:
            self._click_heading(event.x)
            return
        place = event.y - 1 + self.scroll_offset.y
        if place < len(self._rows):
            self._move_to(place)
            if event.chain > 1:
                self.action_choose()

    def _click_heading(self, x: int) -> None:
        begin = 0
        for column, width in self._fitted:
            if begin <= x < begin + width and column.order is not None:
                place = self._shape.columns.index(column)
                if self._sorted_by == place:
                    self.action_reverse()
                else:
                    self.sort_by(place)
            begin += width + _GAP

    # --- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Fit the columns."""
        self._fitted = fit(self._shape.columns, self.scrollable_content_region.width)
        self._drawn.clear()
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        if (place := self._place) is not None:
            self._into_view(place)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the headings, or a row in view."""
        width, base = self.size.width, self._style()
        if y == 0:
            return self._heading()
        place = y - 1 + self.scroll_offset.y
        if place < len(self._rows):
            return self._row(self._rows[place])
        if y == 1 and not self._rows:
            said = f"Nothing matches {self._filter!r}." if self._filter and self._items else self._shape.empty
            said = said if self._loaded else "Nothing is known yet."
            return Strip([Segment(fitted(said, width), base + self._style("table--empty"))], width)
        return Strip.blank(width, base)

    def _heading(self) -> Strip:
        style = self._style() + self._style("table--head")
        parts = []
        for column, width in self._fitted:
            mark = ""
            if self._sorted_by is not None and column is self._shape.columns[self._sorted_by]:
                mark = "▼" if self._reversed else "▲"
            parts.append(Segment(fitted(column.title + mark, width, right=column.right) + " " * _GAP, style))
        return Strip(parts).adjust_cell_length(self.size.width, style)

    def _row(self, item: _T) -> Strip:
        key = self._shape.key(item)
        at_cursor = key == self._cursor
        known = self._drawn.get((key, at_cursor))
        if known is not None and known[0] is item:
            return known[1]
        base = self._style()
        if at_cursor:
            base = base + self._style("table--cursor")
        now, parts = self._clock(), []
        for column, width in self._fitted:
            text, look = column.cell(item, now)
            # On the bar of the cursor, the colors of other looks could not be read.
            style = base + self._style(f"look--{look}") if look and not at_cursor else base
            parts.append(Segment(fitted(text, width, right=column.right) + " " * _GAP, style))
        strip = Strip(parts).adjust_cell_length(self.size.width, base)
        self._drawn[key, at_cursor] = item, strip
        return strip
