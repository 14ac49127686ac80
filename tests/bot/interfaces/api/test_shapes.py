"""What programs are answered: exactly the keys that are promised, and those that docs/reference/gateway.md adds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bot.api_client import Client
from core.crash_points import declare
from database.queries.spending import usage_ledger
from tests.bot.orchestrator import ROOM, house
from tests.database.queries.rows import row

STEP = declare("tests.shapes")
_GATEWAY = Path(__file__).parents[4] / "docs" / "reference" / "gateway.md"
_SETTINGS = "budgets:\n  host: {tokens: 20M, window: day}\n  agents: {coder0: {share: 20%, of: main, window: 7d}}\n"
_ACCOUNT = "main: {provider: anthropic, kind: subscription, windows: [7d], base_url: URL, credential: 'env:KEY'}"
_ROSTER = "preset: minimal\nagents:\n  - {name: coder0, role: coder, runtime: sim, sandbox: none}\n"

_PROMISED: Mapping[str, set[str]] = {
    "ps": {
        "name", "role", "runtime", "model", "state", "evidence", "evidence_age_s", "activity", "session_id", "turns",
        "queued", "sandbox", "host", "tenant_id", "started_at", "tokens_today",
    },
    "health": {"status", "version", "uptime_s", "connectors", "egress", "register", "jobs", "agents"},
    "health: connectors": {"kind", "reachable", "authenticated", "last_seen", "detail"},
    "health: jobs": {"name", "last_run", "next_run", "last_error", "missed"},
    "budget": {
        "scope", "limit", "unit", "used", "reserved", "remaining", "window", "reset_at", "reset_confidence", "policy",
        "state", "pace",
    },
    "spend: rows": {
        "requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
        "usd", "estimated", "agent",
    },
    "send": {"id", "state"},
    "launch": {"id", "state"},
    "task add": {"id", "state"},
}  # fmt: skip


def _added() -> dict[str, set[str]]:
    """What the table of docs/reference/gateway.md says is there besides."""
    table = _GATEWAY.read_text().partition("## What `--json` prints")[2]
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}


def _shapes(answers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from (("ps", each) for each in answers["ps"])
    yield from (("ps: gate", each["gate"]) for each in answers["ps"])
    yield from (("ps: gate: closed", closed) for each in answers["ps"] for closed in each["gate"]["closed"])
    health = answers["health"]
    yield "health", health
    yield from (("health: connectors", each) for each in health["connectors"])
    yield from (("health: jobs", each) for each in health["jobs"])
    yield from (("health: disks", each) for each in health["disks"])
    yield from (("budget", each) for each in answers["budget"])
    yield from (("budget: pace", each["pace"]) for each in answers["budget"] if each["pace"] is not None)
    yield from (("spend: rows", each) for each in answers["spend"]["rows"])
    yield from ((name, answers[name]) for name in ("send", "launch", "task add"))


async def test_programs_are_answered_what_is_promised_and_what_is_written_down(tmp_path: Path) -> None:
    async with (
        house(tmp_path, settings=_SETTINGS, roster=_ROSTER, account=_ACCOUNT) as home,
        home.open() as orchestrator,
    ):

        async def run(command: str, **given: Any) -> Any:
            client = Client(home.paths.gateway_socket)
            body = await asyncio.to_thread(lambda: client.run(command, given).body)
            assert body.get("data") is not None, body
            return body["data"]

        orchestrator.services.main_room = lambda _: ("memory", ROOM)
        answers = {"launch": await run("launch", name="coder0")}
        await home.heard(await home.thread("coder0"), "Ready")
        async with orchestrator.store.write(STEP) as tx:
            await usage_ledger.add(tx, [row(1, ended_at=home.clock())])
        answers["send"] = await run("send", name="coder0", text="hello")
        answers["task add"] = await run("task add", text="mend it", agent="coder0")
        for name in ("health", "budget", "spend"):
            answers[name] = await run(name)
        await run("estop")
        answers["ps"] = await run("ps")
    added = _added()
    wrong = [
        f"{name}: {key}"
        for name, found in _shapes(answers)
        for key in sorted(set(found) ^ (_PROMISED.get(name, set()) | added.get(name, set())))
    ]
    assert not wrong, "\n".join(dict.fromkeys(wrong))
    assert {name for name, _ in _shapes(answers)} == _PROMISED.keys() | added.keys(), "each of them was looked at"
