from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.control.agent_host_client import AgentLink
from fleet.errors import FleetError
from fleet.hosting import TMUX, NotHosted, check
from fleet.hosting.tmux import MARK, Known, TmuxSession, attachment, command, creation, literal, name_for
from fleet.supervision import host_lifecycle
from tests import waiting
from tests.fleet.host.scripted_agent import LIMIT_S, Agent
from tests.fleet.hosting.hosting_places import tmux_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tmux_server(monkeypatch) as folder:
        yield folder


def tmux(*words: str) -> list[str]:
    done = subprocess.run(["tmux", *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# --- what is said to tmux ----------------------------------------------------------------------------------------


def test_the_default_server_is_asked_for_by_saying_nothing() -> None:
    assert command(None, "list-sessions") == ["tmux", "list-sessions"]
    assert command("fleet", "list-sessions") == ["tmux", "-L", "fleet", "list-sessions"]


def test_a_look_takes_no_keys_unless_that_is_asked_for() -> None:
    assert attachment("coder0", control=False) == ["attach-session", "-r", "-t", "=coder0:"]
    assert attachment("coder0", control=True) == ["attach-session", "-t", "=coder0:"]


def test_no_word_ends_a_command() -> None:
    assert literal(["a;", "b;c", ";", "d"]) == ["a\\;", "b;c", "\\;", "d"]


def test_a_session_is_called_like_its_agent_unless_another_installation_has_one(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours" / "coder0", tmp_path / "theirs" / "coder0"
    assert name_for("coder0", ours, [Known("coder1", "")]) == "coder0"
    assert name_for("coder0", ours, [Known("coder0", str(ours))]) == "coder0"
    other = name_for("coder0", ours, [Known("coder0", str(theirs))])
    assert other.startswith("coder0-")
    assert other != name_for("coder0", tmp_path / "third" / "coder0", [Known("coder0", str(theirs))])
    with pytest.raises(NotHosted, match=r"Muster did not make.*rename-session.*tmux_socket"):
        name_for("coder0", ours, [Known("coder0", "")])


def test_an_agent_host_is_given_its_environment_whole_and_no_shell_of_the_persons(tmp_path: Path) -> None:
    words = creation("coder0", tmp_path, (), {"PATH": "/bin", "LANG": "C;"})
    host = words[words.index("--") + 1 : words.index(";")]
    assert host[:2] == ["/bin/sh", "-c"]
    assert host[4:] == [
        "/usr/bin/env", "-i", "PATH=/bin", "LANG=C\\;",
        sys.executable, "-P", "-m", "fleet.host.process", str(tmp_path / host_lifecycle.SPEC),
    ]  # fmt: skip


def test_a_machine_without_it_is_told_before_anything_starts() -> None:
    check("coder0", "process", lambda _: None)
    for kind, way in (("tmux", "Install the package tmux"), ("systemd", "process, tmux")):
        with pytest.raises(FleetError, match=way):
            check("coder0", kind, lambda _: None)


# --- what becomes of sessions ------------------------------------------------------------------------------------


async def test_a_look_at_an_agent_and_a_slip_of_the_hand_leave_it_alone(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window shows what the viewer writes; keys, a closed session and a person's own sessions end no agent."""
    viewer = ("/bin/sh", "-c", "echo all is well; exec sleep 600")
    agent = Agent.make(tmp_path, hosting=TMUX, viewer=viewer)
    async with agent.running() as link:
        pid = link.hello.pid
        session = TmuxSession(agent="coder0", folder=agent.folder)
        assert session.name() == "coder0"
        assert tmux("display-message", "-p", "-t", "=coder0:", "#{window_name}") == ["coder0"]
        await waiting.until(lambda: "all is well" in tmux("capture-pane", "-p", "-t", "=coder0:"), limit=LIMIT_S)
        for key in ("C-c", "C-\\", "C-z", "C-d", "q", "Enter"):
            tmux("send-keys", "-t", "=coder0:host", key)
        # An answer to what was asked after the keys came.
        assert (await link.send("m1", "hello")).state == "journaled"
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        tmux("kill-session", "-t", "=coder0")
        async with await AgentLink.connect(agent.spec.socket) as again:
            assert again.hello.pid == pid
    assert tmux("list-sessions", "-F", "#{session_name}") == ["theirs"]


def test_a_session_is_known_by_its_folder_in_every_locale(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "é #{pid} $HOME;"
    folder.mkdir()
    session = TmuxSession(agent="coder0", folder=folder)
    tmux("set-option", "-t", "=theirs:", MARK, *literal([str(folder)]))
    for locale in ("C", "POSIX", "de_AT.ISO-8859-1", "C.UTF-8"):
        monkeypatch.setenv("LC_ALL", locale)
        assert session.name() == "theirs"
    for name in ("two\nlines", "\udcff"):
        with pytest.raises(NotHosted, match="another place"):
            TmuxSession(agent="coder0", folder=tmp_path / name).start(1.0)


async def test_a_session_that_a_person_made_is_neither_taken_over_nor_closed(server: Path, tmp_path: Path) -> None:
    tmux("rename-session", "-t", "theirs", "coder0")
    agent = Agent.make(tmp_path, hosting=TMUX)
    with pytest.raises(host_lifecycle.SpawnBarred, match="Muster did not make"):
        await host_lifecycle.spawn(agent.launch())
    assert await host_lifecycle.kill(agent.folder) == 0
    assert tmux("list-panes", "-a", "-F", "#{session_name} #{pane_current_command}") == ["coder0 sleep"]
