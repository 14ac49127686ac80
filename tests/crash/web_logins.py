"""A browser that is logged in while Muster dies has one session that it can use, or shows a new code."""

from __future__ import annotations

from pathlib import Path

from bot.web_access.service import WebAccess
from core.crash_points import declare
from database.engine.store import Store
from tests.crash.deaths import Subject, both, each

CONFIRM = declare("tests.confirm")
NOW = 1_000_000.0
COMMENT: dict[str, str | float] = {"id": "ab" * 16, "words": "Rename it.", "at": NOW}
ANA = "matrix:@ana:example.org"


def _access(store: Store, now: float) -> WebAccess:
    return WebAccess(store, lambda: now, 3600.0, 86_400.0)


async def log_in(folder: Path) -> None:
    """Do what is left of a log-in. The browser has what it was told: files of its own."""
    store = await Store.open(f"sqlite:///{folder / 'register.db'}")
    code, cookie, session = folder / "code", folder / "cookie", folder / "session"
    web = _access(store, NOW)
    while not session.exists():
        login = await web.asked(cookie.read_text()) if cookie.exists() else None
        if login is None:
            new = await web.ask("192.0.2.7", "Firefox")
            code.write_text(new.code)
            cookie.write_text(new.token)
        elif login.state == "asked":
            async with store.write(CONFIRM) as tx:
                await web.confirm(tx, code.read_text(), ANA, control=True)
        elif (token := await web.open(cookie.read_text())) is not None:
            session.write_text(token)
    later = _access(store, NOW + 120)
    opened = await later.session(session.read_text())
    assert opened is not None
    await later.keep_comments(opened.id, lambda rows: [*rows, COMMENT] if COMMENT not in rows else rows)
    await store.close()


async def usable(folder: Path) -> None:
    store = await Store.open(f"sqlite:///{folder / 'register.db'}")
    web = _access(store, NOW + 121)
    session = await web.session((folder / "session").read_text(), used=False)
    assert session is not None
    assert (session.identity, session.control, session.seen_at) == (ANA, True, NOW + 120)
    assert await web.comments(session.id) == [COMMENT]
    assert await web.asked((folder / "cookie").read_text()) is None
    assert await web.open((folder / "cookie").read_text()) is None
    await store.close()


WEB_LOGINS = Subject(script=log_in, invariant=usable, walks=each(*both("web.ask", "web.open", "web.seen", "web.keep")))
