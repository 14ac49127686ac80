"""`muster forge check` in a shell."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bot.commands import sections
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from tests.bot.issue_runs.intake.forge_desk import LABEL, SHOP
from tests.forge.forge_server.server import ForgeServer


async def test_it_prints_findings_and_fails_if_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    paths.prepare()
    table = sections.load()
    async with ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository(SHOP)
        monkeypatch.setenv("TOKEN", forge.add_token("muster"))
        number = forge.add_issue(SHOP, "x", author="ana", labels=[LABEL], assignees=["ana"])
        paths.muster_yaml.write_text(
            "connectors: {terminal: {}}\n"
            f"forge: {{kind: gitea, url: '{forge.url}', token: 'env:TOKEN', organization: acme, "
            f"repositories: [{SHOP}], sandbox: bubblewrap}}\n"
        )
        words = ["forge", "check", "--issue", f"{SHOP}#{number}"]
        assert await asyncio.to_thread(run, table, words) == 0
        assert "would be picked up" in capsys.readouterr().out
        forge.unassign(SHOP, number, "ana", by="eve")
        assert await asyncio.to_thread(run, table, [*words, "--json"]) == 1
        last = json.loads(capsys.readouterr().out)[-1]
        assert last["state"] == "missing"
        assert "Nobody is assigned" in last["todo"]
        assert await asyncio.to_thread(run, table, ["forge", "check", "--issue", "17"]) == 2
