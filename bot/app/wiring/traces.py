"""The stage that sends traces to a collector, where muster.yaml has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import import_module

from bot.app.stages import Stage
from bot.commands.outcomes import audited
from bot.config.telemetry import TracesBlock
from bot.reports.services import ReportServices
from bot.text.errors import UserError
from bot.traces import beginning


def stage(services: ReportServices) -> Stage:
    """Return the stage. It cannot start without its extra or without a header's secret."""
    block = services.settings.traces
    if block is None:
        return Stage("traces", start=lambda: beginning.forget(services.store))
    send: Callable[[], Coroutine[None, None, None]] | None = None

    async def start() -> None:
        nonlocal send
        await asyncio.to_thread(_load)
        # A keyring may ask a person.
        headers = await asyncio.to_thread(_headers, services, block)
        await beginning.begin(services.store, services.clock())
        send = _exporter(services, block, headers)

    async def run() -> None:
        assert send is not None
        await send()

    return Stage("traces", start=start, run=run)


def _load() -> None:
    try:
        import_module("bot.traces.service")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("google", "opentelemetry"):
            raise
        raise UserError(
            "Traces cannot be sent, because the extra opentelemetry is not installed. Run `uv tool install "
            "'muster-fleet[opentelemetry]'` or `pip install 'muster-fleet[opentelemetry]'`, or remove traces from "
            "muster.yaml.",
            code="traces.not_installed",
        ) from None


def _headers(services: ReportServices, block: TracesBlock) -> dict[str, str]:
    headers = {name: reference.resolve(services.environ) for name, reference in block.headers.items()}
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            raise UserError(
                f"The secret of the header {name} has characters that no header can have: write one line of ASCII "
                f"where {block.headers[name]} points to.",
                code="traces.header",
            )
    return headers


def _exporter(
    services: ReportServices, block: TracesBlock, headers: dict[str, str]
) -> Callable[[], Coroutine[None, None, None]]:
    from bot.traces.collector import Collector
    from bot.traces.gathering import SpanGatherer
    from bot.traces.service import TraceExporter

    gatherer = SpanGatherer(
        store=services.store,
        folder=services.paths.agent_folder,
        commands={each.name: each for each in services.table},
        audited=lambda name: audited(services.table.get(name)),
        clock=services.clock,
        sample=block.sample,
    )
    exporter = TraceExporter(
        store=services.store,
        gatherer=gatherer,
        collector=Collector(block.endpoint, headers),
        resource={"service.name": "muster", "service.version": services.version},
        version=services.version,
        redact=services.redact,
        clock=services.clock,
    )
    services.trace_health = exporter.condition
    return exporter.run
