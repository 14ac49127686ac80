"""Coming back with the machine: units of the orchestrator and of agents, and the way back."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from bot.agents.service import KILLED
from bot.config.paths import Paths
from bot.setup import systemd_units
from bot.setup.install import install, uninstall
from bot.text.errors import UserError
from database.engine.store import Store
from database.queries.agents import agents
from fleet import hosting
from fleet.hosting import systemd
from fleet.hosting.systemd_unit_text import WANTED
from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import house
from tests.fleet.hosting import hosting_places

ROSTER = """\
version: 1
preset: minimal
# Mine.
agents:
  - {name: coder0, runtime: sim, sandbox: none, hosting: systemd, persistent: true}
  - {name: coder1, runtime: sim, sandbox: none}
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = hosting_places.systemd(tmp_path, monkeypatch)
    loginctl = tmp_path / "programs" / "loginctl"
    loginctl.write_text('#!/bin/sh\necho "$@" >>"$HOME/recorder/loginctl"\ntest ! -e "$HOME/recorder/refuses"\n')
    loginctl.chmod(0o755)
    return found


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.of({"MUSTER_HOME": str(tmp_path / "m"), "HOME": str(tmp_path)})
    found.prepare()
    found.roster_yaml.write_text(ROSTER)
    return found


def enabled() -> list[str]:
    wants = systemd.folder() / "default.target.wants"
    return sorted(each.name for each in wants.iterdir()) if wants.exists() else []


def there() -> list[str]:
    return sorted(each.name for each in systemd.folder().iterdir() if each.is_file())


def test_what_is_to_be_done_is_what_is_not_so_yet() -> None:
    todo = systemd_units.change({"a": "1", "b": "2"}, {"a": "1", "b": "0", "c": "3"}, {"a"})
    assert (todo.write, todo.enable, todo.drop) == ({"b": "2"}, ("b",), ("c",))
    assert todo.commands() == [["disable", "c"], ["daemon-reload"], ["enable", "b"]]
    assert not systemd_units.change({"a": "1"}, {"a": "1"}, {"a"})


def test_installing_is_shown_done_repeated_and_taken_back(paths: Paths, record: Path) -> None:
    muster, coder0 = f"muster-{paths.label}.service", f"muster-{paths.label}-agent-coder0.service"
    egress = f"muster-{paths.label}-egress.service"
    shown = install(paths, {}, agents_too=False, dry_run=True)
    assert "\n".join(shown.done).count("[Service]") == 3
    assert f"systemctl --user enable {coder0} {muster} {egress}" in shown.done
    assert (not systemd.folder().exists(), hosting_places.calls(record)) == (True, [])

    done = install(paths, {"PATH": "/bin"}, agents_too=False, dry_run=False)
    assert done.warnings == []
    assert any("coder1" in line and "muster install --agents" in line for line in done.done)
    assert there() == enabled() == sorted([coder0, muster, egress])
    assert f'"egress.process" "--state" "{paths.state}"' in (systemd.folder() / egress).read_text()
    assert f'Environment="MUSTER_HOME={paths.home}"' in (systemd.folder() / muster).read_text()
    assert (record / "loginctl").read_text() == "enable-linger\n"
    before = hosting_places.calls(record)
    install(paths, {"PATH": "/bin"}, agents_too=False, dry_run=False)
    assert hosting_places.calls(record) == before

    install(paths, {"PATH": "/bin"}, agents_too=True, dry_run=False)
    assert there() == sorted([coder0, muster, egress, coder0.replace("coder0", "coder1")])
    assert "defaults:\n  hosting: systemd\n" in paths.roster_yaml.read_text()
    assert "# Mine." in paths.roster_yaml.read_text()

    uninstall(paths, dry_run=False)
    assert (there(), enabled()) == ([], [])
    assert "nothing was changed" in uninstall(paths, dry_run=False).done[0]


def test_what_the_machine_refuses_is_told_with_the_command_for_it(paths: Paths, record: Path) -> None:
    (record / "refuses").touch()
    told = "\n".join(install(paths, {}, agents_too=False, dry_run=False).warnings)
    assert "systemctl --user enable muster" in told
    assert "enable-linger" in told
    assert "sudo loginctl enable-linger" in told
    assert len(there()) == 3


def test_a_systemd_that_is_there_and_does_not_run_is_told_before_anything_stops(record: Path) -> None:
    hosting.check("coder0", "systemd")
    (record / "refuses").touch()
    with pytest.raises(hosting.NotHosted, match=r"loginctl enable-linger.*another hosting"):
        hosting.check("coder0", "systemd")


def test_a_secret_that_nobody_gives_after_a_boot_is_named(paths: Paths, record: Path) -> None:
    paths.muster_yaml.write_text(
        "accounts:\n  one: {provider: openai, credential: 'env:ONE'}\n"
        "  two: {provider: openai, credential: 'env:TWO'}\n"
        "  three: {provider: openai, credential: 'keyring:three'}\n"
    )
    systemd_units.secrets_of(paths).write_text("# mine\nTWO=2\n")
    one, three = install(paths, {}, agents_too=False, dry_run=True).warnings
    assert ("env:ONE" in one, "secrets.env" in one, "file:PATH" in one) == (True, True, True)
    assert ("keyring:three" in three, "locked" in three, "file:PATH" in three) == (True, True, True)


def test_what_would_not_start_is_not_installed(paths: Paths, record: Path) -> None:
    paths.muster_yaml.write_text("conectors: {}\n")
    with pytest.raises(UserError, match=r"conectors.*config check"):
        install(paths, {}, agents_too=False, dry_run=False)
    assert not systemd.folder().exists()


@pytest.mark.slow
async def test_a_boot_brings_back_who_ran_and_nobody_else(tmp_path: Path, record: Path) -> None:
    async def systemctl(*words: str) -> None:
        await asyncio.to_thread(subprocess.run, ["systemctl", "--user", *words], check=True)

    async with house(tmp_path / "m", roster=ROSTER) as home:
        folder = home.paths.agent_folder("coder0")
        unit = f"muster-{home.paths.label}-agent-coder0.service"
        async with home.open():
            thread = await home.launch("coder0")
            launched = (await home.row("coder0")).launch_id
            told = await home.ask("!add coder2 --runtime sim --hosting systemd")
            assert "⚠️" not in told
            assert enabled() == [unit, unit.replace("coder0", "coder2")]
        # The machine goes down, and comes up again: systemd first, then who heard of the end.
        await systemctl("stop", unit)
        store = await Store.open(home.paths.register_url)
        async with store.write(KILLED) as tx:
            await agents.change(tx, "coder0", state="stopped")
        await store.close()
        assert not host_lifecycle.is_running(folder)
        for each in enabled():
            await systemctl("start", each)
        assert host_lifecycle.is_running(folder)
        assert not host_lifecycle.is_running(home.paths.agent_folder("coder2"))
        async with home.open(bring_up=True):
            await home.marks(home.say("[[say: again]]", thread), "✅")
            assert (await home.row("coder0")).launch_id == launched
            # Who was killed, and who is removed, does not come back.
            await home.ask("!kill coder0")
            await home.ask("!confirm")
            assert not (folder / WANTED).exists()
            await systemctl("start", unit)
            assert not host_lifecycle.is_running(folder)
            await home.ask("!remove coder2")
            await home.ask("!confirm")
            assert (there(), enabled()) == ([unit], [unit])
