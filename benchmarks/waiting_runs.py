"""What runs cost that wait for people: an orchestrator with 50 frozen runs of issues beside one with none.

Both look at the same forge, which is a part of the process that measures. Their CPU is compared over the same time.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from bot.config.paths import Paths
from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from fleet.sim.provider import server as provider
from tests.forge.forge_server.server import ForgeServer
from tests.system.installation import Premises

RUNS = 50
#: Of a core, in percent.
AT_MOST = 2.0
#: Seconds: until the first looks are over, and those that are measured, with two looks of each.
_SETTLE_S, _MEASURE_S = 20.0, 120.0
_STEP = declare("benchmarks.waiting_runs")
_SHOP = "acme/shop"
_SETTINGS = """\
connectors:
  terminal: {{}}
agents: {{runtime: sim, sandbox: bubblewrap}}
accounts:
  sim: {{provider: anthropic, base_url: '{models}', credential: 'env:SIM_KEY'}}
forge:
  kind: gitea
  url: {forge}
  token: env:FORGE_TOKEN
  organization: acme
  repositories: [{shop}]
  sandbox: bubblewrap
"""


@dataclass(slots=True, kw_only=True)
class ForgeBench(Premises):
    """An installation beside a forge."""

    token: str

    def secrets(self) -> Mapping[str, str]:
        return {"FORGE_TOKEN": self.token}


def measure() -> list[Figure]:
    """Run both for a while."""
    none, some = asyncio.run(_measured())
    return [
        Figure(name="CPU without a run", value=none, unit="% of a core"),
        Figure(name=f"CPU with {RUNS} waiting runs", value=some, unit="% of a core"),
        Figure(name=f"{RUNS} waiting runs above none", value=some - none, unit="%", at_most=AT_MOST),
    ]


async def _measured() -> tuple[float, float]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-bench-")))
        models = await stack.enter_async_context(provider.running())
        forge = await stack.enter_async_context(ForgeServer())
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository(_SHOP)
        homes = []
        for name in ("none", "some"):
            paths = Paths.of({"MUSTER_HOME": str(folder / name / "home"), "HOME": str(folder / name)})
            paths.prepare()
            paths.muster_yaml.write_text(_SETTINGS.format(models=models.url, forge=forge.url, shop=_SHOP))
            home = ForgeBench(
                folder=folder / name, models=models, paths=paths, kind="terminal", token=forge.add_token("muster")
            )
            stack.push_async_callback(home.close)
            homes.append(home)
        await _add_runs(forge, homes[1])
        for home in homes:
            await home.start()
        await asyncio.sleep(_SETTLE_S)
        processes = [psutil.Process(home.process.pid) for home in homes if home.process is not None]
        before = [_cpu(each) for each in processes]
        await asyncio.sleep(_MEASURE_S)
        none, some = (100 * (_cpu(each) - at) / _MEASURE_S for each, at in zip(processes, before, strict=True))
        await _still_wait(homes[1])
    return none, some


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _add_runs(forge: ForgeServer, home: ForgeBench) -> None:
    """Add issues whose pull requests are open and whose checks passed, and the runs that wait for a word."""
    store = await Store.open(home.paths.register_url)
    host = forge.url.removeprefix("http://")
    for each in range(RUNS):
        number = forge.add_issue(_SHOP, f"Issue {each}", body="x", author="ana", labels=("bug",))
        branch = f"muster/issue-{number}"
        sha = forge.commit(_SHOP, branch, {f"{each}.txt": "x"})
        pull = forge.open_pull(_SHOP, title="x", body="x", head=branch, base="main", by="muster").number
        forge.add_status(_SHOP, sha, "test", "success")
        run, agent = _run(host, number), _agent(number)
        async with store.write(_STEP) as tx:
            await issue_runs.add(tx, run)
            await issue_runs.change(
                tx, run.id, only=["frozen"], branch=branch, pushed_sha=sha, pull_request=pull, pull_state="open"
            )
            await agents.add(tx, agent)
    await store.close()


def _run(host: str, number: int) -> IssueRun:
    return IssueRun(
        id=f"{number:010x}", forge=host, repository=_SHOP, number=number, title="x", body="x", role="coder",
        sandboxes=["bubblewrap"], picked_by="ana", picked_how="label", agent=f"issue-{number}", connector="terminal",
        room="main", thread_key=f"o/issue-{number}", state="frozen", created_at=1.0, active_at=1.0,
    )  # fmt: skip


def _agent(number: int) -> AgentRow:
    return AgentRow(
        name=f"issue-{number}", role="coder", runtime="sim", model=None, sandbox="bubblewrap", workspace="",
        wanted="frozen", at_once=False, keep_session=True, state="frozen", detail=None, launch_id=f"l{number}",
        launched_by="forge:ana", connector="terminal", room="main", thread_key=f"o/issue-{number}", started_at=1.0,
        stopped_at=1.0,
    )  # fmt: skip


async def _still_wait(home: ForgeBench) -> None:
    store = await Store.open(home.paths.register_url)
    async with store.read() as tx:
        waiting = len(await issue_runs.in_states(tx, ["frozen"]))
    await store.close()
    if waiting != RUNS:
        raise AssertionError(f"{waiting} of {RUNS} runs wait\n{home.last_words()}")
