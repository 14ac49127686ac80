"""Collecting, previewing and sending of telemetry, at most once a day.

A day is marked as done before the report is sent. A lost report is not sent again, so no report is ever sent twice.
"""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime

import structlog

from bot.commands.registry import Reply
from bot.config.schema import Settings
from bot.config.telemetry import Telemetry
from bot.egress_client.services import EgressServices
from bot.telemetry.payload import TelemetryFacts, document
from bot.text import markdown
from core.crash_points import declare
from database.engine import dsn
from database.engine.dsn import FileAddress
from database.queries import tasks
from database.queries.agents import agents
from database.queries.chat import operator_permissions
from database.queries.operations import posted_reports
from database.queries.operations.posted_reports import ReportRow
from database.queries.spending import usage_ledger

log = structlog.get_logger(__name__)

TAKEN = declare("telemetry.taken")

KIND = "telemetry"
#: Seconds for the whole exchange: resolving the address, sending, and the first line of the response.
LIMIT_S = 15.0
_WEEK = 7 * 86_400.0


async def contents(services: EgressServices) -> bytes:
    """Return the report that would be sent now."""
    settings: Settings = services.settings
    since = services.clock() - _WEEK
    async with services.store.read() as tx:
        known = await agents.every(tx)
        people = {each.identity for each in await operator_permissions.every(tx)} | set(settings.operators)
        ended = await tasks.ended_counts(tx, since=since)
        spent = await usage_ledger.spent(tx, by=None, since=since)
    return document(
        TelemetryFacts(
            version=services.version,
            python=sys.version_info[:2],
            system=platform.system().lower(),
            register="sqlite" if isinstance(dsn.parse(settings.register_url), FileAddress) else "postgresql",
            connectors=[each.kind for each in settings.connectors],
            runtimes=[each.runtime for each in known],
            providers=[each.provider for each in settings.accounts.values()],
            operators=len(people),
            tasks=ended,
            tokens=sum(each.tokens for each in spent),
        )
    )


async def preview(services: EgressServices) -> Reply:
    """Return exactly what would be sent, and whether it is sent."""
    telemetry: Telemetry = services.settings.telemetry
    body = await contents(services)
    if telemetry.enabled:
        goes = f"This is sent to {markdown.code(str(telemetry.url))} once a day."
    else:
        goes = "Nothing is sent: telemetry is off. If it were on, this would go to the `telemetry.url` of muster.yaml:"
    text = body.decode()
    data = {"enabled": telemetry.enabled, "url": telemetry.url, "body": text}
    return Reply(f"{goes}\n\n{markdown.code_block(text, 'json')}", data)


async def send(services: EgressServices) -> None:
    """Send today's report (UTC), if telemetry is on and the report was not sent yet. A failure is only logged."""
    telemetry: Telemetry = services.settings.telemetry
    if not telemetry.enabled or telemetry.url is None:
        return
    now = services.clock()
    key = f"{KIND}/{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    async with services.store.read() as tx:
        if await posted_reports.there(tx, [key]):
            return
    body = await contents(services)
    async with services.store.write(TAKEN) as tx:
        if not await posted_reports.add(tx, ReportRow(key=key, kind=KIND, due_at=now, posted_at=now)):
            return
        await posted_reports.forget(tx, [KIND], now - _WEEK)
    await _post(telemetry.url, body)


async def _post(url: str, body: bytes) -> None:
    from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

    headers = {"Content-Type": "application/json", "User-Agent": "muster"}
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=LIMIT_S), cookie_jar=DummyCookieJar()) as session,
            # A redirect would send the report to an address that the operator did not choose.
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (ClientError, TimeoutError, OSError, ValueError) as error:
        log.warning("telemetry.not_sent", reason=f"{type(error).__name__}: {error}"[:200])
        return
    if status >= 300:
        log.warning("telemetry.not_sent", reason=f"the answer was {status}")
    else:
        log.info("telemetry.sent", bytes=len(body))
