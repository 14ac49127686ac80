"""Text in a form that every database takes.

Chat systems and agents can send halves of surrogate pairs and NUL characters. No database stores the former, PostgreSQL
not the latter, and one such text must not stop what comes behind it. The column types here see to it on the way in.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy import Dialect

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """`text` without what a database cannot hold: lone surrogates and NUL become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


class String(sa.TypeDecorator[str]):
    """A short text: a key, a name, a state."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Called by SQLAlchemy for every value on its way into the database."""
        return None if value is None else storable(value)


class PeopleText(String):
    """A text that people or agents wrote."""

    impl = sa.Text
    cache_ok = True
