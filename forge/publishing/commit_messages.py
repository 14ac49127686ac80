"""What a commit message must not say, because a forge acts on it. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from forge.publishing.rules import PublishingRules

#: Trailers that speak for Muster or for a person. A forge may read them on any line.
_TRAILER: Final = re.compile(
    r"^[ \t>*-]*(muster-[a-z-]{1,40}|co-authored-by|signed-off-by|reviewed-by|acked-by|approved-by|tested-by|"
    r"on-behalf-of)[ \t]*:(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_ADDRESS: Final = re.compile(r"<([^<>\s]{1,200})>\s*\Z")
_REFERENCE: Final = (
    r"((?:[\w.-]{1,100}/[\w.-]{1,100})?[#!]\d{1,18}|gh-\d{1,18}|https?://\S{1,300}/(?:issues|pull|pulls)/\d{1,18})"
)
#: Words that close or reopen an issue once the commit is on the default branch (GitHub and Gitea documentation).
_CLOSING: Final = re.compile(
    rf"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?|reopen(?:s|ed)?|implement(?:s|ed)?)\b\s*:?\s*{_REFERENCE}",
    re.IGNORECASE,
)
_MENTION: Final = re.compile(r"(?<![\w.+/@-])@[A-Za-z0-9](?:[\w.-]{0,80})")
#: Words by which a commit keeps checks from running (GitHub, Gitea and Forgejo documentation).
_SKIPPING: Final = re.compile(
    r"\[(?:skip|no)[ -](?:ci|actions)\]|\[(?:ci|actions)[ -]skip\]|^skip-checks:[ \t]*true",
    re.IGNORECASE | re.MULTILINE,
)


def trailers(message: str, rules: PublishingRules) -> Iterator[str]:
    """Yield a sentence for each trailer that is not the agent's to write."""
    for name, value in _TRAILER.findall(_plain(message)):
        address = _ADDRESS.search(value)
        if name.lower() == "co-authored-by" and address and address[1].lower() in rules.co_authors:
            continue
        yield f"The message has the trailer {name}, which speaks for somebody else. Remove the line."


def sayings(message: str, rules: PublishingRules) -> Iterator[str]:
    """Yield a sentence for each thing in a message that a forge would act on."""
    if len(message) > rules.message_characters:
        yield f"The message has more than {rules.message_characters:,} characters. Shorten it."
        message = message[: rules.message_characters]
    if any(_unseen(character) for character in message):
        yield "The message has characters that are not seen or that reorder text. Write it without them."
    text = _plain(message)
    own = "" if rules.issue is None else f"#{rules.issue}"
    closed = dict.fromkeys(reference for reference in _CLOSING.findall(text) if reference != own)
    for reference in closed:
        yield f"The message would close or reopen {reference[:120]}. Write it without such a word."
    for mention in dict.fromkeys(_MENTION.findall(text)):
        yield f"The message would notify {mention[:90]}. Write the name without @."
    if _SKIPPING.search(text):
        yield "The message keeps checks from running. Remove that instruction."


def _plain(message: str) -> str:
    """Return a message as it looks: signs of full width are read as the usual ones, what is not seen as nothing."""
    text = unicodedata.normalize("NFKC", message.replace("\r", "\n"))
    return "".join(character for character in text if not _unseen(character))


def _unseen(character: str) -> bool:
    return character not in "\n\t\r" and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")
