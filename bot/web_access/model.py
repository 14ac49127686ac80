"""Values of the log-in of browsers, and the names of browsers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Letters and digits of codes: none that looks like another one, and no vowels, which make words.
ALPHABET: Final = "BCDFGHJKMNPQRTVWXY346789"
#: Length of a code. It is worth nothing but in the browser that shows it.
CODE_LENGTH: Final = 8
#: Seconds until a code expires, and until a confirmed browser must have come for its session.
CODE_LASTS_S: Final = 300.0

_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = (
    ("Android", "Android"), ("iPhone", "an iPhone"), ("iPad", "an iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserLogin:
    """A browser that shows a code."""

    id: str
    state: str
    """asked, or confirmed: it gets its session when it comes back."""
    address: str
    browser: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """A code, and the secret of the browser that shows it."""

    code: str
    token: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSession:
    """A browser that is logged in."""

    id: str
    identity: str
    control: bool
    """Whether it may change anything. Otherwise it only watches."""
    address: str
    browser: str
    opened_at: float | None
    """None: it was confirmed, and has not come back yet."""
    seen_at: float
    expires_at: float
    pushes: bool = False
    """Whether it wants to be told that something waits while no page is open."""


def shown_code(code: str) -> str:
    """Return a code as people read it: ``BCDF-GHJK``."""
    return f"{code[:4]}-{code[4:]}"


def read_code(typed: str) -> str | None:
    """Return the code that a person typed, or None if it has no form of one."""
    code = re.sub(r"[\s-]", "", typed).upper()
    return code if len(code) == CODE_LENGTH and set(code) <= set(ALPHABET) else None


def browser_name(user_agent: str) -> str:
    """Return a browser's name from a closed list, because the header can have any text: ``Firefox on Linux``."""
    head = user_agent[:400]
    browser = next((name for mark, name in _BROWSERS if f"{mark}/" in head), "an unknown browser")
    system = next((name for mark, name in _SYSTEMS if mark in head), None)
    return browser if system is None else f"{browser} on {system}"
