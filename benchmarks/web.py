"""The dashboard in a real Chromium on loopback: the first paint, the weight of pages, the age of what they show.

A fleet of a thousand agents is shown by the page of the fleet alone; that they run is another benchmark's subject.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

from playwright.async_api import Browser, Page, Response, async_playwright
from sqlalchemy import func, select

from benchmarks.documents import fleet_of
from benchmarks.figures import Figure, percentile
from bot.dashboard.feed import DocumentSource, Feed
from bot.read_models.fleet import FleetModel
from database.schema.usage_ledger import ledger
from tests.bot.interfaces.web.browser import confirmed, dashboard
from tests.bot.orchestrator import House

ROUNDS = 20
LIMIT = 240.0
AGENTS = 1_000
PAGES = ("/", "/agents/coder0", "/waiting", "/limits", "/tasks", "/audit", "/health", "/commands", "/sessions")
#: Milliseconds until the first paint, p95; kilobytes of a page with all that it loads; milliseconds from the end of a
#: request until a page shows its tokens, p95.
PAINT_AT_MOST, WEIGHT_AT_MOST, AGE_AT_MOST = 300, 150, 1_000


def measure() -> list[Figure]:
    """Log a browser in, and look."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise RuntimeError("there is no Chromium: install it, such as by apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.timeout(LIMIT), dashboard(Path(folder)) as home, async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=program)
            try:
                return await _looked(home, browser)
            finally:
                await browser.close()


async def _looked(home: House, browser: Browser) -> list[Figure]:
    thread = await home.launch("coder0")
    page = await browser.new_page()
    origin = home.orchestrator.services.web_address
    await page.goto(f"{origin}/login")
    await page.get_by_role("button", name="Show a code").click()
    await confirmed(home, await page.locator(".code code").inner_text())
    await page.wait_for_url(f"{origin}/")
    ages = [await _age(home, page, thread, number) for number in range(ROUNDS)]
    _enlarge(home)
    paints = [await _paint(page, f"{origin}/") for _ in range(ROUNDS)]
    known = [each for each in paints if each is not None]
    weights = {path: await _weight(browser, page, f"{origin}{path}") for path in PAGES}
    heaviest = max(weights, key=lambda path: weights[path])
    return [
        *(
            Figure(name=f"first paint, {AGENTS:,} agents, p{percent}", value=percentile(known, percent), unit="ms",
                   at_most=PAINT_AT_MOST if percent == 95 else None)
            for percent in (50, 95)
        ),
        Figure(name="loads for which Chromium told it", value=len(known), unit=f"of {ROUNDS}"),
        Figure(name=f"heaviest page, {heaviest}", value=weights[heaviest], unit="kB", at_most=WEIGHT_AT_MOST),
        *(
            Figure(name=f"a request's tokens on the page, p{percent}", value=percentile(ages, percent), unit="ms",
                   at_most=AGE_AT_MOST if percent == 95 else None)
            for percent in (50, 95)
        ),
    ]  # fmt: skip


async def _age(home: House, page: Page, thread: str, number: int) -> float:
    """Return the milliseconds from the end of a turn's request until the page of the fleet shows its tokens."""
    cell = page.locator("tr[data-key=coder0] td").last
    before = await cell.inner_text()
    home.say(f"[[say: {number}]]", thread)
    while await cell.inner_text() == before:  # noqa: ASYNC110 - the page tells of no change
        await asyncio.sleep(0.005)
    seen = time.time()
    async with home.orchestrator.store.read() as tx:
        ended = await tx.scalar(select(func.max(ledger.c.ended_at)))
    assert ended is not None
    return float(seen - ended) * 1000


def _enlarge(home: House) -> None:
    """Show a thousand agents from now on."""
    feed = home.orchestrator.services.documents
    assert isinstance(feed, Feed)

    async def load() -> FleetModel:
        return fleet_of(AGENTS)

    feed.sources = {**feed.sources, "fleet": DocumentSource(load=load)}


async def _paint(page: Page, address: str) -> float | None:
    """Return the milliseconds until the first paint of a page (Paint Timing), None if Chromium does not tell."""
    await page.goto("about:blank")
    await page.goto(address, wait_until="load")
    found = await page.evaluate("performance.getEntriesByName('first-contentful-paint').map((each) => each.startTime)")
    return float(found[0]) if found else None


async def _weight(browser: Browser, page: Page, address: str) -> float:
    """Return the kilobytes that a browser without a cache receives for a page, compressed."""
    context = await browser.new_context(storage_state=await page.context.storage_state())
    fresh = await context.new_page()
    responses: list[Response] = []
    fresh.on("response", lambda response: responses.append(response))  # the driver marks what it is given
    await fresh.goto(address, wait_until="load")
    bodies = [each for each in responses if "/events" not in each.url]
    sizes = [await each.request.sizes() for each in bodies]
    await context.close()
    return sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes) / 1000
