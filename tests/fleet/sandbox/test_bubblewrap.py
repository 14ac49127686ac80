from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet import runtimes, sandbox
from fleet.errors import FleetError
from fleet.sandbox import bubblewrap, command_wrapper, process_limits, profiles, selection
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.profiles import WrittenProfile
from fleet.sandbox.system_mounts import system
from tests.fleet.sandbox.two_agents import LIMIT_S, Ground

pytestmark = pytest.mark.root

needs_bubblewrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@needs_bubblewrap
def test_sees_the_workspace_and_its_own_home_under_their_own_paths_and_can_write_there(ground: Ground) -> None:
    out = ground.run(f"pwd; echo made > made; echo kept > {ground.home}/kept; echo $HOME")
    assert out == f"{ground.workspace}\n{ground.home}\n"
    assert (ground.workspace / "made").read_text() == "made\n"
    assert (ground.home / "kept").read_text() == "kept\n"


@needs_bubblewrap
@pytest.mark.parametrize(
    "attempt",
    [
        "echo bad > .tool/rules/bad",
        "echo bad > .tool/config",
        "rm -rf .tool/rules .tool/config; mkdir .tool/rules; echo bad > .tool/rules/bad; echo bad > .tool/config",
        "mv .tool/rules .tool/old; mkdir -p .tool/rules; echo bad > .tool/rules/bad",
        "echo bad > .tool/new; mv -f .tool/new .tool/config",
        "mv .tool .old; mkdir -p .tool/rules; echo bad > .tool/config; echo bad > .tool/rules/bad",
    ],
)
def test_cannot_change_what_is_locked_in_its_own_home(ground: Ground, attempt: str) -> None:
    (ground.home / ".tool" / "rules").mkdir(parents=True)
    (ground.home / ".tool" / "config").write_text("good")
    ground.run(f"cd; {attempt}; echo kept > .tool/session", locked=(".tool/config", ".tool/rules"))
    assert (ground.home / ".tool" / "config").read_text() == "good"
    assert list((ground.home / ".tool" / "rules").iterdir()) == []
    assert (ground.home / ".tool" / "session").read_text() == "kept\n"


@needs_bubblewrap
def test_sees_nothing_of_muster_of_other_agents_or_of_the_person(ground: Ground) -> None:
    for file in ground.secrets:
        assert "secret" not in ground.run(f"cat {file}; ls -R {file.parent}; cat /proc/*/root{file}")
    assert ground.run("cat /etc/shadow").endswith("No such file or directory\n")
    assert ground.run("ls -A /run; ls -A /mnt /srv 2>/dev/null") == ""
    # Of a home there is at most the way to the programs that Muster runs from, when they lie in one.
    way = [part.name for part in (*Path(sys.prefix).parents, *Path(sys.base_prefix).parents)]
    assert set(ground.run("ls -A /home 2>/dev/null").split()) <= set(way)


@needs_bubblewrap
@pytest.mark.parametrize("place", ["/usr/made", "/etc/made", "/etc/passwd"])
def test_cannot_change_the_system(ground: Ground, place: str) -> None:
    before = Path(place).read_bytes() if Path(place).exists() else None
    said = ground.run(f"mount -o remount,bind,rw /usr; echo x >> {place}")
    assert "Read-only" in said or "Permission denied" in said or before is None
    assert before is None or Path(place).read_bytes() == before
    assert not Path("/usr/made").exists()
    assert not Path("/etc/made").exists()
    assert "CapEff:\t0000000000000000" in ground.run("cat /proc/self/status")


@needs_bubblewrap
def test_is_nobody_special_and_can_isolate_its_own_commands_once_more(ground: Ground) -> None:
    outer, inner = ground.run("id -u; bwrap --unshare-user --unshare-pid --ro-bind / / id -u").split()
    assert outer == inner != "0"


@needs_bubblewrap
def test_sees_only_its_own_processes_and_each_carries_the_marker(ground: Ground) -> None:
    argv, environment = ground.wrapped(
        "/bin/sh", "-c", "setsid sleep 1000 & echo ready; ls -d /proc/[0-9]* | wc -l; echo counted; cat"
    )
    environment["MUSTER_AGENT"] = marker = uuid.uuid4().hex
    process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert int(process.stdout.readline()) < 8
        assert process.stdout.readline() == "counted\n"
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(family) >= 4
        for pid in family:
            # In the middle of execve(2) a process shows no environment.
            while not (shown := Path(f"/proc/{pid}/environ").read_bytes()):
                assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            assert f"MUSTER_AGENT={marker}".encode() in shown
            assert marker.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        process.kill()
        process.communicate()


@needs_bubblewrap
async def test_everything_dies_with_the_parent_even_a_shell_in_a_session_of_its_own(ground: Ground) -> None:
    argv, environment = ground.wrapped("/bin/sh", "-c", "setsid sh -c 'sleep 1001; touch made' & echo ready; wait")
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.run(sys.argv[1:])",
        *argv,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"ready\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 4
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        # Their end of the pipe closes when the last of them is gone.
        assert await parent.stdout.read() == b""
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert not alive


@needs_bubblewrap
def test_the_built_in_agent_starts_inside(ground: Ground) -> None:
    prepared = runtimes.prepare(runtimes.RUNTIMES["sim"], home=ground.home, workspace=ground.workspace, model=None)
    argv = sandbox.wrap(prepared, workspace=ground.workspace, home=ground.home, hidden=ground.hidden)
    request = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'
    done = subprocess.run(
        argv, env=prepared.environment, input=request, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert '"loadSession":true' in done.stdout, done.stderr


@needs_bubblewrap
def test_muster_is_hidden_even_where_a_program_is_installed_around_it(ground: Ground) -> None:
    around = ground.state.parent
    argv = bubblewrap.command_line(
        shutil.which("bwrap") or "bwrap",
        ("/bin/sh", "-c", f"ls -A {around}/person {ground.state}; ls -A {ground.state}/agents/coder0"),
        system=system(),
        readonly=(around,),
        hidden=ground.hidden,
        workspace=Mount("writable", ground.workspace),
        home=Mount("writable", ground.home),
        root=os.geteuid() == 0,
        scratch_bytes=2**26,
    )
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout == f"{around}/person:\ndiary\n\n{ground.state}:\nagents\nworkspaces\nhome\n"


@pytest.fixture
def open_ground() -> Iterator[Ground]:
    """Where every user of the host may go."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        ground = Ground(folder)
        if os.geteuid() == 0:
            for path in folder.rglob("*"):
                shutil.chown(path, 65534, 65534)
        yield ground


@needs_bubblewrap
def test_holds_for_an_ordinary_user_as_well(open_ground: Ground) -> None:
    argv = bubblewrap.command_line(
        shutil.which("bwrap") or "bwrap",
        ("/bin/sh", "-c", f"id -u; touch made; cat {' '.join(map(str, open_ground.secrets))}; ls -d /proc/[0-9]*"),
        system=system(),
        readonly=(),
        hidden=open_ground.hidden,
        workspace=Mount("writable", open_ground.workspace),
        home=Mount("writable", open_ground.home),
        root=False,
        scratch_bytes=None,
    )
    if os.geteuid() == 0:
        argv = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv)
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.split("\n")[0] == str(os.geteuid() or 65534), done.stderr
    assert "secret" not in done.stdout
    assert len(done.stdout.splitlines()) < 8
    assert (open_ground.workspace / "made").exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/", "whole file system"),
        ("/usr/local", "the system's folder /usr"),
        ("/etc", "the system's folder /etc"),
        ("{person}", "your home folder"),
        ("{person}/..", "your home folder|whole file system"),
        ("{state}", "holds Muster's own folder"),
        ("{state}/..", "holds Muster's own folder"),
        ("{state}/agents", "lies in Muster's own folder"),
        ("{state}/agents/coder1", "lies in Muster's own folder"),
        ("{state}/workspaces", "lies in Muster's own folder"),
        ("{link}", "holds Muster's own folder"),
        ("{programs}", "the very programs"),
    ],
)
def test_refuses_a_workspace_that_shows_more_than_a_project(ground: Ground, place: str, words: str) -> None:
    link = ground.state.parent / "link"
    link.symlink_to(ground.state)
    workspace = Path(
        place.format(
            person=pwd.getpwuid(os.getuid()).pw_dir,
            state=ground.state,
            link=link,
            programs=Path(runtimes.__file__).parents[2],
        )
    )
    with pytest.raises(FleetError, match=words):
        sandbox.check_workspace(workspace, ground.hidden)


def test_takes_the_workspaces_that_muster_makes_and_folders_of_projects(ground: Ground, tmp_path: Path) -> None:
    sandbox.check_workspace(ground.workspace, (ground.state.parent, ground.state))
    sandbox.check_workspace(tmp_path / "person", ground.hidden)


def test_is_the_default_and_nothing_is_the_default_where_it_does_not_work() -> None:
    works, broken = selection.Availability(True), selection.Availability(False, "bubblewrap is not installed.")
    assert selection.choose(None, works).kind == "bubblewrap"
    assert selection.choose("bubblewrap", works).name == "bubblewrap"
    assert selection.choose("none", broken).kind == "none"
    for requested in (None, "bubblewrap"):
        with pytest.raises(FleetError, match=r"not installed.*sandbox: none"):
            selection.choose(requested, broken)
    with pytest.raises(FleetError, match=r"No sandbox is called 'bublewrap'.*Did you mean 'bubblewrap'"):
        selection.choose("bublewrap", works)


def test_a_profile_is_asked_for_by_its_name_and_works_where_its_kind_does() -> None:
    works, broken = selection.Availability(True), selection.Availability(False, "bubblewrap is not installed.")
    known = profiles.merged(
        {
            "web": WrittenProfile(routes=("x.org",)),
            "open": WrittenProfile(kind="none"),
            "box": WrittenProfile(kind="container", image="x"),
        }
    )
    assert selection.choose("web", works, known).routes == ("x.org",)
    assert selection.choose("open", broken, known).kind == "none"
    with pytest.raises(FleetError, match=r"not installed.*sandbox: none"):
        selection.choose("web", broken, known)
    assert selection.choose("box", works, known).image == "x"
    with pytest.raises(FleetError, match=r"no container for this agent.*another sandbox"):
        selection.choose("box", broken, known)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user/max_user_namespaces": "0"}, "max_user_namespaces above 0"),
        ({"kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone to 1"),
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"),
        ({}, "container"),
    ],
)
def test_says_why_it_does_not_work(settings: dict[str, str], words: str) -> None:
    complaint = "bwrap: No permissions to create new namespace, likely because the kernel does not allow it"
    assert words in selection.explain(complaint, settings)


def test_a_container_that_hides_proc_is_told_by_the_option_that_it_lacks() -> None:
    complaint = "bwrap: Can't mount proc on /newroot/proc: Operation not permitted"
    assert "--security-opt unmask=/proc/*" in selection.explain(complaint, {})


def test_a_missing_program_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not selection.available().works
    assert "not installed" in selection.available().reason


@needs_bubblewrap
def test_is_tried_for_real() -> None:
    assert selection.available() == selection.Availability(True)


@needs_bubblewrap
def test_of_musters_sockets_it_sees_its_own_door_alone_and_can_neither_remove_nor_replace_it(ground: Ground) -> None:
    sockets = ground.state / "run"
    mine, others = sockets / "tools-coder0.sock", sockets / "tools-coder1.sock"
    with socket.socket(socket.AF_UNIX) as own, socket.socket(socket.AF_UNIX) as foreign:
        own.bind(str(mine))
        own.listen()
        foreign.bind(str(others))
        out = ground.run(f"ls {sockets}; rm {mine} 2>&1; mv {mine} {mine}.old 2>&1; ls {sockets}", doors=(mine,))
        lines = out.splitlines()
        assert (lines[0], lines[-1]) == (mine.name, mine.name)
        assert out.count("cannot") == 2
        call = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(mine)!r}); print('through')"
        argv, environment = ground.wrapped(sys.executable, "-I", "-c", call, doors=(mine,))
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert (done.stdout, done.stderr) == ("through\n", "")


# --- what a profile adds ------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_what_a_profile_mounts_is_seen_at_its_place_and_written_only_where_it_says_so(
    ground: Ground, tmp_path: Path
) -> None:
    for name in ("models", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    written = WrittenProfile(mounts=(f"{tmp_path}/models:/models", f"{tmp_path}/cache:rw"))
    profile = profiles.merged({"data": written})["data"]
    out = ground.run(
        f"cat /models/file {tmp_path}/cache/file; echo x > /models/new; echo y > {tmp_path}/cache/new", profile=profile
    )
    assert out.startswith("modelscache")
    assert "Read-only file system" in out
    assert not (tmp_path / "models" / "new").exists()
    assert (tmp_path / "cache" / "new").read_text() == "y\n"


@pytest.mark.parametrize(
    ("mounted", "words"),
    [
        ("{state}", "Muster's own folder"),
        ("{state}/agents/coder1/home:/in", "Muster's own folder"),
        ("{state}/..:/in", "without `..`"),
        ("{link}", "Muster's own folder"),
        ("{around}:/in", "Muster's own folder"),
        ("{person}:/in", "your home folder"),
        ("/:/in", "whole file system"),
        ("/run:/in", "the system's folder /run"),
        ("/proc/1:/in", "the system's folder /proc"),
        ("{socket}:/in", "is a socket"),
        ("{nothing}", "is not there"),
        ("/usr/share:/in:rw", "the system's folder /usr"),
        ("{programs}:/in:rw", "the very programs"),
    ],
)
def test_a_profile_cannot_show_what_would_open_more_than_itself(ground: Ground, mounted: str, words: str) -> None:
    around = ground.state.parent
    (around / "link").symlink_to(ground.state / "agents")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(around / "s"))
        text = mounted.format(
            state=ground.state,
            link=around / "link",
            around=around,
            person=pwd.getpwuid(os.getuid()).pw_dir,
            socket=around / "s",
            nothing=around / "nothing",
            programs=Path(runtimes.__file__).parents[2],
        )
        with pytest.raises(FleetError, match=words):
            ground.wrapped("/bin/true", profile=profiles.merged({"open": WrittenProfile(mounts=(text,))})["open"])


MUCH = "import sys; taken = bytearray(int(sys.argv[1])); print('taken')"
MANY = """
import os, sys, time
started = 0
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        started += 1
except BlockingIOError:
    pass
print(started)
"""


@needs_bubblewrap
def test_a_profile_bounds_the_memory_of_each_process(ground: Ground) -> None:
    profile = profiles.merged({"small": WrittenProfile(memory=128 * 2**20)})["small"]
    little, much = (f'{sys.executable} -I -S -c "{MUCH}" {size * 2**20}' for size in (32, 256))
    out = ground.run(f"{little}; {much} 2>&1 | tail -1; ulimit -d unlimited 2>&1", profile=profile)
    assert out.splitlines()[:2] == ["taken", "MemoryError"]
    assert "not permitted" in out
    assert ground.run(much) == "taken\n"


@needs_bubblewrap
def test_no_place_in_memory_takes_more_than_the_profile_says(ground: Ground) -> None:
    """A script writes into every folder in memory that it can write in, until it is told to stop."""
    profile = profiles.merged({"small": WrittenProfile(memory=64 * 2**20)})["small"]
    places = "grep ' tmpfs ' /proc/mounts | cut -d' ' -f2"
    out = ground.run(
        f"{places} | while read place; do find $place -xdev -type d -writable | while read folder; do "
        f"head -c 100M /dev/zero > $folder/fill; done; done; echo; {places} | xargs df -k --output=used,target",
        profile=profile,
    )
    rows = [line.split() for line in out.split("Mounted on\n")[1].splitlines()]
    used = {row[1]: int(row[0]) * 1024 for row in rows if len(row) == 2}
    assert used["/tmp"] == 32 * 2**20, out
    assert used["/var/tmp"] == used["/dev/shm"] == 16 * 2**20, out
    assert sum(used.values()) <= 68 * 2**20, out
    assert "No space left on device" in out


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="somebody else than root is needed")
def test_a_profile_bounds_how_many_processes_an_ordinary_users_agent_has(open_ground: Ground) -> None:
    if process_limits.words(None, 20, release=os.uname().release) == () or not Path("/usr/bin/python3").exists():
        pytest.skip("this kernel counts the processes of a user all together, or there is no Python for every user")
    # What else this user runs does not count: as many as the limit are there already.
    as_user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    others = [subprocess.Popen((*as_user, "sleep", "60")) for _ in range(20)]
    try:
        argv = bubblewrap.command_line(
            shutil.which("bwrap") or "bwrap",
            (
                "/usr/bin/python3",
                "-I",
                "-S",
                "/relay.py",
                "-",
                "0",
                "processes=20",
                "--",
                "/usr/bin/python3",
                "-c",
                MANY,
            ),
            system=system(),
            readonly=(),
            hidden=open_ground.hidden,
            workspace=Mount("writable", open_ground.workspace),
            home=Mount("writable", open_ground.home),
            further=(Mount("readonly", Path("/relay.py"), open_ground.copied(command_wrapper.RELAY)),),
            root=False,
            scratch_bytes=None,
        )
        done = subprocess.run((*as_user, *argv), cwd="/", capture_output=True, text=True, timeout=LIMIT_S, check=False)
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert 0 < int(done.stdout) < 20, done.stderr


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("5.10.0-30-amd64", ("data=1000",)),
        ("5.14.0", ("data=1000", "processes=20")),
        ("6.18.1-x", ("data=1000", "processes=20")),
        ("?", ("data=1000",)),
    ],
)
def test_processes_are_bounded_where_the_kernel_counts_them_by_sandbox(release: str, words: tuple[str, ...]) -> None:
    assert process_limits.words(1000, 20, release=release) == words
    assert process_limits.words(None, None, release=release) == ()
