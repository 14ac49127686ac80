"""A code is worth nothing but in the browser that shows it, and a session ends when it should."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.text.errors import UserError
from bot.web_access.model import CODE_LASTS_S, browser_name, read_code, shown_code
from bot.web_access.service import MOST_CODES, TooManyCodes, WebAccess
from core.crash_points import declare
from database.engine.store import Store

STEP = declare("tests.web_access")
ANA = "matrix:@ana:example.org"
HOUR = 3600.0


@dataclass
class Access:
    store: Store
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.web = WebAccess(self.store, lambda: self.now, 12 * HOUR, 48 * HOUR)

    async def confirm(self, code: str, *, control: bool = False) -> str:
        async with self.store.write(STEP) as tx:
            return await self.web.confirm(tx, code, ANA, control=control)

    async def logged_in(self, *, control: bool = False) -> str:
        """Return the cookie of a new session."""
        new = await self.web.ask("192.0.2.7", "Firefox on Linux")
        await self.confirm(new.code, control=control)
        token = await self.web.open(new.token)
        assert token is not None
        return token


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[Access]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    yield Access(store)
    await store.close()


async def test_a_confirmed_browser_gets_a_session_with_another_cookie_once(access: Access) -> None:
    new = await access.web.ask("192.0.2.7", "Firefox on Linux")
    assert await access.web.open(new.token) is None
    assert await access.web.session(new.token) is None
    await access.confirm(shown_code(new.code).lower(), control=True)
    token = await access.web.open(new.token)
    assert token is not None
    session = await access.web.session(token)
    assert session is not None
    assert (session.identity, session.control, session.address) == (ANA, True, "192.0.2.7")
    assert token != new.token
    assert await access.web.open(new.token) is None
    assert await access.web.session(new.token) is None


async def test_a_code_works_once_and_not_when_it_expired(access: Access) -> None:
    new = await access.web.ask("192.0.2.7", "Firefox")
    await access.confirm(new.code)
    with pytest.raises(UserError, match="No browser shows this code"):
        await access.confirm(new.code)
    late = await access.web.ask("192.0.2.7", "Firefox")
    access.now += CODE_LASTS_S
    with pytest.raises(UserError, match="No browser shows this code"):
        await access.web.find(late.code)
    assert await access.web.asked(late.token) is None


async def test_the_code_is_nothing_to_another_browser(access: Access) -> None:
    seen, other = await access.web.ask("192.0.2.7", "Firefox"), await access.web.ask("203.0.113.9", "Chrome")
    await access.confirm(seen.code)
    assert await access.web.open(other.token) is None
    assert await access.web.open(seen.code) is None


async def test_a_confirmation_that_the_browser_does_not_come_for_expires(access: Access) -> None:
    new = await access.web.ask("192.0.2.7", "Firefox")
    await access.confirm(new.code)
    access.now += CODE_LASTS_S
    assert await access.web.open(new.token) is None


async def test_sessions_end_by_themselves(access: Access) -> None:
    token = await access.logged_in()
    for _ in range(5):
        access.now += 9 * HOUR
        assert await access.web.session(token) is not None
    access.now += 3 * HOUR
    assert await access.web.session(token) is None, "it lasted two days"
    idle = await access.logged_in()
    access.now += 11 * HOUR
    assert await access.web.session(idle, used=False) is not None
    access.now += 1 * HOUR
    assert await access.web.session(idle) is None, "nobody used it for twelve hours"
    assert await access.web.listed() == []


async def test_an_ended_session_is_none(access: Access) -> None:
    token, other = await access.logged_in(), await access.logged_in()
    session = await access.web.session(token)
    assert session is not None
    async with access.store.write(STEP) as tx:
        assert await access.web.end(tx, session.id, "matrix:@ben:example.org")
        assert not await access.web.end(tx, session.id, ANA)
    assert await access.web.session(token) is None
    assert [each.id for each in await access.web.listed(ANA)] != [session.id]
    assert await access.web.session(other) is not None


async def test_strangers_cannot_fill_the_register_with_codes(access: Access) -> None:
    for _ in range(MOST_CODES):
        await access.web.ask("203.0.113.9", "Chrome")
    with pytest.raises(TooManyCodes):
        await access.web.ask("203.0.113.9", "Chrome")
    access.now += CODE_LASTS_S
    await access.web.ask("203.0.113.9", "Chrome")


async def test_nothing_that_opens_a_session_is_in_the_register(access: Access, tmp_path: Path) -> None:
    new = await access.web.ask("192.0.2.7", "Firefox")
    await access.confirm(new.code)
    token = await access.web.open(new.token)
    assert token is not None
    await access.store.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (new.code, new.token, token):
        assert secret.encode() not in stored


@pytest.mark.parametrize("typed", ["", "BCDF", "BCDF-GHJA", "BCDF-GHJK-M", "B" * 10_000])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert read_code(typed) is None


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Your bank. Confirm now!", "an unknown browser"),
        ("", "an unknown browser"),
    ],
)
def test_a_browser_cannot_say_what_it_is_in_its_own_words(header: str, name: str) -> None:
    assert browser_name(header) == name
