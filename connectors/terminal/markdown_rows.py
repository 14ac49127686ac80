"""Markdown as rows of a terminal. Pure: lines in, rows out, each as wide as the terminal at most.

Each line of the source is rendered by itself, so that a text that is being written can be shown as it grows, and costs
what is new in it. Only the rows of a table wait for its end. Line breaks stay where the author made them.

The source is untrusted. A row is text and the few styles below: links show their target and are no hyperlinks, pictures
are links, HTML and entities are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from connectors.terminal.untrusted_text import plain, unsigned
from core.text_columns import widest
from core.text_columns import width as columns_of

#: Characters of a line beyond which it is shown as it is: looking for pairs of signs in it could take long.
_LONGEST_PARSED: Final = 1_000
#: Rows of a table beyond which what follows is shown as it is.
_LONGEST_TABLE: Final = 500
_NARROWEST_COLUMN: Final = 6

_BOLD, _DIM, _ITALIC, _UNDERLINED, _STRUCK, _CODE = "1", "2", "3", "4", "9", "36"
_SPECIAL = re.compile(r"[*_`~\[\]<\\]")
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_RULE = re.compile(r"^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_ITEM = re.compile(r"^( *)([-*+]|\d{1,9}[.)])[ \t]+(.*)$")
_BOX = re.compile(r"^\[([ xX])\][ \t]+(.*)$")
_QUOTE = re.compile(r"^ {0,3}>[ \t]?(.*)$")
_DELIMITER = re.compile(r"^\|?(?:[ \t]*:?-+:?[ \t]*\|)+(?:[ \t]*:?-+:?[ \t]*)?$")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a row in one style."""

    text: str
    style: tuple[str, ...] = ()
    """Parameters of the sequence that turns the style on (ECMA-48, section 8.3.117)."""


class MarkdownRows:
    """One message. Its lines are fed as they are complete."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._fence: tuple[str, int] | None = None
        self._table: list[str] = []
        self._in_list = False

    def feed(self, lines: Sequence[str], width: int, *, end: bool) -> list[str]:
        """Return the rows for further lines.

        Args:
            lines: whole lines of the source.
            width: columns that a row may have.
            end: whether these are the last ones.
        """
        rows: list[list[Span]] = []
        width = max(width, 8)
        for line in lines:
            if self._fence is None and line.lstrip().startswith("|") and len(self._table) < _LONGEST_TABLE:
                self._table.append(line.strip())
                continue
            rows += self._end_of_table(width)
            rows += self._line(line.expandtabs(4), width)
        if end:
            rows += self._end_of_table(width)
        return [self._written(row) for row in rows]

    # --- blocks -------------------------------------------------------------------------------------------------

    def _line(self, line: str, width: int) -> list[list[Span]]:
        if self._fence is not None:
            return self._code(line, width)
        if (fence := _FENCE.match(line)) and not (fence[2][0] == "`" and "`" in fence[3]):
            self._fence = (fence[2][0], len(fence[2]))
            return [] if self._colour else _broken([Span(_safe(line))], width)
        if not line.strip():
            return [[]]
        if _RULE.match(line):
            return [[Span("-" * min(width, 24), (_DIM,))]]
        if heading := _HEADING.match(line):
            self._in_list = False
            style = (_BOLD, _UNDERLINED) if len(heading[1]) <= 2 else (_BOLD,)
            mark = [] if self._colour else [Span(f"{heading[1]} ")]
            return _wrapped([*mark, *_styled(self._inline(heading[2]), style)], width)
        if item := _ITEM.match(line):
            self._in_list = True
            return self._item(item, width)
        if quote := _QUOTE.match(line):
            rest = _wrapped(_styled(self._inline(quote[1].lstrip("> ")), (_ITALIC,)), width - 2)
            return [[Span("> ", (_DIM,)), *row] for row in rest]
        indent = len(line) - len(line.lstrip(" "))
        if indent >= 4 and not self._in_list:
            return _broken([Span(_safe(line), (_CODE,))], width)
        if not indent:
            self._in_list = False
        return _wrapped(self._inline(line.strip()), width, first=" " * min(indent, width // 2))

    def _code(self, line: str, width: int) -> list[list[Span]]:
        assert self._fence is not None
        sign, length = self._fence
        closing = _FENCE.match(line)
        if closing and closing[2][0] == sign and len(closing[2]) >= length and not closing[3].strip():
            self._fence = None
            return [] if self._colour else _broken([Span(_safe(line))], width)
        return _broken([Span(_safe(line), (_CODE,))], width)

    def _item(self, item: re.Match[str], width: int) -> list[list[Span]]:
        mark, text = "•" if item[2] in "-*+" else item[2], item[3]
        if box := _BOX.match(text):
            mark, text = "☐" if box[1] == " " else "☑", box[2]
        return _wrapped(self._inline(text), width, first=f"{' ' * min(len(item[1]), width // 2)}{mark} ")

    def _end_of_table(self, width: int) -> list[list[Span]]:
        lines, self._table = self._table, []
        if len(lines) < 2 or not _DELIMITER.match(lines[1]):
            return [row for line in lines for row in _wrapped(self._inline(line), width)]
        cells = [[self._inline(cell) for cell in _cells(line)] for line in (lines[0], *lines[2:])]
        count = len(cells[0])
        cells = [[*row[:count], *[[Span("")]] * (count - len(row))] for row in cells]
        widths = _fitting([max(_reach(row[place]) for row in cells) for place in range(count)], width)
        rows: list[list[Span]] = []
        for number, row in enumerate(cells):
            styled = [_styled(cell, (_BOLD,)) for cell in row] if number == 0 else row
            rows += _beside([_wrapped(cell, size) for cell, size in zip(styled, widths, strict=True)], widths)
            if number == 0:
                rows.append([Span("  ".join("-" * size for size in widths), (_DIM,))])
        return [row for each in rows for row in (_broken(each, width) if _reach(each) > width else [each])]

    # --- within a line ------------------------------------------------------------------------------------------

    def _inline(self, text: str) -> list[Span]:
        if len(text) > _LONGEST_PARSED or not _SPECIAL.search(text):
            return [Span(_safe(text))]
        (inline,) = _parser().parseInline(text)
        return [replace(span, text=_safe(span.text)) for span in self._spans(inline.children or [])]

    def _spans(self, tokens: Sequence[Token]) -> Iterator[Span]:
        style: list[str] = []
        links: list[tuple[str, str]] = []
        for token in tokens:
            match token.type:
                case "strong_open":
                    style.append(_BOLD)
                case "em_open":
                    style.append(_ITALIC)
                case "s_open":
                    style.append(_STRUCK)
                case "strong_close" | "em_close" | "s_close":
                    style.pop()
                case "link_open":
                    links.append((str(token.attrGet("href") or ""), ""))
                case "link_close":
                    target, label = links.pop()
                    if label.strip() != target and f"mailto:{label.strip()}" != target:
                        yield Span(f" ({target})", (_DIM,))
                case "image":
                    yield Span(f"{token.content or 'picture'} ({token.attrGet('src') or ''})", tuple(style))
                case _:
                    code = token.type == "code_inline"
                    text = "\n" if token.type in ("softbreak", "hardbreak") else token.content
                    links = [(target, label + text) for target, label in links]
                    text = text if self._colour or not code else f"`{text}`"
                    yield Span(text.replace("\n", " "), (*style, *([_CODE] if code else [])))

    def _written(self, row: Sequence[Span]) -> str:
        pieces = []
        for span in row:
            styled = self._colour and span.style and span.text
            pieces.append(f"\x1b[{';'.join(dict.fromkeys(span.style))}m{span.text}\x1b[0m" if styled else span.text)
        return "".join(pieces).rstrip(" ")


@cache
def _parser() -> MarkdownIt:
    # An entity could bring back a character that was taken out of the source.
    return MarkdownIt("commonmark", {"html": False}).enable("strikethrough").disable(["entity", "html_inline"])


def _safe(text: str) -> str:
    """The last look at what is shown: no sign of Muster's, and nothing that a terminal obeys."""
    return unsigned(plain(text)).replace("\n", " ").replace("\t", " ")


def _styled(spans: Sequence[Span], style: tuple[str, ...]) -> list[Span]:
    return [Span(span.text, (*style, *span.style)) for span in spans]


def _cells(line: str) -> list[str]:
    inner = line.replace("\\|", "\0").strip().strip("|")
    return [cell.strip().replace("\0", "|") for cell in inner.split("|")]


# --- rows of a given width ---------------------------------------------------------------------------------------


def _width(spans: Sequence[Span]) -> int:
    return sum(columns_of(span.text) for span in spans)


def _reach(spans: Sequence[Span]) -> int:
    return sum(widest(span.text) for span in spans)


def _wrapped(spans: Sequence[Span], width: int, *, first: str = "") -> list[list[Span]]:
    """Break between words; further rows are below the text behind `first`."""
    indent = columns_of(first)
    row: list[Span] = [Span(first)] if first else []
    rows = [row]
    used = indent
    for word in _words(spans):
        size = _reach(word)
        blank = word[0].text.isspace()
        if used + size > width and used > indent:
            row = [Span(" " * indent)] if indent else []
            rows.append(row)
            used = indent
            if blank:
                continue
        if size > width - indent:
            first_part, *more = _broken(word, width - indent)
            row += first_part
            for part in more:
                row = [*([Span(" " * indent)] if indent else []), *part]
                rows.append(row)
                used = indent + _reach(part)
            continue
        row += word
        used += size
    return rows


def _words(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield words and the blanks between them; a word can have several styles."""
    word: list[Span] = []
    for span in spans:
        for piece in re.findall(r" +|[^ ]+", span.text):
            if word and word[0].text.isspace() != piece.isspace():
                yield word
                word = []
            word.append(Span(piece, span.style))
    if word:
        yield word


def _broken(spans: Sequence[Span], width: int) -> list[list[Span]]:
    """Break anywhere."""
    width = max(width, 2)
    rows: list[list[Span]] = [[]]
    used = 0
    for span in spans:
        begin = 0
        for place, sign in enumerate(span.text):
            size = widest(sign)
            if used + size > width:
                rows[-1].append(Span(span.text[begin:place], span.style))
                rows.append([])
                begin, used = place, 0
            used += size
        rows[-1].append(Span(span.text[begin:], span.style))
    return rows


def _beside(cells: Sequence[list[list[Span]]], widths: Sequence[int]) -> list[list[Span]]:
    """Return the rows of cells of several rows each."""
    rows = []
    for number in range(max(map(len, cells))):
        row: list[Span] = []
        for cell, size in zip(cells, widths, strict=True):
            part = cell[number] if number < len(cell) else []
            row += [*part, Span(" " * (size - _width(part) + 2))]
        rows.append(row[:-1])
    return rows


def _fitting(widths: Sequence[int], width: int) -> list[int]:
    """Return the widths of columns two apart, the widest made smaller until all of them fit."""
    fitting = [max(size, 1) for size in widths]
    while sum(fitting) + 2 * (len(fitting) - 1) > width and max(fitting) > _NARROWEST_COLUMN:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting
