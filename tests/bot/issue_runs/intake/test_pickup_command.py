"""`pickup` in a running orchestrator in front of a forge: what an operator gets, and what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.issue_runs.services import IssueServices
from bot.monitoring import health, health_view, metrics
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from tests.bot.issue_runs.intake.forge_desk import LABEL, SHOP
from tests.bot.orchestrator import OPERATOR, ROOM, VIEWER, House, house
from tests.forge.forge_server.server import ForgeServer

_BLOCK = """\
forge:
  kind: gitea
  url: URL
  token: file:TOKEN
  organization: acme
  repositories: [acme/shop]
  sandbox: bubblewrap
  mode: poll
  poll: 5s
"""


@dataclass
class Front:
    home: House
    forge: ForgeServer

    async def run_of(self, number: int) -> IssueRun | None:
        services = self.home.orchestrator.services
        assert services.forge is not None
        async with services.store.read() as tx:
            return await issue_runs.of_issue(tx, services.forge.host, SHOP, number)


@asynccontextmanager
async def front(folder: Path, *, block: str = _BLOCK) -> AsyncIterator[Front]:
    async with ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository(SHOP, files={"README.md": "A shop.\n"})
        token = folder / "token"
        token.write_text(forge.add_token("muster"))
        token.chmod(0o600)
        settings = block.replace("URL", forge.url).replace("TOKEN", str(token))
        async with house(folder / "home", settings=settings) as home:
            home.paths.muster_yaml.write_text(
                home.paths.muster_yaml.read_text().replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}")
            )
            async with home.open():
                yield Front(home, forge)


async def test_an_operator_picks_an_issue_up_and_hears_what_is_missing(tmp_path: Path) -> None:
    async with front(tmp_path) as made:
        home, forge = made.home, made.forge
        number = forge.add_issue(SHOP, "It *fails*", author="eve", labels=["bug"])
        said = await home.ask(f"!pickup {SHOP}#{number}", sender=OPERATOR)
        assert "has no label muster:NAME" in said
        assert "--role" in said
        page = f"{forge.url}/{SHOP}/issues/{number}"
        assert "is called 'codr'. Did you mean 'coder'?" in await home.ask(f"!pickup {page} --role codr")
        for sandbox in ("x", "none"):
            said = await home.ask(f"!pickup {page} --role coder --sandbox {sandbox}", sender=OPERATOR)
            assert f"No sandbox profile for issues is called {sandbox!r}. There is bubblewrap." in said
        joined = f"!pickup {SHOP}#{number} --role coder --sandbox a+b"
        assert "only an admin" in await home.ask(joined, sender=OPERATOR)
        assert f"Write it as {SHOP}#17." in await home.ask("!pickup 17", sender=OPERATOR)
        assert "no issue of the configured forge" in await home.ask("!pickup https://evil.example/a/b/issues/1")
        assert "no repository of" in await home.ask("!pickup eve/x#1", sender=OPERATOR)
        assert "Nothing was begun" in await home.ask(f"!pickup {SHOP}#99", sender=OPERATOR)
        assert "permission" in (await home.ask(f"!pickup {SHOP}#{number} --role coder", sender=VIEWER)).lower()
        assert await made.run_of(number) is None
        said = await home.ask(f"!pickup {SHOP}#{number} --role coder", sender=OPERATOR)
        assert f"{SHOP}#{number} is picked up: issue-{number} (coder, sandbox bubblewrap)" in said
        run = await made.run_of(number)
        assert run is not None
        assert (run.picked_by, run.picked_how, run.title) == ("memory:@otto", "pickup", "It *fails*")
        await home.opened_by(run.thread_key)
        assert "has a run already" in await home.ask(f"!pickup {SHOP}#{number} --role coder", sender=OPERATOR)


async def test_a_labelled_issue_is_found_by_a_running_orchestrator_and_a_refusal_is_posted(tmp_path: Path) -> None:
    async with front(tmp_path) as made:
        number = made.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
        bad = made.forge.add_issue(SHOP, "New", author="ana", labels=["muster:nobody"], assignees=["ana"])
        services = made.home.orchestrator.services
        services.intake.wake()
        async with asyncio.timeout(30):
            while await made.run_of(number) is None or not made.forge.item(SHOP, bad).remarks:
                await asyncio.sleep(0.05)
        (remark,) = made.forge.item(SHOP, bad).remarks
        assert "`nobody`" in remark.body


async def _health(services: IssueServices) -> dict[str, Any]:
    return health_view.health_json(await health.load(services), services.clock())


async def test_health_and_metrics_say_how_the_forge_does(tmp_path: Path) -> None:
    async with front(tmp_path) as made:
        services = made.home.orchestrator.services
        async with asyncio.timeout(30):
            while (found := await _health(services))["forge"]["reachable"] is None:
                await asyncio.sleep(0.05)
        forge = found["forge"]
        assert (forge["reachable"], forge["impaired"], forge["waiting"], forge["trouble"]) == (True, False, 0, {})
        assert forge["repositories"][0]["name"] == SHOP
        made.forge.revoke_tokens()
        made.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
        async with asyncio.timeout(30):
            while not (found := await _health(services))["forge"]["trouble"]:
                await asyncio.sleep(0.05)
        assert (found["status"], found["forge"]["impaired"]) == ("degraded", True)
        assert "401" in found["forge"]["detail"]
        assert "401" in health_view.health_text(await health.load(services), services.clock())
        said = await made.home.heard(ROOM, "The forge")
        assert "401" in said
        written = (await metrics.exposition(services)).decode()
        assert 'muster_part_up{kind="forge"' in written
        assert "muster_forge_trouble 1.0" in written


async def test_without_a_forge_the_command_says_so(tmp_path: Path) -> None:
    async with front(tmp_path, block="") as made:
        assert "names no forge" in await made.home.ask(f"!pickup {SHOP}#1", sender=OPERATOR)
