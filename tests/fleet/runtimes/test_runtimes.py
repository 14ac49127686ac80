from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import runtimes
from fleet.errors import FleetError, RuntimeMissing
from fleet.program_lookup import Which
from fleet.roster import loader
from fleet.runtimes import RUNTIMES, Prepared


@dataclass
class Account:
    provider: str = "anthropic"
    base_url: str | None = None
    key: str | None = "sk-secret"

    @property
    def secret(self) -> Callable[[], str | None]:
        return lambda: self.key


class Machine:
    """A folder with programs as npm installs them, and an agent's home."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "npm" / "node_modules" / ".bin"
        self.modules = folder / "npm" / "node_modules"
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        for made in (self.bin, self.home, self.workspace):
            made.mkdir(parents=True)

    def install(self, *names: str) -> None:
        for name in names:
            script = self.modules / name / "dist" / "index.js"
            script.parent.mkdir(parents=True)
            script.write_text("#!/usr/bin/env node\n")
            script.chmod(0o755)
            (self.bin / name).symlink_to(script)
        node = self.bin.parent.parent / "node" / "bin" / "node"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.write_bytes(b"\x7fELF")
        node.chmod(0o755)
        (self.bin / "node").symlink_to(node)

    @property
    def which(self) -> Which:
        return lambda name: shutil.which(name, path=str(self.bin))

    def prepare(self, name: str, account: Account | None = None, **changes: object) -> Prepared:
        asked: dict[str, object] = {"model": None, "which": self.which, "environ": {}, **changes}
        return runtimes.prepare(
            RUNTIMES[name],
            home=self.home,
            workspace=self.workspace,
            account=account,
            **asked,  # type: ignore[arg-type]
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_every_runtime_that_a_roster_may_name_is_declared() -> None:
    assert set(loader.RUNTIMES) == set(RUNTIMES)


@pytest.mark.parametrize("name", ["claude", "codex", "opencode", "pi"])
def test_a_missing_program_is_an_error_that_says_how_to_install_it(machine: Machine, name: str) -> None:
    with pytest.raises(RuntimeMissing, match=r"not installed: there is no program .* npm install -g"):
        machine.prepare(name)


def test_a_missing_interpreter_is_named(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    (machine.bin / "node").unlink()
    with pytest.raises(RuntimeMissing, match="no program node on the PATH"):
        machine.prepare("claude")


@pytest.mark.parametrize("name", ["claude", "codex", "opencode", "pi", "sim"])
def test_nothing_of_the_operators_environment_reaches_an_agent(
    machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.install("claude-agent-acp", "codex-acp", "opencode", "pi-acp", "pi")
    which: Which = lambda wanted: machine.which(wanted) or (wanted if wanted == sys.executable else None)  # noqa: E731
    for variable in ("AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "NODE_OPTIONS", "LD_PRELOAD", "MUSTER_HOME", "PATH"):
        monkeypatch.setenv(variable, "/from/the/operator")
    monkeypatch.setenv("TZ", "Europe/Vienna")
    prepared = machine.prepare(name, which=which, environ=os.environ)
    assert not [value for value in prepared.environment.values() if "/from/the/operator" in value]
    assert prepared.environment["TZ"] == "Europe/Vienna"
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR"):
        assert Path(prepared.environment[variable]).is_relative_to(machine.home)
    assert Path(prepared.environment["TMPDIR"]).is_dir()


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude", "anthropic"),
        ("codex", "openai"),
        ("opencode", "anthropic"),
        ("opencode", "openai"),
        ("sim", "openai"),
    ],
)
def test_a_key_is_in_the_environment_and_nowhere_else(machine: Machine, name: str, provider: str) -> None:
    machine.install("claude-agent-acp", "codex-acp", "opencode")
    which: Which = lambda wanted: machine.which(wanted) or (wanted if wanted == sys.executable else None)  # noqa: E731
    prepared = machine.prepare(name, Account(provider, "http://127.0.0.1:9/v1"), which=which, model="m1")
    holders = [variable for variable, value in prepared.environment.items() if "sk-secret" in value]
    assert holders == [f"{provider.upper()}_API_KEY"]
    assert not any("sk-secret" in word for word in prepared.command)
    assert "sk-secret" not in repr(prepared)
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    assert not any("sk-secret" in path.read_text() for path in files)
    assert any("127.0.0.1:9" in value for value in prepared.environment.values())
    assert any("m1" in value for value in prepared.environment.values())
    assert prepared.models == "environment"


def test_a_program_of_npm_is_run_by_its_interpreter_with_its_whole_tree_in_view(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    prepared = machine.prepare("claude")
    node = machine.modules.parent / "node"
    assert prepared.command == (str(node / "bin" / "node"), str(machine.modules / "claude-agent-acp/dist/index.js"))
    assert set(prepared.readonly) == {machine.modules, node}
    assert prepared.environment["PATH"].startswith(f"{node / 'bin'}:")


def test_claude_takes_no_settings_but_ours_and_updates_nothing(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    prepared = machine.prepare("claude", Account(key="sk-ant-oat01-abc"))
    options = prepared.session_meta["claudeCode"]["options"]
    assert options["settingSources"] == []
    assert options["strictMcpConfig"] is True
    assert options["managedSettings"]["allowManagedHooksOnly"] is True
    assert prepared.session_mode == "default"
    assert prepared.environment["DISABLE_AUTOUPDATER"] == "1"
    assert prepared.environment["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-abc"
    assert "ANTHROPIC_API_KEY" not in prepared.environment


def test_claude_goes_on_in_a_terminal_with_the_same_settings_and_asks_little_first(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    noted = machine.home / ".claude" / ".claude.json"
    noted.parent.mkdir()
    noted.write_text(json.dumps({"userID": "u1", "hasCompletedOnboarding": False}))
    prepared = machine.prepare("claude", Account(key="sk-ant-api03-placeholder"))
    options = prepared.session_meta["claudeCode"]["options"]
    line = prepared.terminal
    assert line[: len(prepared.command)] == prepared.command
    assert line[line.index("--resume") + 1] == "{session}"
    assert "--setting-sources=" in line
    assert "--strict-mcp-config" in line
    assert json.loads(line[line.index("--managed-settings") + 1]) == options["managedSettings"]
    answers = json.loads(noted.read_text())
    assert (answers["userID"], answers["hasCompletedOnboarding"]) == ("u1", True)
    assert answers["customApiKeyResponses"]["approved"] == ["sk-ant-api03-placeholder"[-20:]]
    assert "projects" not in answers, "a person says whether the folder is trusted"


@pytest.mark.parametrize("content", ["[]", "no json", "[" * 100_000, None])
def test_what_an_agent_left_in_place_of_answers_is_replaced_and_no_link_is_followed(
    machine: Machine, tmp_path: Path, content: str | None
) -> None:
    machine.install("claude-agent-acp")
    noted, precious = machine.home / ".claude" / ".claude.json", tmp_path / "precious"
    noted.parent.mkdir()
    precious.write_text('{"own": 1}')
    if content is None:
        noted.symlink_to(precious)
    else:
        noted.write_text(content)
    machine.prepare("claude")
    assert json.loads(noted.read_text()) == {"hasCompletedOnboarding": True}
    assert precious.read_text() == '{"own": 1}'


def test_codex_goes_on_in_a_terminal_and_trusts_no_repository_there(machine: Machine) -> None:
    machine.install("codex-acp")
    prepared = machine.prepare("codex", Account("openai", "http://127.0.0.1:9/v1"), model='m"1')
    line = prepared.terminal
    assert line[len(prepared.command) : len(prepared.command) + 2] == ("cli", "resume")
    assert line[-2:] == ("--", "{session}")
    settings = tomllib.loads("\n".join(line[place + 1] for place, word in enumerate(line) if word == "-c"))
    assert settings["projects"] == {str(machine.workspace): {"trust_level": "untrusted"}}
    assert settings["approval_policy"] == "on-request"
    assert settings["sandbox_mode"] == "read-only"
    assert settings["model"] == 'm"1'
    assert settings["model_providers"]["muster"]["base_url"] == "http://127.0.0.1:9/v1"
    assert not any("sk-secret" in word for word in line)


def test_codex_asks_a_person_and_trusts_no_repository(machine: Machine) -> None:
    machine.install("codex-acp")
    prepared = machine.prepare("codex", Account("openai"))
    assert prepared.environment["INITIAL_AGENT_MODE"] == prepared.session_mode == "read-only"
    preloaded = Path(prepared.environment["NODE_OPTIONS"].removeprefix("--import="))
    assert preloaded.is_file()
    assert any(preloaded.is_relative_to(path) for path in prepared.readonly)
    added = machine.prepare("codex", extra_environment={"NODE_OPTIONS": "--no-warnings"})
    assert added.environment["NODE_OPTIONS"] == f"--import={preloaded} --no-warnings"
    config = json.loads(prepared.environment["CODEX_CONFIG"])
    assert (config["sandbox_mode"], config["approval_policy"]) == ("read-only", "on-request")
    assert config["model_providers"]["muster"]["env_key"] == "OPENAI_API_KEY"
    with pytest.raises(FleetError, match="only together with a key"):
        machine.prepare("codex", Account("openai", "http://127.0.0.1:9", None))


@pytest.mark.parametrize("trick", ["files", "links", "swapped"])
def test_what_an_agent_left_in_its_home_grants_it_nothing_at_its_next_start(
    machine: Machine, tmp_path: Path, trick: str
) -> None:
    machine.install("codex-acp")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    codex = machine.home / ".codex"
    codex.mkdir()
    (codex / "sessions").mkdir()
    match trick:
        case "files":
            (codex / "rules").mkdir()
            (codex / "rules" / "default.rules").write_text("grants")
            (codex / "config.toml").write_text("grants")
        case "links":
            (codex / "rules").symlink_to(precious)
            (codex / "config.toml").symlink_to(precious / "file")
        case "swapped":
            (codex / "rules").write_text("grants")
            (codex / "config.toml").mkdir()
    prepared = machine.prepare("codex")
    assert list((codex / "rules").iterdir()) == []
    assert "grants" not in (codex / "config.toml").read_text()
    assert not (codex / "config.toml").is_symlink()
    assert (precious / "file").read_text() == "precious"
    assert (codex / "sessions").is_dir()
    assert prepared.locked == (codex / "config.toml", codex / "rules")


def test_opencode_asks_before_everything_and_never_takes_its_makers_model(machine: Machine) -> None:
    machine.install("opencode")
    for account in (None, Account()):
        prepared = machine.prepare("opencode", account)
        config = json.loads(prepared.environment["OPENCODE_CONFIG_CONTENT"])
        assert set(config["permission"].values()) == {"ask"}
        assert config["autoupdate"] is False
        assert config.get("enabled_providers") == ["anthropic"] or config["disabled_providers"] == ["opencode"]
        assert prepared.environment["OPENCODE_DISABLE_PROJECT_CONFIG"] == "1"


def test_opencode_finds_nothing_of_what_an_agent_left_for_its_next_start(machine: Machine) -> None:
    machine.install("opencode")
    home = machine.home
    left = [".config/opencode/opencode.json", ".config/opencode/plugins/evil.js", ".opencode/opencode.json"]
    left += [".cache/opencode/models.json", ".cache/opencode/bin/rg"]
    for name in left:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("evil")
    (home / ".local/share/opencode").mkdir(parents=True)
    (home / ".local/share/opencode/opencode.db").write_text("its sessions")
    prepared = machine.prepare("opencode")
    assert [name for name in left if (home / name).exists()] == []
    assert (home / ".local/share/opencode/opencode.db").read_text() == "its sessions"
    assert prepared.locked == (home / ".config/opencode", home / ".opencode")
    # It looks into its cache and fills it, which is no harm until the next start.
    assert (home / ".cache/opencode").is_dir()
    for folder in prepared.locked:
        assert [path.name for path in folder.iterdir()] == [".gitignore"], "it would end where it cannot write this"


def test_a_home_that_an_agent_nested_too_deep_to_be_deleted_is_put_aside(machine: Machine) -> None:
    machine.install("opencode")
    deep = machine.home / ".cache" / "opencode"
    deep.mkdir(parents=True)
    (deep / "models.json").write_text("evil")
    folder = os.open(deep, os.O_DIRECTORY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        machine.prepare("opencode")
        assert list(deep.iterdir()) == []
    finally:
        subprocess.run(["rm", "-rf", str(machine.home)], check=True)


def test_a_home_that_cannot_be_written_is_an_error_and_no_fault(machine: Machine, tmp_path: Path) -> None:
    machine.install("opencode")
    (machine.home / "tmp").mkdir()
    (machine.home / ".config").symlink_to(tmp_path)
    with pytest.raises(FleetError, match="Move it away"):
        machine.prepare("opencode")
    machine.home = tmp_path / "gone"
    with pytest.raises(FleetError, match="cannot be made ready: No such file"):
        machine.prepare("opencode")


PLUGINS = {
    "a file in the plugins' folder": (".opencode/plugins/evil.js", ""),
    "the older folder": (".opencode/plugin/evil.ts", ""),
    "the configuration": ("opencode.json", '{"plugin": ["./evil.js"]}'),
    "the newer word for it": ("opencode.jsonc", '{"plugins": ["file:///evil.js"], // words\n}'),
    "letters by their numbers": ("opencode.json", r'{"\u0070lug\u0069n": ["./evil.js"]}'),
    "configuration in its folder": (".opencode/opencode.json", '{"plugin": ["evil"]}'),
    "too much to look through": ("opencode.json", " " * 2**21 + "{}"),
}


@pytest.mark.parametrize("where", PLUGINS)
def test_opencode_is_not_started_where_it_would_run_programs_of_a_repository(machine: Machine, where: str) -> None:
    machine.install("opencode", "claude-agent-acp")
    name, content = PLUGINS[where]
    file = machine.workspace / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    for sandboxed in (True, False):
        with pytest.raises(FleetError, match=f"unasked.*look at {file}"):
            machine.prepare("opencode", sandboxed=sandboxed)
    machine.prepare("claude")


@pytest.mark.parametrize("name", [".opencode", ".opencode/plugins", "opencode.json"])
def test_opencode_is_not_started_where_a_link_hides_what_it_would_run(machine: Machine, name: str) -> None:
    machine.install("opencode")
    (machine.workspace / name).parent.mkdir(exist_ok=True)
    (machine.workspace / name).symlink_to("/nowhere")
    with pytest.raises(FleetError, match=f"look at {machine.workspace / name}"):
        machine.prepare("opencode")


def test_opencode_starts_in_a_repository_with_other_configuration(machine: Machine) -> None:
    machine.install("opencode")
    (machine.workspace / ".opencode" / "plugins").mkdir(parents=True)
    (machine.workspace / ".opencode" / "plugins" / "README.md").write_text("None yet.")
    (machine.workspace / ".opencode" / "agents").mkdir()
    (machine.workspace / "opencode.json").write_text('{"model": "anthropic/claude"}')
    machine.prepare("opencode")


def test_opencode_is_not_started_below_a_folder_whose_programs_it_would_run_and_sees(machine: Machine) -> None:
    machine.install("opencode")
    plugins = machine.workspace.parent / ".opencode" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "evil.js").write_text("")
    machine.prepare("opencode", sandboxed=True)
    with pytest.raises(FleetError, match=r"evil\.js"):
        machine.prepare("opencode", sandboxed=False)
    # It looks no further than the repository that the workspace is.
    (machine.workspace / ".git").mkdir()
    machine.prepare("opencode", sandboxed=False)


def test_the_door_that_opencode_opens_has_another_password_at_every_start(machine: Machine) -> None:
    machine.install("opencode")
    first, second = machine.prepare("opencode"), machine.prepare("opencode")
    passwords = {prepared.environment["OPENCODE_SERVER_PASSWORD"] for prepared in (first, second)}
    assert len(passwords) == 2
    assert all(len(password) > 20 for password in passwords)
    assert first.command[-2:] == ("--hostname", "127.0.0.1")
    assert not passwords & set(first.command)


def test_opencode_reads_no_logins_of_its_home_beside_a_key(machine: Machine) -> None:
    machine.install("opencode")
    assert machine.prepare("opencode", Account()).environment["OPENCODE_AUTH_CONTENT"] == "{}"
    assert "OPENCODE_AUTH_CONTENT" not in machine.prepare("opencode", Account(key=None)).environment


def test_pi_asks_through_musters_extension_and_takes_no_other(machine: Machine) -> None:
    machine.install("pi-acp", "pi")
    prepared = machine.prepare("pi", Account(base_url="http://127.0.0.1:9"), model="m1")
    assert RUNTIMES["pi"].asks
    started = Path(prepared.environment["PI_ACP_PI_COMMAND"])
    said = machine.workspace / "said"
    fake = machine.workspace / "pi"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{said}\necho the last words >&2\n')
    fake.chmod(0o755)
    environment = {**prepared.environment, "MUSTER_PI": str(fake)}
    # What it says is dropped by its adapter, which this stands for; what the adapter says is read.
    adapter = "import subprocess, sys; subprocess.run([*sys.argv[1:], '--mode', 'rpc'], stderr=subprocess.DEVNULL)"
    ran = subprocess.run(
        [sys.executable, "-c", adapter, str(started)], env=environment, stderr=subprocess.PIPE, check=True, text=True
    )
    assert ran.stderr == "the last words\n"
    words = said.read_text().splitlines()
    assert words[words.index("--extension") + 1] == str(started.parent / "pi.mjs")
    assert {"--no-extensions", "--no-approve", "--no-skills", "--no-prompt-templates"} <= set(words)
    assert words[-6:] == ["--provider", "anthropic", "--model", "m1", "--mode", "rpc"]
    assert words[words.index("--session-dir") + 1] == str(machine.home / ".pi/agent/sessions")
    assert environment["MUSTER_PI_BASE_URL"] == "http://127.0.0.1:9"
    assert any((started.parent / "pi.mjs").is_relative_to(path) for path in prepared.readonly)


def test_pi_finds_nothing_of_what_an_agent_left_for_its_next_start(machine: Machine) -> None:
    machine.install("pi-acp", "pi")
    own = machine.home / ".pi" / "agent"
    for name in ("settings.json", "models.json", "trust.json", "auth.json", "extensions/evil.ts", "bin/rg"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("evil")
    (own / "sessions").mkdir()
    without_key = machine.prepare("pi")
    assert sorted(str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()) == [
        "auth.json",
        "models-store.json",
        "models.json",
        "settings.json",
        "trust.json",
    ]
    assert (own / "auth.json").read_text() == "evil", "its login, which it renews"
    with_key = machine.prepare("pi", Account())
    assert (own / "auth.json").read_text() == "{}\n"
    assert set(with_key.locked) - set(without_key.locked) == {own / "auth.json"}
    assert {path.read_text() for path in with_key.locked} == {"{}\n", '{"providers": {}}\n'}
    assert (own / "sessions").is_dir()


def test_an_account_of_a_provider_that_it_does_not_know_is_refused(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    with pytest.raises(FleetError, match=r"Claude Code cannot use an account with openai; it takes anthropic\."):
        machine.prepare("claude", Account("openai"))


def test_a_command_of_ones_own_gets_the_model_where_it_says_so(machine: Machine) -> None:
    machine.install("my-agent")
    prepared = machine.prepare("custom", command=("my-agent", "--model={model}"), model="m1")
    assert prepared.command[1:] == (str(machine.modules / "my-agent/dist/index.js"), "--model=m1")
    with pytest.raises(FleetError, match="no place for the model 'm1'"):
        machine.prepare("custom", command=("my-agent",), model="m1")
    with pytest.raises(FleetError, match="needs a command line"):
        machine.prepare("custom")
    with pytest.raises(RuntimeMissing, match="There is no program other-agent"):
        machine.prepare("custom", command=("other-agent",))


def test_the_roster_can_add_to_the_environment(machine: Machine) -> None:
    machine.install("claude-agent-acp")
    assert machine.prepare("claude", extra_environment={"EDITOR": "true"}).environment["EDITOR"] == "true"


def test_a_conversation_is_bound_by_each_runtimes_own_means(machine: Machine) -> None:
    machine.install("claude-agent-acp", "codex-acp", "opencode")

    def claude(**more: Any) -> tuple[str | None, str | None]:
        environment = machine.prepare("claude", **more).environment
        return environment.get("CLAUDE_CODE_DISABLE_1M_CONTEXT"), environment.get("CLAUDE_CODE_AUTO_COMPACT_WINDOW")

    assert claude() == ("1", "200000")
    assert claude(context=150_000) == ("1", "150000")
    assert claude(context=20_000) == ("1", "100000"), "it takes no fewer"
    assert claude(context=500_000) == (None, "500000")
    assert claude(extra_environment={"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "300000"}) == ("1", "300000")
    codex = [json.loads(machine.prepare("codex", context=n).environment["CODEX_CONFIG"]) for n in (None, 90_000)]
    assert [config.get("model_auto_compact_token_limit") for config in codex] == [None, 90_000]
    opencode = machine.prepare("opencode", model="anthropic/large", context=90_000).environment
    provider = json.loads(opencode["OPENCODE_CONFIG_CONTENT"])["provider"]["anthropic"]
    assert provider["models"] == {"large": {"limit": {"context": 90_000, "output": 32_000}}}


def test_a_login_is_taken_into_the_agents_home_until_the_agent_has_a_newer_one(
    machine: Machine, tmp_path: Path
) -> None:
    machine.install("claude-agent-acp")
    login, kept = tmp_path / "login", machine.home / ".claude" / ".credentials.json"
    (login / ".claude").mkdir(parents=True)
    (login / ".claude" / ".credentials.json").write_text("first")
    machine.prepare("claude", login=login)
    assert kept.read_text() == "first"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_text("renewed")
    machine.prepare("claude", login=login)
    assert kept.read_text() == "renewed"
    os.utime(login / ".claude" / ".credentials.json", (2**33, 2**33))
    machine.prepare("claude", login=login)
    assert kept.read_text() == "first"


def test_a_link_that_the_agent_left_in_its_home_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    machine.install("claude-agent-acp")
    login, precious = tmp_path / "login", tmp_path / "precious"
    (login / ".claude").mkdir(parents=True)
    (login / ".claude" / ".credentials.json").write_text("key")
    precious.mkdir()
    (precious / ".credentials.json").write_text("precious")
    (machine.home / ".claude").symlink_to(precious)
    with pytest.raises(FleetError, match="Move it away"):
        machine.prepare("claude", login=login)
    (machine.home / ".claude").unlink()
    (machine.home / ".claude").mkdir()
    (machine.home / ".claude" / ".credentials.json").symlink_to(precious / ".credentials.json")
    machine.prepare("claude", login=login)
    assert (precious / ".credentials.json").read_text() == "precious"
    assert (machine.home / ".claude" / ".credentials.json").read_text() == "key"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude", ["--cli", "auth", "login", "--claudeai"]),
        ("codex", ["cli", "login"]),
        ("opencode", ["auth", "login"]),
    ],
)
def test_a_login_is_run_in_a_home_of_its_own(machine: Machine, name: str, words: list[str]) -> None:
    machine.install("claude-agent-acp", "codex-acp", "opencode")
    login = runtimes.login_command(RUNTIMES[name], machine.home, which=machine.which, environ={"TERM": "xterm"})
    assert list(login.command[2:]) == words
    assert login.environment["HOME"] == str(machine.home)
    assert login.environment["TERM"] == "xterm"
    assert "NODE_OPTIONS" not in login.environment


def test_the_built_in_agent_has_no_login() -> None:
    with pytest.raises(FleetError, match="no login of its own"):
        runtimes.login_command(RUNTIMES["sim"], Path("/nowhere"))
