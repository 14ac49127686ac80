"""A browser that turned pushes on hears that something waits, as long as it may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from bot.interfaces.web.push.notifier import WaitingNotifier
from bot.interfaces.web.push.sender import PAYLOAD, PushSender
from bot.web_access.sessions_of import access_to
from database.queries.operations import web_sessions
from tests import waiting
from tests.bot.interfaces.web.browser import Answer, Browser, browser, dashboard
from tests.bot.interfaces.web.push.push_service import PushService, push_service
from tests.bot.interfaces.web.test_acts import asked
from tests.bot.orchestrator import OPERATOR, VIEWER, House


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    async with push_service() as made:
        yield made


@pytest.fixture
async def home(tmp_path: Path, service: PushService) -> AsyncIterator[House]:
    settings = f"web:\n  listen: '127.0.0.1:0'\n  push:\n    services: ['{service.origin}']\n"
    async with dashboard(tmp_path, settings) as made:
        yield made


async def turn_on(it: Browser, service: PushService, **instead: str) -> Answer:
    token = (await it.get("/push")).field("csrf")
    return await it.post("/push", {"csrf": token, **asdict(service.subscription()), **instead})


async def push_of(home: House) -> Mapping[str, str | float] | None:
    """Where the only session wants its pushes."""
    session = (await home.ask("!web sessions")).split("| `")[1].split("`")[0]
    async with home.orchestrator.store.read() as tx:
        row = await web_sessions.get(tx, session)
    assert row is not None
    return row.push


async def test_a_request_is_pushed_once(home: House, it: Browser, service: PushService) -> None:
    await it.log_in(OPERATOR, control=False)
    assert (await it.get("/sessions")).text.count('href="/push"') == 1
    assert (await turn_on(it, service)).status == 303
    assert "Pushes are on" in (await it.get("/push")).text
    await asked(home)
    await service.has(1)
    [push] = service.received
    assert service.read(push) == PAYLOAD
    # What waits changes, but nothing new waits.
    await home.ask("!task add 'Write a test.' --role coder")
    await home.ask("!deny " + (await home.ask("!approvals")).split("`")[1])
    assert len(service.received) == 1


async def test_a_browser_that_turns_pushes_off_hears_nothing(home: House, it: Browser, service: PushService) -> None:
    await it.log_in(OPERATOR)
    await turn_on(it, service)
    token = (await it.get("/push")).field("csrf")
    assert (await it.post("/push/off", {"csrf": token})).status == 303
    assert await push_of(home) is None


async def test_pushes_end_with_the_session(home: House, it: Browser, service: PushService) -> None:
    async with browser(home) as other:
        await it.log_in(OPERATOR)
        await other.log_in()
        await turn_on(it, service)
        await turn_on(other, service, endpoint=f"{service.origin}/push/laptop")
        listed = await home.ask("!web sessions")
        session = next(line for line in listed.splitlines() if "memory:@otto" in line).split("`")[1]
        await home.ask(f"!web logout {session}")
        async with home.orchestrator.store.read() as tx:
            row = await web_sessions.get(tx, session)
        assert row is not None
        assert row.push is None
        await asked(home)
        await service.has(1)
        assert [each.path for each in service.received] == ["/push/laptop"]


async def test_who_may_not_answer_any_more_hears_nothing(home: House, it: Browser, service: PushService) -> None:
    async with browser(home) as other:
        await it.log_in(OPERATOR)
        await other.log_in()
        await turn_on(it, service)
        await turn_on(other, service, endpoint=f"{service.origin}/push/laptop")
        await home.ask("!operator set memory:@otto viewer")
        await asked(home)
        await service.has(1)
        assert [each.path for each in service.received] == ["/push/laptop"]
        assert (await it.get("/push")).status == 403


@pytest.mark.parametrize("status", [404, 410])
async def test_a_browser_that_its_service_forgot_is_forgotten(
    home: House, it: Browser, service: PushService, status: int
) -> None:
    await it.log_in(OPERATOR)
    await turn_on(it, service)
    service.status = status
    await asked(home)
    await service.has(1)
    await waiting.until(lambda: push_of(home), lambda found: found is None)


async def test_a_service_that_hangs_holds_up_nobody(home: House, it: Browser, service: PushService) -> None:
    await it.log_in(OPERATOR)
    await turn_on(it, service)
    service.hangs = True
    request = await asked(home)
    await service.has(1)
    assert "/push" in (await it.get("/sessions")).text
    assert "Allow once</button>" in (await it.get(f"/waiting/{request}")).text


async def test_a_push_that_failed_is_sent_again_while_its_request_waits(tmp_path: Path, service: PushService) -> None:
    async with dashboard(tmp_path / "plain") as home, browser(home) as it:
        await it.log_in(OPERATOR)
        services = home.orchestrator.services
        access = access_to(services)
        [session] = await access.listed()
        await access.keep_push(session.id, asdict(service.subscription()))
        sender = PushSender(tmp_path / "key.pem", [service.origin], "mailto:ana@example.org", services.clock)
        await sender.open()
        notifier = WaitingNotifier(services, access, sender, every_s=0.05)
        notifier.start()
        service.status = 503
        await asked(home)
        await service.has(3)
        service.status = 201
        known = await push_of(home)
        await waiting.until(lambda: push_of(home), lambda found: found != known)
        count = len(service.received)
        await home.ask("!task add 'Write a test.' --role coder")
        await notifier.stop()
        await sender.close()
        assert len(service.received) == count


async def test_only_a_browsers_push_service_is_taken(home: House, it: Browser, service: PushService) -> None:
    await it.log_in(OPERATOR)
    refused = await turn_on(it, service, endpoint="https://evil.example/push")
    assert (refused.status, "evil.example, is not in web.push.services" in refused.text) == (422, True)
    # A point that is not on the curve.
    assert (await turn_on(it, service, p256dh="B" + "A" * 86)).status == 422
    assert (await it.post("/push", {**asdict(service.subscription()), "csrf": "0" * 80})).status == 403
    assert (await it.post("/push/off", {"csrf": "0" * 80})).status == 403
    assert await push_of(home) is None


async def test_a_viewer_gets_no_pushes(home: House, it: Browser, service: PushService) -> None:
    await it.log_in(VIEWER)
    assert 'href="/push"' not in (await it.get("/sessions")).text
    assert (await it.get("/push")).status == 403
    token = (await it.get("/")).field("csrf")
    assert (await it.post("/push", {"csrf": token, **asdict(service.subscription())})).status == 403


async def test_the_worker_is_the_same_for_everybody(it: Browser) -> None:
    worker = await it.get("/sw.js")
    assert worker.headers["Content-Type"].startswith("text/javascript")
    assert worker.headers["Cache-Control"] == "no-cache"
    assert "showNotification" in worker.text


async def test_without_the_setting_there_is_nothing_of_it(tmp_path: Path) -> None:
    async with dashboard(tmp_path / "plain") as plain, browser(plain) as it:
        await it.log_in()
        assert 'href="/push"' not in (await it.get("/sessions")).text
        for path in ("/push", "/sw.js"):
            assert (await it.get(path)).status == 404
        assert not plain.paths.push_key.exists()
