"""Markdown of agents and people as HTML that can only be shown.

HTML in it is text. Links go to http and https alone, and pictures are links, so that reading contacts nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

from bot.text.markdown import shown

#: Maximum number of characters of one text on a page. The journal has all of it.
LONGEST: Final = 60_000
_CACHED: Final = 8_000
_WEB_LINK = re.compile(r"https?://", re.IGNORECASE)


class _ProseParser(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return _WEB_LINK.match(url) is not None and super().validateLink(url)


def prose(text: str) -> Markup:
    """Return HTML for Markdown without secrets."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n\n… {len(text) - LONGEST:,} more characters are not shown here."
    return _kept(text) if len(text) <= _CACHED else _made(text)


def _made(text: str) -> Markup:
    # Entities and escapes in addresses can spell what `shown` would have replaced.
    return Markup(shown(str(_parser().render(shown(text)))).strip())  # noqa: S704 - the parser escapes all HTML


_kept = lru_cache(maxsize=512)(_made)


@cache
def _parser() -> MarkdownIt:
    parser = _ProseParser("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    for name, rule in (
        ("image", _image),
        ("link_open", _link_open),
        ("heading_open", _heading_open),
        ("heading_close", _heading_close),
        ("table_open", _table_open),
        ("table_close", _table_close),
        ("fence", _block),
        ("code_block", _block),
    ):
        parser.add_render_rule(name, rule)
    return parser


def _image(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    label = self.renderInlineAsText(token.children, options, env) or source
    return f'<a href="{escapeHtml(source)}" rel="noopener noreferrer nofollow">{escapeHtml(label)}</a>'


def _link_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, index, options, env)


def _heading_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    # The headings of a page are its own.
    return '<p class="heading"><strong>'


def _heading_close(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return "</strong></p>\n"


def _table_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>\n'


def _table_close(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return "</table></div>\n"


def _block(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return f'<pre tabindex="0"><code>{escapeHtml(tokens[index].content)}</code></pre>\n'
