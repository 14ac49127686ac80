"""A look into the tmux session of an agent, from its roster to its end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.interfaces.cli.terminal.attach import attach, line
from bot.text.errors import UserError
from fleet.hosting.host_command_line import SPEC
from fleet.hosting.tmux import MARK
from fleet.supervision import host_lock
from tests import waiting
from tests.bot.orchestrator import house
from tests.fleet.host.scripted_agent import Agent
from tests.fleet.hosting.hosting_places import tmux_server

SERVER = "fleet"


def tmux(*words: str) -> str:
    done = subprocess.run(["tmux", "-L", SERVER, *words], capture_output=True, text=True, check=False)
    return done.stdout


async def test_an_agent_in_tmux_can_be_looked_at_as_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"name": "coder0", "runtime": "sim", "sandbox": "none", "hosting": "tmux", "tmux_socket": SERVER}
    roster = json.dumps({"version": 1, "preset": "minimal", "agents": [entry]})
    with tmux_server(monkeypatch):
        async with house(tmp_path, roster=roster) as home, home.open():
            thread = await home.launch("coder0")
            assert line(home.paths, "coder0", control=False) == [
                "tmux", "-L", SERVER, "attach-session", "-r", "-t", "=coder0:",
            ]  # fmt: skip
            assert "-r" not in line(home.paths, "coder0", control=True)
            with pytest.raises(UserError, match=r"needs a terminal.*muster tail coder0"):
                attach(home.paths, "coder0", {}, control=False)
            token = "ghp_" + "0123456789abcdefghijklmnopqrstuvwxyz"
            await home.marks(home.say(f"[[say: \x1b[31mred {token} here]]", thread), "✅")
            seen = await waiting.until(
                lambda: tmux("capture-pane", "-p", "-J", "-t", "=coder0:"), lambda seen: "ended its turn" in seen
            )
            assert "▷ " in seen
            assert "␛[31mred [redacted] here" in seen
            assert "ghp_" not in seen
            assert tmux("list-sessions", "-F", f"#{{{MARK}}}").strip() == str(home.paths.agent_folder("coder0"))
            await home.ask("!kill coder0")
            await home.ask("!confirm")
            assert tmux("list-sessions") == ""
            with pytest.raises(UserError, match=r"does not run.*muster launch coder0.*muster resume coder0"):
                line(home.paths, "coder0", control=False)
            # A person's session of that name stays; that is said once, and waits for a person.
            tmux("new-session", "-d", "-s", "coder0", "sleep", "60")
            await home.ask("!launch coder0")
            told = await home.heard(thread, "Muster did not make")
            assert "🛑 Another attempt would fail too" in told
            assert tmux("list-panes", "-a", "-F", "#{pane_current_command}") == "sleep\n"
            tmux("kill-server")


def test_who_is_not_in_tmux_is_looked_at_otherwise(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    for name in ("coder9", "../coder9"):
        with pytest.raises(UserError, match=r"No agent called.*muster ps"):
            line(paths, name, control=False)
    folder = paths.agent_folder("coder0")
    paths.agents.mkdir(parents=True)
    Agent.make(tmp_path / "place").spec.write(tmp_path / SPEC)
    folder.mkdir()
    (tmp_path / SPEC).rename(folder / SPEC)
    held = host_lock.hold(folder)
    with pytest.raises(UserError, match=r"a process of its own.*watch coder0.*tail coder0.*hosting: tmux.*restart"):
        line(paths, "coder0", control=False)
    os.close(held)
