"""The log-in of browsers, kept in the register: a browser shows a code, a person confirms it in chat.

The code is worth nothing by itself. The session goes to the browser that showed the code, which has proved that by its
cookie, and it gets another cookie then. The register has hashes of both.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.text.errors import UserError
from bot.web_access.model import ALPHABET, CODE_LASTS_S, CODE_LENGTH, BrowserLogin, NewCode, WebSession, read_code
from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import web_sessions
from database.queries.operations.web_sessions import WebSessionRow

ASK = declare("web.ask")
OPEN = declare("web.open")
SEEN = declare("web.seen")
KEEP = declare("web.keep")

#: The maximum number of codes at a time. More browsers are refused until a code expires.
MOST_CODES = 100
#: Seconds between two records of the use of a session.
_SEEN_EVERY_S = 60.0


#: Comments as they are kept.
CommentRows: TypeAlias = Sequence[Mapping[str, str | float]]


class TooManyCodes(UserError):
    """Too many browsers want to log in now. Try again in five minutes."""

    code = "web.too_many"


@dataclass(frozen=True, slots=True)
class WebAccess:
    """The browsers in a register."""

    store: Store
    clock: Callable[[], float]
    idle_s: float
    """Seconds without use after which a session ends."""
    longest_s: float
    """Seconds after which a session ends in any case."""

    # --- the browser's side ----------------------------------------------------------------------------------------

    async def ask(self, address: str, browser: str) -> NewCode:
        """Return a new code for a browser.

        Raises:
            TooManyCodes: too many browsers show one.
        """
        now = self.clock()
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        token = secrets.token_urlsafe(32)
        row = WebSessionRow(
            id=secrets.token_hex(4),
            state="asked",
            code_hash=_hash(code),
            token_hash=_hash(token),
            address=address,
            browser=browser,
            identity=None,
            control=False,
            asked_at=now,
            opened_at=None,
            seen_at=now,
            expires_at=now + CODE_LASTS_S,
            ended_at=None,
            ended_by=None,
        )
        async with self.store.write(ASK) as tx:
            await web_sessions.drop_expired_codes(tx, now)
            if await web_sessions.asking(tx, now) >= MOST_CODES or not await web_sessions.add(tx, row):
                raise TooManyCodes
        return NewCode(code=code, token=token, expires_at=row.expires_at)

    async def asked(self, token: str) -> BrowserLogin | None:
        """Return the log-in of the browser with this cookie; None if it has none, or if its code expired."""
        async with self.store.read() as tx:
            row = await web_sessions.by_token(tx, _hash(token))
        if row is None or row.state not in ("asked", "confirmed") or row.expires_at <= self.clock():
            return None
        return _login(row)

    async def open(self, token: str) -> str | None:
        """Return the session's cookie for a browser whose code was confirmed; None if it was not. It works once."""
        now, fresh = self.clock(), secrets.token_urlsafe(32)
        async with self.store.write(OPEN) as tx:
            row = await web_sessions.by_token(tx, _hash(token))
            if row is None or row.state != "confirmed" or row.expires_at <= now:
                return None
            times = {"opened_at": now, "seen_at": now, "expires_at": now + self.longest_s}
            await web_sessions.change(
                tx, row.id, only=("confirmed",), state="open", token_hash=_hash(fresh), code_hash="", **times
            )
        return fresh

    async def session(self, token: str, *, used: bool = True) -> WebSession | None:
        """Return the session of the browser with this cookie, or None.

        Args:
            token: the cookie.
            used: whether a person uses it now. A page that is only kept up to date is no use.
        """
        now = self.clock()
        async with self.store.read() as tx:
            row = await web_sessions.by_token(tx, _hash(token))
        if row is None or not self._lives(row, now):
            return None
        if used and now - row.seen_at >= _SEEN_EVERY_S:
            async with self.store.write(SEEN) as tx:
                await web_sessions.change(tx, row.id, only=("open",), seen_at=now)
        return _session(row)

    # --- what is kept with a session -------------------------------------------------------------------------------

    async def comments(self, session_id: str) -> CommentRows:
        """Return the comments that a browser collected and did not send."""
        async with self.store.read() as tx:
            row = await web_sessions.get(tx, session_id)
        return () if row is None or row.comments is None else row.comments

    async def keep_comments(self, session_id: str, changed: Callable[[CommentRows], CommentRows | None]) -> None:
        """Replace a browser's comments by what `changed` makes of them. Two of its tabs may do so at a time."""
        async with self.store.write(KEEP) as tx:
            row = await web_sessions.held(tx, session_id)
            if row is not None and row.state == "open":
                await web_sessions.change(tx, row.id, only=("open",), comments=changed(row.comments or ()))

    async def keep_push(self, session_id: str, push: Mapping[str, str] | None) -> None:
        """Keep where a browser's push service takes pushes; None ends them."""
        kept = None if push is None else {**push, "at": self.clock()}
        async with self.store.write(KEEP) as tx:
            await web_sessions.change(tx, session_id, only=("open",), push=kept)

    async def pushed(self) -> list[tuple[WebSession, Mapping[str, str | float]]]:
        """Return the sessions that want pushes, each with where its push service takes them."""
        now = self.clock()
        async with self.store.read() as tx:
            rows = await web_sessions.pushed(tx, now, seen_after=now - self.idle_s)
        return [(_session(row), row.push) for row in rows if row.push is not None]

    async def push_told(self, session_id: str, endpoint: str, at: float | None) -> None:
        """Note that a browser was told at `at`, or with None that its push service knows it no more."""
        async with self.store.write(KEEP) as tx:
            row = await web_sessions.held(tx, session_id)
            # It may have subscribed again meanwhile.
            if row is not None and row.push is not None and row.push["endpoint"] == endpoint:
                push = None if at is None else {**row.push, "at": at}
                await web_sessions.change(tx, session_id, only=("open",), push=push)

    # --- the commands' side ----------------------------------------------------------------------------------------

    async def find(self, typed: str) -> BrowserLogin:
        """Return the browser that shows this code.

        Raises:
            UserError: no browser shows it.
        """
        code = read_code(typed)
        async with self.store.read() as tx:
            row = None if code is None else await web_sessions.by_code(tx, _hash(code), self.clock())
        if row is None:
            raise _unknown_code()
        return _login(row)

    async def confirm(self, tx: AsyncConnection, typed: str, identity: str, *, control: bool) -> str:
        """Give the browser that shows this code a session of this person; return the session's id.

        Raises:
            UserError: no browser shows it any more.
        """
        code, now = read_code(typed), self.clock()
        row = None if code is None else await web_sessions.by_code(tx, _hash(code), now)
        if row is None:
            raise _unknown_code()
        await web_sessions.change(
            tx, row.id, only=("asked",), state="confirmed", identity=identity, control=control, seen_at=now,
            expires_at=now + CODE_LASTS_S,
        )  # fmt: skip
        return row.id

    async def listed(self, identity: str | None = None) -> list[WebSession]:
        """Return the sessions that have not ended, the newest first; of one person if `identity` is given."""
        now = self.clock()
        async with self.store.read() as tx:
            rows = await web_sessions.opened(tx, now, seen_after=now - self.idle_s, identity=identity)
        return [_session(row) for row in rows]

    async def end(self, tx: AsyncConnection, session_id: str, by: str) -> bool:
        """End a session; False if it has ended."""
        ended = {"state": "ended", "ended_at": self.clock(), "ended_by": by, "comments": None, "push": None}
        return await web_sessions.change(tx, session_id, only=("confirmed", "open"), **ended)

    def _lives(self, row: WebSessionRow, now: float) -> bool:
        return row.state == "open" and row.expires_at > now and row.seen_at > now - self.idle_s


def _unknown_code() -> UserError:
    return UserError(
        "No browser shows this code now. A code lasts five minutes and works once: have the browser show a new one.",
        code="web.code_unknown",
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _login(row: WebSessionRow) -> BrowserLogin:
    return BrowserLogin(id=row.id, state=row.state, address=row.address, browser=row.browser, expires_at=row.expires_at)


def _session(row: WebSessionRow) -> WebSession:
    return WebSession(
        id=row.id,
        identity=row.identity or "",
        control=row.control,
        address=row.address,
        browser=row.browser,
        opened_at=row.opened_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
        pushes=row.push is not None,
    )
