"""Safe chat messages from untrusted text: everything that is sent passes through here and can only be displayed.

Text from agents and strangers may carry terminal sequences, bidirectional overrides or invisible characters that
disguise one thing as another. `shown` makes them visible. The Markdown renderer passes no HTML through. It turns images
into links, so reading a message never contacts a third-party server.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

    from connectors.contract.messages import Emphasis, Message

# A shell's command needs `shown` alone. So what the other functions use is imported in them: 20 ms of CPU.


# Matches bidirectional formatting (Unicode Standard Annex 9), invisible characters (Unicode's Default_Ignorable, tags
# included), interlinear annotation, and the noncharacters that `bot.commands.syntax` uses as markers. U+200D (joiner)
# and the variation selectors are allowed where emoji need them. They are rejected after ASCII, except in keycaps, and
# in runs of three or more.
_DECEPTIVE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f])(?!\ufe0f\u20e3)[\u200d\ufe00-\ufe0f]+|[\u200d\ufe00-\ufe0f]{3,}"
)
#: Maximum number of names in one line.
_NAMES = 30
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _control_picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"⟨U+{code:04X}⟩"


def shown(text: str) -> str:
    """Return `text` with each control or deceptive character replaced by a visible one.

    Line feeds and tabs are kept; a carriage return before a line feed is dropped.
    """
    text = text.replace("\r\n", "\n")
    text = _CONTROL.sub(_control_picture, text)
    return _DECEPTIVE.sub(lambda match: "".join(f"⟨U+{ord(char):04X}⟩" for char in match.group()), text)


def one_line(text: str, width: int = 80) -> str:
    """Return `text` on one line of at most `width` characters. Never use it for text that a person must decide on.

    Words are only cut after a slash, because redaction would not recognize half a secret.
    """
    words = " ".join(shown(text).split())
    if len(words) <= width:
        return words
    from core.redaction import begin_of_last_word

    cut = words[: width - 1]
    return cut[: max(begin_of_last_word(words[:width]), cut.rfind("/") + 1)].rstrip() + "…"


def gist(text: str, redact: Callable[[str], str], width: int = 80) -> str:
    """Return `one_line` of text that may hold secrets, masked before the cut: redaction misses half a secret."""
    from core.redaction import beginning

    return one_line(beginning(text, redact), width)


def code(text: str) -> str:
    """Return `text` as inline code, even if it contains backticks."""
    text = shown(text).replace("\n", "␊")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if not text or "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def color_mark(color: str | None) -> str:
    """Return a color as text, for places that cannot show it; empty without one."""
    return "" if color is None else f"[{color}]"


def code_block(text: str, language: str = "") -> str:
    """Return `text` as a fenced block that its own content cannot close (CommonMark 0.31, section 4.5)."""
    text = shown(text).rstrip("\n")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(shown(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(headings), "|" + " --- |" * len(headings), *(line(row) for row in rows)])


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])

    def image(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[index]
        source = str(token.attrs.get("src", ""))
        label = self.renderInlineAsText(token.children, options, env) or source
        return f'<a href="{escapeHtml(source)}">{escapeHtml(label)}</a>'

    parser.add_render_rule("image", image)
    return parser


@lru_cache(maxsize=32)
def html(markdown: str) -> str:
    """Return safe HTML for Markdown that has passed through `shown`.

    Deceptive characters spelled as entities (`&#8238;`) or in addresses (`%E2%80%AE`) are replaced here.
    The last texts are remembered: answers such as the list of all commands recur, and take 15 ms each time.
    """
    return shown(str(_markdown().render(markdown))).strip()


def message(markdown: str, *, emphasis: Emphasis | None = None, reply_to: str | None = None) -> Message:
    """Return a chat message from untrusted Markdown, by default a notice."""
    from connectors.contract.messages import Emphasis, Message

    text = shown(markdown)
    return Message(text=text, html=html(text), emphasis=emphasis or Emphasis.NOTICE, reply_to=reply_to)


def span(seconds: float) -> str:
    """Return a readable duration: ``4 s``, ``12 min``, ``3 h``, ``2 d``."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def some(names: Sequence[str]) -> str:
    """Return the names in one line; beyond the first 30, only the number of further names is given."""
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more:,} more" if more > 0 else "")
