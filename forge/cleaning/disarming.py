"""Disarm what a forge acts on in a text: a zero-width space follows the character that begins it.

The text reads as before, and none of these works: mentions, closing keywords, HTML, images. The character is invisible,
so nothing is hidden or rewritten. It is removed from agents' texts first, so that cleaning twice changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

GAP: Final = "\u200b"

#: Joiners that emoji and some scripts need.
_JOINERS: Final = "\u200c\u200d"

#: GitHub: "Linking a pull request to an issue using a keyword". Gitea: `CLOSE_KEYWORDS` and `REOPEN_KEYWORDS`.
_KEYWORD: Final = (
    r"(?-i:(?<![A-Za-z0-9]))(?P<first>[cfr])(?P<rest>lose[sd]?|ix(?:e[sd])?|esolve[sd]?|eopen(?:s|ed)?)(?![^\W_])"
)
_ADDRESS: Final = r"https?://[^\s<>]{1,300}?/(?:-/)?(?:issues|pulls?|merge_requests)/\d"
_ISSUE: Final = rf"(?:(?:[\w.-]{{1,100}}/){{0,2}}(?:[\w.-]{{1,100}})?(?:[#!]|&num;|&#x0*23;)\d|GH-\d|{_ADDRESS})"
#: Markup, blanks and entities may stand between a keyword and an issue.
_BETWEEN: Final = r"(?:[\W_]|&\w{1,10};|<[^<>]{0,200}>){1,80}?"
_CLOSING: Final = re.compile(rf"{_KEYWORD}(?={_BETWEEN}{_ISSUE})", re.IGNORECASE)

#: An address that every forge links as a whole, so that an @ within mentions nobody.
_LINKED: Final = r"(?<![^\s*_~(])https?://(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(?::\d+)?(?:/[^\s<>\"'`\\\[\]()*@]*)?/@"
_MENTION: Final = re.compile(rf"({_LINKED})|((?<![A-Za-z0-9])@|&#0*64;|&#[xX]0*40;|&commat;)(?=[^\s@{GAP}])")
_AUTOLINK: Final = r"<https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[^\s<>@]*)?>"
_TAG: Final = re.compile(rf"({_AUTOLINK})|<(?=[A-Za-z/!?])")
_IMAGE: Final = re.compile(r"!(?=\[)")
#: Also within code: nothing may look like one of our markers.
_MARKER: Final = re.compile(r"<(?=!--\s*muster:)", re.IGNORECASE)


def visible(text: str) -> str:
    """Return a text with plain line ends, without control characters, and without invisible ones such as bidi marks."""
    text = re.sub("\r\n?|[\x85\u2028\u2029\v\f]", "\n", text)
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each for each in text if each in "\n\t" or each in _JOINERS or not _is_invisible(each))


def keywords(text: str) -> str:
    """Return a text whose closing keywords close nothing. The links to the issues stay."""
    return _CLOSING.sub(rf"\g<first>{GAP}\g<rest>", text)


def markers(text: str) -> str:
    """Return a text in which nothing looks like a marker of Muster's."""
    return _MARKER.sub(f"<{GAP}", text)


def prose(text: str) -> str:
    """Return a text outside of code without mentions, HTML and images."""
    text = _TAG.sub(lambda found: found[1] or f"<{GAP}", text)
    text = _IMAGE.sub(f"!{GAP}", text)
    return mentions(text)


def mentions(text: str) -> str:
    """Return a text that mentions nobody."""
    return _MENTION.sub(lambda found: found[1] or f"{found[2]}{GAP}", text)


def _is_invisible(character: str) -> bool:
    # Control, format, lone surrogate, private use and unassigned characters.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")
