"""Every process of one installation finds the same files, and nobody else finds a way in."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.config.paths import AGENT_NAME_LIMIT, SOCKET_PATH_LIMIT, Paths
from bot.text.errors import UserError


def test_muster_home_holds_everything() -> None:
    paths = Paths.of({"MUSTER_HOME": "/srv/m", "HOME": "/home/ana", "XDG_STATE_HOME": "/elsewhere"}, uid=1000)

    assert paths.home == Path("/srv/m")
    assert paths.muster_yaml == Path("/srv/m/muster.yaml")
    assert paths.roster_yaml == Path("/srv/m/roster.yaml")
    assert paths.register_url == "sqlite:////srv/m/state/register.db"
    assert paths.agent_folder("coder0") == Path("/srv/m/state/agents/coder0")
    assert paths.gateway_socket == Path("/srv/m/run/gateway.sock")
    assert paths.agent_socket("coder0") == Path("/srv/m/run/agent-coder0.sock")


def test_without_it_the_xdg_folders_do() -> None:
    paths = Paths.of({"HOME": "/home/ana", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=1000)

    assert paths.home is None
    assert paths.muster_yaml == Path("/c/muster/muster.yaml")
    assert paths.state == Path("/home/ana/.local/state/muster")
    assert paths.sockets == Path("/home/ana/.local/state/muster/run")


def test_a_relative_xdg_folder_is_ignored() -> None:
    assert Paths.of({"HOME": "/home/ana", "XDG_CONFIG_HOME": "c"}, uid=1).config == Path("/home/ana/.config/muster")


@pytest.mark.parametrize(
    ("given", "meant"), [("demo", "/work/demo"), ("./a/../b", "/work/b"), ("~/m", "/home/ana/m"), ("/x/", "/x")]
)
def test_muster_home_may_be_relative_or_begin_with_a_tilde(given: str, meant: str) -> None:
    assert Paths.of({"MUSTER_HOME": given, "HOME": "/home/ana"}, cwd=Path("/work")).home == Path(meant)


def test_an_empty_muster_home_counts_as_not_set() -> None:
    assert Paths.of({"MUSTER_HOME": "", "HOME": "/home/ana"}).home is None


def test_a_missing_home_is_looked_up() -> None:
    assert Paths.of({}, uid=0).config == Path("/root/.config/muster")


def test_a_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(UserError, match="Set MUSTER_HOME"):
        Paths.of({}, uid=4_000_000_001)


def test_sockets_of_a_deep_folder_go_to_a_short_one_that_is_always_the_same() -> None:
    deep = {"MUSTER_HOME": "/srv/" + "d" * 80}
    sockets = Paths.of(deep, uid=1000).sockets

    assert sockets.parent == Path("/tmp/muster-1000")
    assert Paths.of({**deep, "TMPDIR": "/other", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=1000).sockets == sockets
    assert Paths.of({"MUSTER_HOME": "/srv/" + "e" * 80}, uid=1000).sockets != sockets


@pytest.mark.parametrize("length", range(30, 60))
def test_the_longest_agent_name_always_fits(length: int) -> None:
    paths = Paths.of({"MUSTER_HOME": "/" + "h" * length}, uid=4_294_967_294)
    assert len(os.fsencode(paths.agent_socket("a" * AGENT_NAME_LIMIT))) <= SOCKET_PATH_LIMIT


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "a\0b"])
def test_a_name_cannot_lead_out_of_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        Paths.of({"MUSTER_HOME": "/m"}).agent_folder(name)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder so short that sockets fit below it."""
    with tempfile.TemporaryDirectory(prefix="mp", dir="/tmp") as folder:
        yield Path(folder)
        Path(folder).chmod(0o700)


def test_folders_are_made_for_us_alone(short: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(short / "home")})
    old = os.umask(0)
    try:
        paths.prepare()
    finally:
        os.umask(old)

    for folder in (*paths.private_folders(), paths.agents, paths.workspaces, paths.connectors, paths.outgoing):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(paths.agent_socket("a" * AGENT_NAME_LIMIT)))
    paths.prepare()


def test_state_that_was_open_is_closed(short: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(short)})
    paths.state.mkdir(mode=0o755)
    paths.state.chmod(0o755)

    paths.prepare()

    assert paths.state.stat().st_mode & 0o777 == 0o700


def test_a_folder_in_which_others_write_is_never_taken_for_the_configuration(short: Path) -> None:
    short.chmod(0o1777)
    with pytest.raises(UserError, match=r"open to others \(mode 1777\)"):
        Paths.of({"MUSTER_HOME": str(short)}).prepare()
    assert short.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("trap", ["open", "link", "file", "foreign"])
def test_a_folder_that_somebody_put_in_the_way_is_refused(short: Path, trap: str) -> None:
    place = short / "muster-0"
    if trap == "open":
        place.mkdir()
        place.chmod(0o777)
    elif trap == "link":
        (short / "theirs").mkdir(mode=0o700)
        place.symlink_to(short / "theirs")
    elif trap == "file":
        place.touch(mode=0o600)
    else:
        place.mkdir(mode=0o700)
    paths = Paths(config=short / "config", state=short / "state", sockets=place / "0123456789ab")

    with pytest.raises(UserError, match="MUSTER_HOME"):
        # As somebody else: what this test made then belongs to another user.
        paths.prepare(uid=os.getuid() + 1 if trap == "foreign" else None)

    assert not any(short.glob("theirs/*"))


def test_a_file_where_a_folder_should_be(short: Path) -> None:
    (short / "state").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        Paths.of({"MUSTER_HOME": str(short)}).prepare()


def test_a_folder_below_a_file_cannot_be_made(short: Path) -> None:
    (short / "f").write_text("")
    with pytest.raises(UserError, match="cannot be made: "):
        Paths.of({"MUSTER_HOME": str(short / "f" / "m")}).prepare()
