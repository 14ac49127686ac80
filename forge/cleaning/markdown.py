"""Clean the Markdown of agents before a forge gets it.

Code stays as it is, but for closing keywords: GitHub reads descriptions and commit messages without regard to code.
A CommonMark parser finds what is code. The result is read again as a forge would; a text in which something is still
armed, or that would swallow what follows it, is posted as a block of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from forge.cleaning import disarming

_RUN: Final = re.compile(r"(?<!`)`+(?!`)")
_ESCAPES: Final = re.compile(r"\\+\Z")
#: What we write after an agent's words begins so.
_AFTER: Final = "\n\n<details>\n"


def clean_markdown(text: str) -> str:
    """Return an agent's Markdown without anything that a forge acts on. Cleaning again changes nothing."""
    text = disarming.markers(disarming.keywords(disarming.visible(text))).strip("\n")
    cleaned = "".join(part if is_code else disarming.prose(part) for part, is_code in _parts(text))
    if _is_clean(cleaned):
        return cleaned
    # A block of code that nobody closed.
    for fence in _fences(cleaned):
        if _is_clean(closed := f"{cleaned}\n{fence}"):
            return closed
    return as_code(text)


def clean_plain(text: str) -> str:
    """Return an agent's text for a commit message or a title: no part of it counts as code."""
    return disarming.prose(disarming.keywords(disarming.visible(text))).strip("\n")


def clean_line(text: str, longest: int) -> str:
    """Return one line for a title or a name, cut after `longest` characters."""
    line = " ".join(disarming.visible(text).split())
    return clean_plain(line if len(line) <= longest else f"{line[: longest - 1]}…")


def as_code(text: str) -> str:
    """Return a text as a block of code, as it was written."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


@cache
def _parser(*, html: bool) -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": html}).enable(["table", "strikethrough"])


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text in their order, and whether each is code."""
    lines = text.split("\n")
    # Disarmed HTML is text, so this reader knows none.
    tokens = _parser(html=False).parse(text)
    kinds = ["prose"] * len(lines)
    for token in tokens:
        kind = {"fence": "code", "code_block": "code", "inline": "inline", "table_open": "table"}.get(token.type)
        if kind and token.map and not (kind == "inline" and kinds[token.map[0]] == "table"):
            for number in range(token.map[0], min(token.map[1], len(lines))):
                kinds[number] = kind
    begin = 0
    starts = {token.map[0] for token in tokens if token.type in ("inline", "fence", "code_block") and token.map}
    while begin < len(lines):
        end = begin + 1
        while end < len(lines) and kinds[end] == kinds[begin] and end not in starts:
            end += 1
        part = "\n".join(lines[begin:end]) + ("\n" if end < len(lines) else "")
        if kinds[begin] == "code":
            yield part, True
        elif kinds[begin] == "inline":
            yield from _spans(part)
        else:
            yield part, False
        begin = end


def _spans(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a paragraph, and whether each is a code span."""
    at = 0
    runs = [(found.start(), found.end()) for found in _RUN.finditer(text)]
    number = 0
    while number < len(runs):
        start, end = runs[number]
        if (escapes := _ESCAPES.search(text, at, start)) and len(escapes[0]) % 2:
            start += 1
        length = end - start
        other = next((i for i in range(number + 1, len(runs)) if runs[i][1] - runs[i][0] == length), None)
        if not length or other is None:
            number += 1
            continue
        yield text[at:start], False
        at = runs[other][1]
        yield text[start:at], True
        number = other + 1
    yield text[at:], False


def _fences(text: str) -> Iterator[str]:
    """Yield what could close the block of code at the end of a text."""
    last = next((token for token in reversed(_parser(html=False).parse(text)) if token.type == "fence"), None)
    if last is not None:
        yield last.markup


def _is_clean(text: str) -> bool:
    """Return whether a forge finds nothing to act on, and reads what follows the text by itself."""
    tokens = _parser(html=True).parse(text + _AFTER)
    if not tokens or tokens[-1].type != "html_block" or tokens[-1].level or tokens[-1].content.strip() != "<details>":
        return False
    tokens = tokens[:-1]
    if any(token.type == "html_block" for token in tokens):
        return False
    paragraphs = [token.children or [] for token in tokens if token.type == "inline"]
    if any(child.type in ("html_inline", "image") for children in paragraphs for child in children):
        return False
    texts = [child.content for children in paragraphs for child in children if child.type == "text"]
    # A reader may leave out code, and link definitions between paragraphs.
    readings = (text, *("\n".join(_shown(each, code=code) for each in paragraphs) for code in (True, False)))
    return all(disarming.mentions(each) == each for each in texts) and all(
        disarming.keywords(each) == each for each in readings
    )


def _shown(children: Iterable[Token], *, code: bool) -> str:
    said = ""
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            said += "\n"
        elif child.type != "code_inline" or code:
            said += child.content
    return said
