"""Who gets into the dashboard: the browser whose code its person confirmed, and no other."""

from __future__ import annotations

import pytest

from bot.interfaces.web.login_pages import CODES_AT_ONCE
from database.queries.operations import audit_log, web_sessions
from tests.bot.interfaces.web.browser import Browser, browser, confirmed
from tests.bot.orchestrator import OPERATOR, STRANGER, VIEWER, House


async def audited(home: House) -> list[tuple[str, str, str, str]]:
    async with home.orchestrator.store.read() as tx:
        return [(row.identity, row.door, row.action, row.outcome) for row in await audit_log.since(tx, 0, limit=100)]


async def test_a_person_confirms_a_browser_that_they_see_described(home: House) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    async with browser(home, **{"User-Agent": agent}) as it:
        first = await it.get("/")
        assert (first.status, first.headers["Location"]) == (303, "/login?to=%2F")
        code = await it.code()
        question = await confirmed(home, f"!web login {code} --control")
        assert "Firefox on Linux at `127.0.0.1`" in question
        assert "give commands as you" in question
        assert (await it.go_on()).headers["Location"] == "/"
        page = await it.get("/")
        assert page.status == 200
        assert "memory:@ana, admin" in page.text
    assert ("memory:@ana", "chat", "web login", "done") in await audited(home)


async def test_a_stolen_code_opens_nothing_in_another_browser(home: House, it: Browser) -> None:
    code = await it.code()
    async with browser(home) as thief:
        await thief.code()
        await confirmed(home, f"!web login {code}")
        assert "not confirmed yet" in (await thief.go_on()).text
        assert (await thief.get("/")).status == 303
        async with browser(home) as other:
            assert "shown by another browser" in (await other.go_on()).text
    assert (await it.go_on()).status == 303
    assert (await it.get("/")).status == 200


async def test_a_code_is_used_once_and_by_people_alone(home: House, it: Browser) -> None:
    code = await it.code()
    assert (await it.get("/login/state")).text == '{"state": "asked"}'
    home.chat.post(f"!web login {code}", sender=STRANGER)
    assert (await it.get("/login/state")).text == '{"state": "asked"}'
    await confirmed(home, f"!web login {code}", VIEWER)
    assert (await it.get("/login/state")).text == '{"state": "confirmed"}'
    assert "No browser shows this code" in await home.ask(f"!web login {code}", sender=OPERATOR)
    await it.go_on()
    assert "memory:@vera, viewer" in (await it.get("/")).text
    assert "No browser shows this code" in await home.ask(f"!web login {code}")


async def test_a_declined_code_logs_nobody_in(home: House, it: Browser) -> None:
    code = await it.code()
    await home.ask(f"!web login {code}")
    await home.ask("!decline")
    assert (await it.go_on()).status == 200
    assert (await it.get("/")).status == 303


async def test_codes_are_rationed_by_address(it: Browser) -> None:
    for _ in range(CODES_AT_ONCE):
        await it.code()
    refused = await it.post("/login", {"to": "/"})
    assert refused.status == 429
    assert "Too many codes" in refused.text


async def test_looking_at_the_login_page_makes_no_code(home: House, it: Browser) -> None:
    for _ in range(CODES_AT_ONCE * 2):
        page = await it.get("/login")
        assert page.status == 200
        assert "Set-Cookie" not in page.headers
    async with home.orchestrator.store.read() as tx:
        assert await web_sessions.asking(tx, 0.0) == 0


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example/", "/\\evil.example", "/x\r\nSet-Cookie: a=b", "javascript:1"]
)
async def test_a_login_leads_to_pages_of_the_dashboard_alone(home: House, it: Browser, to: str) -> None:
    code = await it.code()
    await confirmed(home, f"!web login {code}")
    assert (await it.post("/login/open", {"to": to})).headers["Location"] == "/"


async def test_sessions_are_listed_and_ended_in_chat(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    listed = await home.ask("!web sessions", sender=OPERATOR)
    session = listed.split("| `")[1].split("`")[0]
    assert "control" in listed
    assert "No browser is logged in" in await home.ask("!web sessions", sender=VIEWER)
    assert "No session of yours" in await home.ask(f"!web logout {session}", sender=VIEWER)
    assert (await it.get("/")).status == 200
    await home.ask(f"!web logout {session}")
    assert (await it.get("/")).status == 303


async def test_a_browser_logs_itself_out_even_if_it_only_watches(home: House, it: Browser) -> None:
    await it.log_in(VIEWER, control=False)
    token = (await it.get("/")).field("csrf")
    assert (await it.post("/logout", {"csrf": token})).status == 303
    assert (await it.get("/")).status == 303
    assert ("memory:@vera", "web", "web logout", "done") in await audited(home)


async def test_a_browser_logs_in_no_other_browser(home: House, it: Browser) -> None:
    await it.log_in()
    async with browser(home) as other:
        code = await other.code()
        page = await it.run("web login", {"code": code}, confirmed="yes")
        assert "cannot be given in a browser" in page.text
        assert (await other.go_on()).status == 200


async def test_who_lost_the_permission_sees_nothing_more(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    assert (await it.get("/waiting")).status == 200
    await home.ask("!operator set memory:@otto viewer")
    assert (await it.get("/")).status == 200
    assert (await it.get("/waiting")).status == 403
    await home.ask("!operator set memory:@otto none")
    refused = await it.get("/")
    assert refused.status == 403
    assert "needs the permission viewer" in refused.text


async def test_cookies_are_for_this_site_and_no_script(it: Browser) -> None:
    answer = await it.post("/login", {"to": "/"})
    cookie = answer.headers["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
