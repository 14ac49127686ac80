"""Long text that scrolls. Only the rows in view are drawn, so that a line of 100,000 characters costs little."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from bot.interfaces.tui.widgets.cells import safe, width_of, wrapped

Look: TypeAlias = Literal[
    "", "dim", "strong", "good", "bad", "warn", "accent",
    "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
    "bright-black", "bright-red", "bright-green", "bright-yellow",
    "bright-blue", "bright-magenta", "bright-cyan", "bright-white",
]  # fmt: skip
#: How text may look; the colors are the theme's.
LOOKS: Final[tuple[Look, ...]] = get_args(Look)[1:]
#: The colors of runs, as the terminal has them.
_COLORS: Final = LOOKS[LOOKS.index("black") :]
LOOK_CLASSES: Final = frozenset(f"look--{look}" for look in LOOKS)
LOOK_CSS: Final = """
    & > .look--dim { text-style: dim; }
    & > .look--strong { text-style: bold; }
    & > .look--good { color: $text-success; }
    & > .look--bad { color: $text-error; text-style: bold; }
    & > .look--warn { color: $text-warning; }
    & > .look--accent { color: $text-accent; }
""" + "".join(f"    & > .look--{color} {{ color: ansi_{color.replace('-', '_')}; }}\n" for color in _COLORS)


def look_of(color: str | None) -> Look:
    """Return the look of a run's color; plain for one that is not known."""
    return next((each for each in _COLORS if each == color), "")


@dataclass(frozen=True, slots=True)
class TextLine:
    """Some text in one look. Its line feeds begin new rows."""

    text: str
    look: Look = ""
    indent: int = 0


class TextPane(ScrollView, can_focus=True):
    """Text that is wrapped and never cut."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(LOOK_CLASSES)
    DEFAULT_CSS = f"""
    TextPane {{
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        {LOOK_CSS}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("home,g", "scroll_home", "Begin", show=False),
        Binding("end,G", "scroll_end", "End", show=False),
        Binding("pageup,b", "page_up", "Page up", show=False),
        Binding("pagedown,space", "page_down", "Page down", show=False),
    ]

    def __init__(
        self, lines: Sequence[TextLine] = (), *, follows: bool = False, most: int | None = None, id: str | None = None
    ) -> None:
        """Take the text.

        Args:
            lines: the text.
            follows: whether it stays at its end when text is added, unless a person scrolled away from there.
            most: the most rows that are shown at once, of a pane that is as high as its text; None: its place is given.
            id: the widget's id.
        """
        super().__init__(id=id)
        self._most = most
        self._lines: tuple[TextLine, ...] = tuple(lines)
        self._follows = follows
        self._rows: list[list[str]] = []
        self._starts: list[int] = []
        """The first row of each line."""
        self._wrapped_for = 0
        self._known: dict[tuple[str, int], list[str]] = {}
        self._styles_of: dict[str, Style] = {}

    @property
    def lines(self) -> tuple[TextLine, ...]:
        """The text."""
        return self._lines

    @property
    def row_count(self) -> int:
        """The number of rows at the present width."""
        return self.virtual_size.height

    @property
    def rows_below(self) -> int:
        """The number of rows below those in view."""
        return max(0, self.row_count - self.scroll_offset.y - self.scrollable_content_region.height)

    def show(self, lines: Sequence[TextLine]) -> None:
        """Show other text. The place stays, and so does the end if it is in view and followed."""
        if tuple(lines) == self._lines:
            return
        at_end = self._follows and self.scroll_offset.y >= self.max_scroll_y
        self._lines = tuple(lines)
        self._wrap()
        if at_end:
            self.scroll_end(animate=False, immediate=True)

    def on_resize(self) -> None:
        """Wrap for the new width."""
        if self._wrapped_for != self.text_width:
            at_end = self._follows and self.scroll_offset.y >= self.max_scroll_y
            self._wrap()
            if at_end:
                self.call_after_refresh(self.scroll_end, animate=False)

    @property
    def text_width(self) -> int:
        """The number of columns for text."""
        return max(1, self.scrollable_content_region.width)

    def _wrap(self) -> None:
        width = self._wrapped_for = self.text_width
        known: dict[tuple[str, int], list[str]] = {}
        self._rows, self._starts, count = [], [], 0
        for line in self._lines:
            key = (line.text, max(1, width - line.indent))
            rows = self._known.get(key) or [
                row for part in safe(line.text).split("\n") for row in wrapped(part, key[1])
            ]
            known[key] = rows
            self._starts.append(count)
            self._rows.append(rows)
            count += len(rows)
        self._known = known
        self.virtual_size = Size(width, count)
        if self._most is not None:
            self.styles.height = max(1, min(count, self._most))
        self.refresh()

    class Scrolled(Message):
        """Other rows are in view."""

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell that other rows are in view."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.post_message(self.Scrolled())

    def notify_style_update(self) -> None:
        """Forget other styles."""
        self._styles_of.clear()
        super().notify_style_update()

    def _style(self, look: str) -> Style:
        found = self._styles_of.get(look)
        if found is None:
            base = self.rich_style
            found = base + self.get_component_rich_style(f"look--{look}", partial=True) if look else base
            self._styles_of[look] = found
        return found

    def render_line(self, y: int) -> Strip:
        """Return a row in view."""
        row, width = y + self.scroll_offset.y, self.size.width
        base = self._style("")
        if not 0 <= row < self.virtual_size.height:
            return Strip.blank(width, base)
        place = bisect_right(self._starts, row) - 1
        line = self._lines[place]
        text = " " * line.indent + self._rows[place][row - self._starts[place]]
        return Strip([Segment(text, self._style(line.look))], width_of(text)).adjust_cell_length(width, base)
