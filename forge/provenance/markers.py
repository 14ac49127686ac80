"""Markers at the end of our posts, by which Muster finds what it has posted before it posts again.

A marker names the order that a post came from. Anybody can copy one into a comment of their own, so it counts only in
ours, and only at the end. Agents' words are within our posts, but never at their end (`forge.cleaning`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from forge.model.values import Comment

_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MARKER: Final = re.compile(r"(?:\A|\n)<!-- muster:([A-Za-z0-9._-]{1,100}):([0-9a-f]{64}) -->\s*\Z")
#: Characters of a marker with the blank line before it.
LONGEST_MARKER: Final = 2 + len("<!-- muster:: -->") + 100 + 64


def mark(body: str, key: str, secret: bytes) -> str:
    """Return a post with a marker at its end.

    Args:
        body: the post.
        key: names the order: letters, digits, and ``._-``.
        secret: the installation's key for markers.

    Raises:
        ValueError: the key has other characters.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a marker. Use letters, digits, dots, underscores and dashes.")
    return f"{body}\n\n<!-- muster:{key}:{_mac(key, secret)} -->"


def key_of(body: str, secret: bytes) -> str | None:
    """Return the key of the marker at the end of a post; None if it has none of ours."""
    found = _MARKER.search(body.replace("\r\n", "\n"))
    return found[1] if found and hmac.compare_digest(found[2], _mac(found[1], secret)) else None


def find(comments: Iterable[Comment], key: str, secret: bytes, our_id: int) -> Comment | None:
    """Return our comment that an order has already made, the first of several.

    Args:
        comments: the comments on an issue or pull request.
        key: names the order.
        secret: the installation's key for markers.
        our_id: the account that Muster posts as. Others' comments do not count.
    """
    ours = (each for each in comments if each.author.id == our_id)
    return next((each for each in ours if key_of(each.body, secret) == key), None)


def _mac(key: str, secret: bytes) -> str:
    return hmac.new(secret, f"muster marker 1\0{key}".encode(), hashlib.sha256).hexdigest()
