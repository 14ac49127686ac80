"""Agents that have a way out and no keys."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from database.queries.agents.agents import AgentRow
from fleet import runtimes
from fleet.control.agent_host_client import AgentLink
from fleet.errors import FleetError
from fleet.journal.events import RuntimeStarted, TurnEnded
from fleet.launch import model_access
from fleet.launch.host_spec_builder import Assembly
from fleet.launch.launch_plan import LaunchDefaults, Planner
from fleet.launch.model_access import ModelAccount
from fleet.sandbox.egress_grant import Allowance, EgressGrant, WayAsked
from fleet.sandbox.profiles import BUILT_IN, SandboxProfile, WrittenProfile, merged
from fleet.sim.provider import server as providers
from fleet.supervision import host_lifecycle, process_sweep
from tests.fleet.host.scripted_agent import until

needs_bubblewrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
SECRET = "sk-ant-api03-the-real-one"


def account(name: str = "main", provider: str = "anthropic", **changes: Any) -> ModelAccount:
    def secret() -> str:
        raise AssertionError("nobody here needs the key")

    return dataclasses.replace(ModelAccount(name=name, provider=provider, base_url=None, secret=secret), **changes)


class Ways:
    """Opens ways of one kind, and keeps what was asked for."""

    def __init__(self, way: EgressGrant) -> None:
        self.way = way
        self.asked: list[WayAsked] = []

    async def open(self, asked: WayAsked) -> EgressGrant:
        self.asked.append(asked)
        return self.way


def assembly(
    folder: Path, ways: Ways | None, *accounts: ModelAccount, profiles: Mapping[str, SandboxProfile] = BUILT_IN
) -> Assembly:
    """What starts agents below a folder.

    Args:
        folder: holds everything.
        ways: opens their ways out; None: they have none.
        accounts: those that they may use.
        profiles: the sandbox profiles that there are.
    """
    state = folder / "muster"
    state.mkdir(exist_ok=True)
    return Assembly(
        planner=Planner(
            folder_of=lambda name: state / "agents" / name,
            workspace_of=lambda name: state / "workspaces" / name,
            roster=folder / "roster.yaml",
            hidden=(state,),
            accounts={each.name: each for each in accounts},
            defaults=LaunchDefaults(),
            profiles=profiles,
            with_way=ways is not None,
        ),
        socket_of=lambda name: folder / f"{name}.sock",
        login_of=lambda runtime: state / "logins" / runtime,
        environ={"NPM_TOKEN": "the-users-own"},
        open_way=None if ways is None else ways.open,
    )


def row(made: Assembly, *, runtime: str = "sim", sandbox: str = "bubblewrap", **changes: Any) -> AgentRow:
    workspace = made.planner.workspace_of("coder0")
    workspace.mkdir(parents=True, exist_ok=True)
    known = AgentRow(
        name="coder0", role="coder", runtime=runtime, model=None, sandbox=sandbox, workspace=str(workspace),
        wanted="running", at_once=False, keep_session=True, state="starting", detail=None, launch_id="l1",
        launched_by="memory:@ana", connector="memory", room="room", thread_key="th/l1", started_at=0.0, stopped_at=None,
    )  # fmt: skip
    return dataclasses.replace(known, **changes)


@pytest.fixture
def ways(tmp_path: Path) -> Ways:
    folder = tmp_path / "muster" / "run" / "out-coder0"
    folder.mkdir(parents=True)
    for name in ("ca.pem", "bundle.pem"):
        (folder / name).write_text("a certificate")
    return Ways(EgressGrant(socket=folder / "sock", ca_file=folder / "ca.pem", bundle_file=folder / "bundle.pem"))


@contextlib.asynccontextmanager
async def forwarding(socket: Path, provider: str, key: str) -> AsyncIterator[list[Mapping[str, str]]]:
    """Whatever comes below /anthropic or /openai goes to the provider, with the key. Yields the headers that came."""
    seen: list[Mapping[str, str]] = []

    async def forward(request: web.Request) -> web.StreamResponse:
        seen.append(dict(request.headers))
        sent = {
            "x-api-key": key,
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
        }
        address = f"{provider}/{request.match_info['rest']}"
        async with session.request(request.method, address, data=await request.read(), headers=sent) as answered:
            response = web.StreamResponse(status=answered.status)
            response.content_type = answered.content_type
            await response.prepare(request)
            async for chunk in answered.content.iter_any():
                await response.write(chunk)
        return response

    application = web.Application()
    for name in ("anthropic", "openai"):
        application.router.add_route("*", f"/{name}/{{rest:.*}}", forward)
    runner = web.AppRunner(application)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        try:
            yield seen
        finally:
            await runner.cleanup()


def holds(folder: Path, word: bytes) -> list[Path]:
    """The files below a folder in which a word stands."""
    return [
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and word in path.read_bytes()
    ]


@needs_bubblewrap
async def test_an_agent_works_through_its_way_alone_and_nothing_of_it_holds_the_key(tmp_path: Path, ways: Ways) -> None:
    assert ways.way.socket is not None
    made = assembly(tmp_path, ways, account())
    agent = row(made)
    async with (
        providers.running() as provider,
        forwarding(ways.way.socket, provider.url, SECRET) as seen,
        contextlib.AsyncExitStack() as ending,
    ):
        ending.push_async_callback(host_lifecycle.kill, made.folder("coder0"))
        await made.start(agent, floor=0, grants=())
        async with await AgentLink.connect(str(made.socket("coder0"))) as link:
            await link.send("m1", "[[say: through]]")
            ended = await until(link, TurnEnded)
            marker = ways.asked[0].marker
            environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in process_sweep.survivors(marker)]
            turn = json.loads(Path(ways.asked[0].turn_file).read_text())
        assert ended.stop_reason == "end_turn"
        assert provider.ledger.entries
    assert [headers["x-api-key"] for headers in seen] == ["sk-ant-api03-placeholder"] * len(seen)
    assert environments
    assert not [environment for environment in environments if SECRET.encode() in environment]
    assert holds(made.folder("coder0"), SECRET.encode()) == []
    assert holds(made.folder("coder0"), b"sk-ant-api03-placeholder") == [made.folder("coder0") / "host.json"]
    assert turn["turn"] is None


@needs_bubblewrap
async def test_an_agent_that_a_boot_brings_back_before_its_way_finds_it_once_it_is_there(
    tmp_path: Path, ways: Ways
) -> None:
    assert ways.way.socket is not None
    made = assembly(tmp_path, Ways(EgressGrant(socket=ways.way.socket)), account())
    spec = made.spec(row(made), 0, (), way=EgressGrant(socket=ways.way.socket), marker="a" * 32)
    # What lay in memory is gone, and the agent host comes up first.
    shutil.rmtree(ways.way.socket.parent)
    async with contextlib.AsyncExitStack() as ending:
        ending.push_async_callback(host_lifecycle.kill, made.folder("coder0"))
        await host_lifecycle.spawn(spec)
        async with await AgentLink.connect(spec.socket) as link:
            await until(link, RuntimeStarted)
            async with (
                providers.running() as provider,
                forwarding(ways.way.socket, provider.url, SECRET),
            ):
                await link.send("m1", "[[say: through]]")
                assert (await until(link, TurnEnded)).stop_reason == "end_turn"


def test_whoever_opens_the_way_is_told_what_the_agent_is(tmp_path: Path, ways: Ways) -> None:
    written = {
        "web": WrittenProfile(routes=("example.org",)),
        "docs": WrittenProfile(extends=("web",), routes=("docs.python.org",)),
    }
    made = assembly(tmp_path, ways, account(), account("other", "openai"), profiles=merged(written))
    basis = {"said": {"budget": "200000", "budget_may_raise": "yes"}, "roster": {}}
    asked = made.asks_for_way(row(made, sandbox="docs", basis=basis), "m4rk3r")
    assert asked == WayAsked(
        agent="coder0",
        launch_id="l1",
        role="coder",
        profile="docs",
        profiles=("docs", "web"),
        routes=("example.org", "docs.python.org"),
        accounts={"anthropic": "main"},
        listener="unix",
        control_socket=str(made.socket("coder0")),
        marker="m4rk3r",
        turn_file=str(made.folder("coder0") / "turn.json"),
        allowances=(Allowance(scope="launch:l1", amount=200000.0, may_raise=True),),
    )
    assert made.asks_for_way(row(made, sandbox="none"), "m").listener == "port"


@needs_bubblewrap
@pytest.mark.parametrize(
    ("kept", "key", "address", "placeholder"),
    [
        (account(), "ANTHROPIC", "/anthropic", "sk-ant-api03-placeholder"),
        (account(has_credential=False), "ANTHROPIC", "/anthropic", "sk-ant-api03-placeholder"),
        (account(provider="openai"), "OPENAI", "/openai/v1", "sk-placeholder"),
    ],
)
def test_a_runtime_in_a_sandbox_is_given_an_address_inside_and_a_placeholder(
    tmp_path: Path, ways: Ways, kept: ModelAccount, key: str, address: str, placeholder: str
) -> None:
    made = assembly(tmp_path, ways, kept)
    (tmp_path / "roster.yaml").write_text(
        "preset: minimal\nagents: [{name: coder0, env: {NPM_TOKEN: env:NPM_TOKEN, no_proxy: mine}}]\n"
    )
    spec = made.spec(row(made), 0, (), way=ways.way, marker="m")
    environment = spec.environment
    folder = str(ways.way.socket.parent) if ways.way.socket is not None else ""
    assert environment[f"{key}_BASE_URL"] == f"http://127.0.0.1:47801{address}"
    assert environment[f"{key}_API_KEY"] == placeholder
    assert environment["HTTPS_PROXY"] == environment["http_proxy"] == "http://127.0.0.1:47801"
    assert environment["SSL_CERT_FILE"] == environment["GIT_SSL_CAINFO"] == f"{folder}/bundle.pem"
    assert environment["NODE_EXTRA_CA_CERTS"] == f"{folder}/ca.pem"
    # What the roster says goes before all of it.
    assert (environment["NPM_TOKEN"], environment["no_proxy"]) == ("the-users-own", "mine")
    assert spec.marker == "m"


def test_without_a_sandbox_only_the_address_and_the_key_are_others(tmp_path: Path) -> None:
    way = EgressGrant(url="http://127.0.0.1:1234/t0k3n")
    made = assembly(tmp_path, Ways(way), account())
    environment = made.spec(row(made, sandbox="none"), 0, (), way=way).environment
    before = assembly(tmp_path, None, account(secret=lambda: SECRET)).spec(row(made, sandbox="none"), 0, ()).environment
    assert {name: value for name, value in environment.items() if before.get(name) != value} == {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1234/t0k3n/anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-api03-placeholder",
    }
    assert before["ANTHROPIC_API_KEY"] == SECRET


def test_a_program_of_ones_own_may_use_the_first_account_of_each_provider(tmp_path: Path, ways: Ways) -> None:
    kept = (account(), account("second"), account("open", "openai"))
    made = assembly(tmp_path, ways, *kept)
    (tmp_path / "roster.yaml").write_text(
        "preset: minimal\nagents: [{name: coder0, runtime: custom, command: [/bin/sh]}]\n"
    )
    agent = row(made, runtime="custom", sandbox="none")
    assert made.asks_for_way(agent, "m").accounts == {"anthropic": "main", "openai": "open"}
    way = EgressGrant(url="http://127.0.0.1:1/t")
    environment = made.spec(agent, 0, (), way=way).environment
    assert environment["OPENAI_BASE_URL"] == "http://127.0.0.1:1/t/openai/v1"
    assert environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1/t/anthropic"
    assert (environment["OPENAI_API_KEY"], environment["ANTHROPIC_API_KEY"]) == (
        "sk-placeholder",
        "sk-ant-api03-placeholder",
    )
    (tmp_path / "roster.yaml").write_text(
        "preset: minimal\nagents: [{name: coder0, runtime: custom, command: [/bin/sh], account: open}]\n"
    )
    assert made.asks_for_way(agent, "m").accounts == {"openai": "open"}


# --- logins ------------------------------------------------------------------------------------------------------


def program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claude Code's adapter as something that is installed, and a login that a person made. Returns the login."""
    path = program(tmp_path / "bin", "claude-agent-acp")
    monkeypatch.setenv("PATH", f"{path}:/usr/local/bin:/usr/bin:/bin")
    login = tmp_path / "muster" / "logins" / "claude" / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    login.write_text('{"token": "of the person"}')
    return login


@needs_bubblewrap
@pytest.mark.parametrize(
    "kept", [(), (account(has_credential=False),), (account(has_credential=False, passthrough=True),)]
)
def test_a_login_of_its_own_is_refused_in_a_sandbox_before_anything_starts(
    tmp_path: Path, ways: Ways, claude: Path, kept: tuple[ModelAccount, ...]
) -> None:
    made = assembly(tmp_path, ways, *kept)
    with pytest.raises(FleetError, match=r"`claude setup-token`.*`muster login claude`.*`sandbox: none`"):
        made.planner.plan("coder0", {"runtime": "claude"})
    made.planner.plan("coder0", {"runtime": "claude", "sandbox": "none"})
    # Where nobody opens ways, it works as ever.
    assembly(tmp_path, None, *kept).planner.plan("coder0", {"runtime": "claude"})
    assert ways.asked == []


@needs_bubblewrap
def test_a_subscriptions_token_is_stood_for_by_one_that_looks_alike_and_an_old_login_goes(
    tmp_path: Path, ways: Ways, claude: Path
) -> None:
    agent = row(assembly(tmp_path, None), runtime="claude")
    assembly(tmp_path, None).spec(agent, 0, ())
    home = tmp_path / "muster" / "agents" / "coder0" / "home"
    assert (home / ".claude" / ".credentials.json").read_text() == claude.read_text()
    environment = assembly(tmp_path, ways, account(oauth=True)).spec(agent, 0, (), way=ways.way).environment
    assert environment["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-placeholder"
    assert "ANTHROPIC_API_KEY" not in environment
    assert holds(home, b"of the person") == []


def test_a_login_that_goes_through_is_taken_into_the_home_and_only_the_address_is_set(
    tmp_path: Path, claude: Path
) -> None:
    way = EgressGrant(url="http://127.0.0.1:1/t")
    made = assembly(tmp_path, Ways(way), account(has_credential=False, passthrough=True))
    agent = row(made, runtime="claude", sandbox="none")
    assert made.asks_for_way(agent, "m").accounts == {"anthropic": "main"}
    spec = made.spec(agent, 0, (), way=way)
    assert spec.environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1/t/anthropic"
    assert not {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} & spec.environment.keys()
    home = tmp_path / "muster" / "agents" / "coder0" / "home"
    assert (home / ".claude" / ".credentials.json").read_text() == claude.read_text()


def test_a_login_without_a_sandbox_that_was_not_declared_to_go_through_goes_where_it_went(
    tmp_path: Path, claude: Path
) -> None:
    way = EgressGrant(url="http://127.0.0.1:1/t")
    made = assembly(tmp_path, Ways(way), account(has_credential=False, secret=lambda: None))
    agent = row(made, runtime="claude", sandbox="none")
    assert made.asks_for_way(agent, "m").accounts == {}
    assert "ANTHROPIC_BASE_URL" not in made.spec(agent, 0, (), way=way).environment


def test_codex_and_opencode_are_told_the_address_in_their_own_ways() -> None:
    way = EgressGrant(socket=Path("/run/x/sock"))
    for name, provider, wanted in (
        ("codex", "openai", "http://127.0.0.1:47801/openai/v1"),
        ("opencode", "anthropic", "http://127.0.0.1:47801/anthropic/v1"),
        ("opencode", "openai", "http://127.0.0.1:47801/openai/v1"),
        ("pi", "anthropic", "http://127.0.0.1:47801/anthropic"),
    ):
        seen = model_access.through(account(provider=provider), way, login=True)
        asked = runtimes.declaration.RuntimeRequest(
            home=Path("/h"), workspace=Path("/w"), sandboxed=True, model=None, provider=provider, key=seen.secret(),
            base_url=seen.base_url, password="p",
        )  # fmt: skip
        environment = runtimes.RUNTIMES[name].answer(asked).variables
        assert any(f'"{wanted}"' in value or value == wanted for value in environment.values()), name
