"""`muster forge check` names what is missing before an issue stays lying, and changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from bot.config.forge import extra
from bot.config.loader import load
from bot.config.paths import Paths
from bot.issue_runs.forge_check import here
from bot.issue_runs.forge_check.result import ForgeCheckResult, exit_status, text
from bot.issue_runs.forge_check.service import check
from forge.model.references import IssueReference
from forge.webhooks.event import ForgeEvent
from forge.webhooks.listener import WebhookListener
from tests.bot.issue_runs.intake.forge_desk import LABEL, SECRET, SHOP
from tests.forge.forge_server.own_authority import certified
from tests.forge.forge_server.server import ForgeServer


@pytest.fixture
async def forge() -> AsyncIterator[ForgeServer]:
    async with ForgeServer() as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_repository(SHOP, files={"README.md": "A shop.\n"})
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Setup:
    """An installation for a forge, whose block can be changed."""

    def __init__(self, folder: Path, forge: ForgeServer) -> None:
        self.paths = Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})
        self.paths.prepare()
        self.environ = {**os.environ, "TOKEN": forge.add_token("muster"), "SECRET": SECRET}
        self.port = free_port()
        self.block = {
            "kind": "gitea",
            "url": forge.url,
            "token": "env:TOKEN",
            "organization": "acme",
            "repositories": f"[{SHOP}]",
            "sandbox": "bubblewrap",
            "webhooks": f"{{listen: '127.0.0.1:{self.port}', secret: 'env:SECRET'}}",
        }

    async def check(
        self, issue: int | None = None, *, of: str = SHOP, **changed: str | None
    ) -> dict[str, ForgeCheckResult]:
        block = {name: value for name, value in {**self.block, **changed}.items() if value is not None}
        written = "connectors: {terminal: {}}\nforge:\n" + "".join(
            f"  {key}: {value}\n" for key, value in block.items()
        )
        self.paths.muster_yaml.write_text(written)
        at = None if issue is None else IssueReference.parse(f"{of}#{issue}")
        found = await check(self.paths, load(self.paths), self.environ, issue=at)
        assert text(found)
        return {each.tried: each for each in found}


@pytest.fixture
def setup(tmp_path: Path, forge: ForgeServer) -> Setup:
    return Setup(tmp_path, forge)


def missing(found: dict[str, ForgeCheckResult]) -> list[str]:
    return [name for name, each in found.items() if each.state == "missing"]


async def test_a_forge_that_is_set_up_has_nothing_missing(forge: ForgeServer, setup: Setup) -> None:
    forge.protect(SHOP, "main")
    forge.add_webhook(SHOP, "https://muster.example/webhook", secret=SECRET)
    number = forge.add_issue(SHOP, "x", author="ana", labels=[LABEL], assignees=["ana"])
    found = await setup.check(issue=number)
    assert missing(found) == []
    assert exit_status(list(found.values())) == 0
    assert text(list(found.values())).endswith("Nothing is missing.")
    assert found[f"{SHOP}: labels to choose from"].state == "ok"
    assert "it would be picked up" in found[f"pick-up of {SHOP}#{number}, dry"].found
    assert found[f"signed event to 127.0.0.1:{setup.port}"].state == "ok"
    assert all(each.method == "GET" for each in forge.requests)
    assert setup.environ["TOKEN"] not in text(list(found.values()))


async def test_each_thing_that_is_missing_is_named_with_what_to_do(forge: ForgeServer, setup: Setup) -> None:
    forge.protect(SHOP, "muster/*")
    number = forge.add_issue(SHOP, "x", author="ana", labels=["muster:nobody"], assignees=["ana"])
    found = await setup.check(issue=number)
    assert missing(found) == [f"{SHOP}: protected branches", f"{SHOP}: webhook", f"pick-up of {SHOP}#{number}, dry"]
    assert all(found[name].todo for name in missing(found))
    assert found[f"{SHOP}: labels"].state == "note"
    assert "muster:coder" in found[f"{SHOP}: labels to choose from"].todo
    assert "wait for people" in found["approvals"].found
    assert text(list(found.values())).endswith("What is marked ✗ is missing: 3.")
    assert "`nobody`" in found[f"pick-up of {SHOP}#{number}, dry"].todo


async def test_an_issue_of_a_repository_that_is_not_configured(forge: ForgeServer, setup: Setup) -> None:
    forge.add_repository("acme/site", files={"README.md": "x"})
    number = forge.add_issue("acme/site", "x", author="ana", labels=[LABEL], assignees=["ana"])
    found = await setup.check(number, of="acme/site", webhooks=None)
    assert missing(found) == [f"pick-up of acme/site#{number}, dry"]
    assert "Add acme/site there" in found[f"pick-up of acme/site#{number}, dry"].todo


async def test_a_token_from_outside_of_the_organization(forge: ForgeServer, setup: Setup) -> None:
    setup.environ["TOKEN"] = forge.add_token("eve")
    found = await setup.check(webhooks=None)
    assert missing(found) == ["members of acme", SHOP]
    assert "303" in found["members of acme"].found


async def test_a_token_that_is_none_and_a_forge_that_is_away(forge: ForgeServer, setup: Setup) -> None:
    forge.revoke_tokens()
    found = await setup.check(webhooks=None)
    assert missing(found) == [f"token at {forge.url}"]
    found = await setup.check(webhooks=None, url=f"http://127.0.0.1:{free_port()}")
    assert len(missing(found)) == 1
    del setup.environ["TOKEN"]
    assert missing(await setup.check(webhooks=None)) == ["token"]


async def test_a_fork_is_no_condition_but_its_name_has_to_be_free(forge: ForgeServer, setup: Setup) -> None:
    fork, tried = f"muster/{SHOP.partition('/')[2]}", f"{SHOP}: fork"
    # A rule of the repository does not concern what is pushed to the fork.
    forge.protect(SHOP, "muster/*")

    async def check() -> ForgeCheckResult:
        found = await setup.check(webhooks=None, pushes="{fork: true}")
        assert missing(found) in ([], [tried])
        return found[tried]

    found = await check()
    assert (found.state, "Muster makes it" in found.todo) == ("note", True)
    assert all(each.method == "GET" for each in forge.requests)
    forge.add_repository(fork)
    found = await check()
    assert (found.state, "is no fork of" in found.found) == ("missing", True)
    forge.delete_repository(fork)
    forge.fork(SHOP, "muster")
    assert (await check()).state == "ok"


async def test_an_author_for_nobody_is_named(setup: Setup) -> None:
    authors = "{authors: {coder: A <a@acme.example>, codre: B <b@acme.example>}}"
    found = await setup.check(webhooks=None, pushes=authors)
    assert [name for name in found if name.startswith("author of")] == ["author of codre"]


async def test_a_classic_token_needs_a_scope_more_for_a_fork(forge: ForgeServer, setup: Setup) -> None:
    setup.environ["TOKEN"] = forge.add_token("muster", scopes=("repo", "read:org"))
    assert missing(await setup.check(kind="github", webhooks=None)) == []
    found = await setup.check(kind="github", webhooks=None, pushes="{fork: true}")
    assert missing(found) == ["scopes of the token"]
    assert found["scopes of the token"].todo == "Make a token with workflow, too."


async def test_a_certificate_authority_is_named_and_one_that_is_missing_too(tmp_path: Path) -> None:
    tls, ca_file = certified(tmp_path / "authority")
    async with ForgeServer(tls=tls) as forge:
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository(SHOP)
        setup = Setup(tmp_path, forge)
        assert missing(await setup.check(webhooks=None, ca_file=str(ca_file))) == []
        (name,) = missing(found := await setup.check(webhooks=None))
        assert "`forge: ca_file`" in found[name].found
        ca_file.unlink()
        (name,) = missing(found := await setup.check(webhooks=None, ca_file=str(ca_file)))
        assert "cannot be used" in found[name].found


@pytest.mark.parametrize(("sandbox", "state"), [("none", "missing"), (None, "note")])
async def test_a_default_sandbox_that_is_none(setup: Setup, sandbox: str | None, state: str) -> None:
    found = await setup.check(webhooks=None, sandbox=sandbox)
    assert found["default sandbox"].state == state


async def test_a_running_listener_with_another_secret_and_a_secret_that_is_none(setup: Setup) -> None:
    tried = f"signed event to 127.0.0.1:{setup.port}"

    async def write(events: Sequence[ForgeEvent]) -> None:
        raise AssertionError(events)

    listener = WebhookListener("gitea", "the-secret-before-it-was-changed", [], write, port=setup.port)
    await listener.start()
    try:
        found = (await setup.check())[tried]
        assert (found.state, "another secret" in found.found) == ("missing", True)
        assert "Restart Muster" in found.todo
    finally:
        await listener.stop()
    setup.environ["SECRET"] = "short"
    assert "at least 16" in (await setup.check())[tried].found


def test_an_extra_that_is_not_installed_is_named() -> None:
    found = here.installed(extra.lacking(["json", "no_such_module_here"]))
    assert (found.state, found.found) == ("missing", "not installed: no_such_module_here")
    assert "muster-fleet[forge]" in found.todo


def test_a_fleet_without_a_room_is_told_what_to_set() -> None:
    assert (here.room([]).state, "fleet_room" in here.room([]).todo) == ("missing", True)
    assert here.room(["matrix", "discord"]).found == "the main room of matrix"


async def test_without_a_forge_it_says_so(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    paths.muster_yaml.write_text("connectors: {terminal: {}}\n")
    found = await check(paths, load(paths), {})
    assert exit_status(found) == 1
    assert "no forge" in text(found)
