"""A Chromium of the system, and the check of a page by axe-core."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright

from core.crash_points import declare
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from tests.bot.interfaces.web.browser import confirmed, dashboard
from tests.bot.orchestrator import ADMIN, House

_WRITE = declare("tests.browser")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
#: The narrowest phone that the dashboard is made for.
PHONE: ViewportSize = {"width": 360, "height": 740}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with dashboard(tmp_path) as made:
        yield made


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: install it, such as by apt-get install chromium")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program)
        yield browser
        await browser.close()


@pytest.fixture
async def phone(chromium: Browser) -> AsyncIterator[BrowserContext]:
    context = await chromium.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    context.set_default_timeout(30_000)
    yield context
    await context.close()


async def log_in(home: House, page: Page, sender: str = ADMIN, *, control: bool = True) -> None:
    """Log a browser in as a person does; the page goes on by itself."""
    origin = home.orchestrator.services.web_address
    await page.goto(f"{origin}/login")
    await page.get_by_role("button", name="Show a code").click()
    line = await page.locator(".code code").inner_text()
    await confirmed(home, f"{line}{' --control' if control else ''}", sender)
    await page.wait_for_url(f"{origin}/")


async def live(page: Page) -> None:
    """Wait until the page follows what happens."""
    # The page's policy forbids the driver to evaluate conditions.
    await page.locator("html[data-stream=live]").wait_for(state="attached")


async def faults(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds on a page: its rules, and where."""
    if not AXE.exists():
        pytest.skip("axe-core is missing: npm ci in tests/browser")
    # The page's policy lets no script in, so that the check is added by the driver.
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found: Any = await page.evaluate("(tags) => axe.run(document, {runOnly: tags})", rules)
    return [(each["id"], node["html"][:200]) for each in found["violations"] for node in each["nodes"]]


_SIDEWAYS = """() => {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    const over = (each) => each.getBoundingClientRect().right > innerWidth + 1;
    const found = [...document.querySelectorAll("main *, header *, footer *")].filter(over).slice(0, 5);
    const sizes = `${document.documentElement.scrollWidth} of ${innerWidth}`;
    return [sizes, ...found.map((each) => each.outerHTML.slice(0, 160))];
}"""


async def sideways(page: Page) -> list[str]:
    """What reaches over the right edge of a page that scrolls sideways. Frames of their own may scroll."""
    found: list[str] = await page.evaluate(_SIDEWAYS)
    return found


#: What an agent says that is wide in every way.
WIDE = (
    "[[say: # Report\n\n| a column | another column | and a third one | a fourth one |\n| --- | --- | --- | --- |\n"
    f"| {'word ' * 12}| `{'x' * 90}` | 3 | 4 |\n\n```\n{'a line of code, '.replace(',', ';') * 12}\n```\n\n"
    f"{'Unbreakable' * 20}\n\n> a quote\n\n1. one\n2. **two**]]"
)


async def filled(home: House) -> str:
    """Fill every page: agents, a conversation, a request, tasks, limits and an audit. Returns the agent's thread."""
    thread = await home.launch("coder0")
    home.say(WIDE, thread)
    await home.heard(thread, "Unbreakable")
    home.say(f"[[run: echo {'long-argument-' * 30}; echo permitted > proof.txt]]", thread)
    await home.heard(thread, "asks for permission")
    await home.launch("coder-with-a-rather-long-name")
    await home.ask("!cutoff coder-with-a-rather-long-name")
    await home.ask(f"!task add 'Write {'a-test-' * 30}.' --role coder")
    await home.ask("!budget set host 5M --window day")
    await home.ask("!budget set agent:coder0 2M")
    await issue_run(home)
    return thread


async def issue_run(home: House) -> None:
    """Add the run of an issue, with a round, findings and texts that are wide in every way."""
    now = home.clock()
    wide = f"{'a-long-name-' * 20} {'word ' * 30}"
    run = IssueRun(
        id="5e7a1c90ab", forge="git.example.org", repository="acme/shop", number=17, title=wide, body="", role="coder",
        sandboxes=["bubblewrap"], picked_by="ana", picked_how="muster:coder", branch=f"muster/issue-17-{'x' * 80}",
        agent="coder0", connector="memory", room="room", thread_key="o/issue-17", state="failed", detail=wide,
        findings=[{"sentence": wide, "mark": "c0ffee"}], pull_request=18, pull_state="open", pushed_sha="ab" * 20,
        pull_url="https://git.example.org/acme/shop/pulls/18", operations=[wide, "posted a comment on #17"],
        created_at=now, active_at=now,
    )  # fmt: skip
    work = AgentRun(
        id="5e7a1c90ab-1", source=run.forge, agent="coder0", role="coder", prompt=wide, settings={},
        asked_by="forge:ana", connector="memory", room="room", state="done", detail=wide, message="m", tokens=1e5,
        usd=1.5, created_at=now, ended_at=now,
    )  # fmt: skip
    async with home.orchestrator.store.write(_WRITE) as tx:
        await issue_runs.add(tx, run)
        await runs.add(tx, work)
