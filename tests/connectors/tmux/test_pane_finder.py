"""The pane on a real tmux server: made once, found again wherever it went, and nobody else's touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.tmux.pane_finder import MARK, Trouble, look, stand
from connectors.tmux.pane_model import WantedPane
from connectors.tmux.process_client import TmuxUnanswered, ask, surroundings
from tests.connectors.tmux.server import Server, until


@pytest.fixture
def wanted(tmp_path: Path) -> WantedPane:
    return WantedPane(
        socket=None,
        mark=str(tmp_path / "ro'o$m \"#{pid};"),
        session="Muster",
        window="fleet",
        program=["sleep", "500"],
        variables={"PATH": os.environ["PATH"], "LANG": "C.UTF-8;"},
        version="1",
    )


def marked(tmux: Server) -> list[str]:
    """The panes that show a room."""
    return [line.split()[0] for line in tmux.panes(f"#{{pane_id}} #{{{MARK}}}") if " " in line.strip()]


def test_a_pane_is_made_where_no_server_runs_and_found_again(tmux: Server, wanted: WantedPane) -> None:
    assert look(wanted) is None
    made = stand(wanted)
    assert (made.session, look(wanted), stand(wanted)) == ("Muster", made, made)
    assert tmux.panes("#{session_name}:#{window_name} #{pane_dead}") == ["Muster:fleet 0"]


def test_it_is_found_after_it_was_moved_and_everything_renamed(tmux: Server, wanted: WantedPane) -> None:
    pane = stand(wanted).pane
    tmux.theirs()
    tmux("join-pane", "-d", "-s", pane, "-t", "=theirs:desk")
    tmux("rename-session", "-t", "=theirs", "mine")
    tmux("rename-window", "-t", pane, "a\tb")
    assert stand(wanted) == replace(stand(wanted), pane=pane, session="mine")
    assert marked(tmux) == [pane]


def test_it_gets_a_window_in_a_session_of_the_persons_and_changes_nothing_else_there(
    tmux: Server, wanted: WantedPane
) -> None:
    tmux.theirs("work")
    before = tmux("show-options", "-t", "=work")
    place = stand(replace(wanted, session="work"))
    assert sorted(tmux.panes("#{window_name} #{window_active}")) == ["desk 1", "fleet 0"]
    assert tmux("show-options", "-t", "=work") == before
    tmux("kill-pane", "-t", place.pane)
    assert tmux.panes("#{window_name}") == ["desk"]


def test_rooms_of_two_installations_do_not_meet(tmux: Server, wanted: WantedPane) -> None:
    first = stand(wanted)
    second = stand(replace(wanted, mark=wanted.mark + "2"))
    assert first.pane != second.pane
    assert look(wanted) == first


def test_a_program_of_another_version_is_started_anew_in_its_place(tmux: Server, wanted: WantedPane) -> None:
    pane = stand(wanted).pane
    pid = tmux.panes("#{pane_pid}")
    assert stand(wanted).pane == pane
    assert tmux.panes("#{pane_pid}") == pid
    assert stand(replace(wanted, version="2")).pane == pane
    assert tmux.panes("#{pane_pid}") != pid
    until(lambda: tmux.panes("#{pane_current_command}") != [])
    again = tmux.panes("#{pane_pid}")
    assert stand(replace(wanted, version="2")).pane == pane
    assert tmux.panes("#{pane_pid}") == again


def test_what_the_person_put_into_the_pane_stays(tmux: Server, wanted: WantedPane) -> None:
    pane = stand(wanted).pane
    tmux("respawn-pane", "-k", "-t", pane, "sleep", "501")
    pid = tmux.panes("#{pane_pid}")
    assert stand(replace(wanted, version="2")).pane == pane, "it is found"
    assert tmux.panes("#{pane_pid}") == pid
    other = stand(wanted, anew=True).pane
    assert other != pane
    assert marked(tmux) == [other]
    assert pid[0] in tmux.panes("#{pane_pid}")


def test_a_server_that_is_just_ending_is_waited_for(
    tmux: Server, wanted: WantedPane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("tmux")
    program = tmp_path / "bin" / "tmux"
    program.parent.mkdir()
    # Goes away at the first session that it is asked for.
    program.write_text(
        f"""#!/bin/sh
case "$*" in *new-session*)
    [ -e {tmp_path}/went ] || {{ touch {tmp_path}/went; echo server exited unexpectedly >&2; exit 1; }};;
esac
exec {real} "$@"
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert marked(tmux) == []
    place = stand(wanted)
    assert (tmp_path / "went").exists()
    assert marked(tmux) == [place.pane]


def test_the_session_of_an_agent_is_no_place_for_it(tmux: Server, wanted: WantedPane) -> None:
    tmux.theirs("coder0")
    tmux("set-option", "-t", "=coder0:", "@muster", "/agents/coder0")
    with pytest.raises(Trouble, match=r"coder0 is an agent's.*connectors\.tmux\.session"):
        stand(replace(wanted, session="coder0"))
    assert marked(tmux) == []


@pytest.mark.root
def test_what_is_no_socket_of_this_users_is_not_talked_to(tmux: Server, wanted: WantedPane, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble, match=r"is no socket.*connectors\.tmux\.socket"):
        stand(replace(wanted, socket=str(tmp_path / "file")))
    if os.getuid() != 0:
        pytest.skip("needs root, to make a socket of somebody else's")
    path = tmux.folder / "theirs"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        os.chown(path, 65534, 65534)
        with pytest.raises(Trouble, match=r"belongs to another user.*Name one of your own"):
            look(replace(wanted, socket=str(path)))


def test_a_machine_without_tmux_or_with_an_old_one_is_told(
    wanted: WantedPane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libtmux import common

    monkeypatch.setenv("PATH", str(tmp_path))
    _forget_versions(common)
    with pytest.raises(Trouble, match="Install the package tmux"):
        stand(wanted)
    old = tmp_path / "tmux"
    old.write_text("#!/bin/sh\necho tmux 3.0a\n")
    old.chmod(0o755)
    _forget_versions(common)
    with pytest.raises(Trouble, match=r"This is tmux 3\.0a; 3\.2a or newer is needed"):
        stand(wanted)
    _forget_versions(common)


def _forget_versions(common: object) -> None:
    for name in dir(common):
        clear = getattr(getattr(common, name), "cache_clear", None)
        if clear is not None:
            clear()


# --- in a process of its own -------------------------------------------------------------------------------------


async def test_nothing_of_musters_environment_gets_to_tmux(
    tmux: Server, wanted: WantedPane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_MATRIX_TOKEN", "secret")
    # One who started Muster within another tmux, in a locale without UTF-8.
    monkeypatch.setenv("TMUX", "/nowhere,1,0")
    monkeypatch.setenv("LC_ALL", "C")
    made = await ask(replace(wanted, variables=surroundings()), make=True)
    assert made is not None
    assert await ask(wanted, make=False) == made
    assert not [line for line in tmux("show-environment", "-g") if "secret" in line or "nowhere" in line]
    assert marked(tmux) == [made.pane]


async def test_a_server_that_hangs_is_left_and_told_of(tmux: Server, wanted: WantedPane) -> None:
    assert await ask(wanted, make=True) is not None
    pid = int(tmux("display-message", "-p", "#{pid}")[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TmuxUnanswered, match=r"server default did not answer in 0\.5 s"):
            await ask(wanted, make=True, patience=0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await ask(wanted, make=False) is not None


async def test_trouble_comes_back_as_a_sentence(tmp_path: Path, wanted: WantedPane) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TmuxUnanswered, match="is no socket"):
        await ask(replace(wanted, socket=str(tmp_path / "file")), make=True)
    with pytest.raises(TmuxUnanswered, match="What asks tmux failed"):
        await ask(replace(wanted, mark=7), make=True)  # type: ignore[arg-type]
