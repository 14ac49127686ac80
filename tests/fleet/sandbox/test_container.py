"""What the command line of podman and docker says, and what an agent in a container can do."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet import runtimes, sandbox
from fleet.control.agent_host_client import AgentLink
from fleet.errors import FleetError, RuntimeMissing
from fleet.journal.events import JournalPosition, RuntimeStarted, TurnEnded
from fleet.sandbox import command_wrapper, container, selection
from fleet.sandbox.bubblewrap import Mount
from fleet.sandbox.container import Engine
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import SandboxProfile, WrittenProfile, merged
from fleet.sim.provider import server as providers
from fleet.supervision import host_lifecycle, process_sweep
from fleet.supervision.container_cleanup import remove
from tests.fleet.host.scripted_agent import until
from tests.fleet.sandbox import containers
from tests.fleet.sandbox.test_egress_grant import SECRET, Ways, account, assembly, forwarding, row
from tests.fleet.sandbox.two_agents import LIMIT_S, Ground

pytestmark = pytest.mark.root

HOME, WORKSPACE = Path("/state/agents/coder0/home"), Path("/work/coder0")


def line(engine: Engine = "podman", **changes: Any) -> list[str]:
    given: dict[str, Any] = {
        "called": "muster-coder0-1",
        "image": "localhost/agents",
        "root": None,
        "interpreter": "python3",
        "mounts": (Mount("writable", WORKSPACE), Mount("readonly", Path("/run/out"), Path("/state/run/out"))),
        "workspace": WORKSPACE,
        "user": (1000, 1000),
        "scratch_bytes": 2**30,
    }
    return list(container.command_line(engine, f"/usr/bin/{engine}", ("-I", "init.py"), **given | changes))


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_every_container_is_shut_whatever_its_image_says(engine: Engine) -> None:
    words = line(engine)
    assert {
        "--rm",
        "--interactive",
        "--pull=never",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--ipc=private",
        "--cgroupns=private",
        "--log-driver=none",
        "--user=1000:1000",
        "--name=muster-coder0-1",
        "--entrypoint=python3",
        f"--workdir={WORKSPACE}",
    } <= set(words)
    # After the image come the arguments of what runs inside, and none of the engine's.
    assert words[-3:] == ["localhost/agents", "-I", "init.py"]
    assert f"--mount=type=bind,source={WORKSPACE},destination={WORKSPACE}" in words
    readonly = next(word for word in words if "/run/out" in word)
    assert readonly.startswith("--mount=type=bind,source=/state/run/out,destination=/run/out,readonly")


def test_what_is_written_inside_belongs_to_whoever_runs_muster() -> None:
    assert "--userns=keep-id" in line("podman")
    assert "--userns=keep-id" not in line("docker")
    root = line("podman", user=(0, 0))
    assert "--user=0:0" in root
    assert not [word for word in root if word.startswith("--userns")]


def test_a_profile_bounds_the_whole_container() -> None:
    words = line(memory=2**30, pids=200, flags=("--runtime=runc",))
    assert {f"--memory={2**30}", "--pids-limit=200", "--runtime=runc"} <= set(words)
    assert not [word for word in line() if word.startswith(("--memory", "--pids"))]


def test_no_place_in_memory_is_without_a_bound() -> None:
    words = line(scratch_bytes=2**30, mounts=(Mount("writable", WORKSPACE), Mount("empty", Path("/hidden"))))
    tmpfs = [word for word in words if word.startswith(("--tmpfs=", "--mount=type=tmpfs", "--shm-size="))]
    assert [int(word.split("size=")[1].split(",")[0]) for word in tmpfs] == [2**29, 2**28, 2**20, 2**28, 2**20]


def test_with_the_hosts_programs_the_root_is_a_folder() -> None:
    words = line(image=None, root=Path("/state/agents/coder0/root"))
    assert words[-4:] == ["--rootfs", "/state/agents/coder0/root:O", "-I", "init.py"]


@pytest.mark.parametrize("name", ["a,destination=/etc", 'a"b', "a\nb"])
def test_a_path_that_would_say_something_else_on_the_command_line_is_refused(name: str) -> None:
    with pytest.raises(FleetError, match=r"cannot be shown in a container.*Rename it"):
        line(mounts=(Mount("writable", Path("/work") / name),))


def test_the_client_finds_its_images_and_never_another_machine() -> None:
    environ = {"HOME": "/home/ana", "XDG_RUNTIME_DIR": "/run/user/7", "AWS_SECRET": "x", "DOCKER_HOST": "unix:///d"}
    assert container.finding(environ) == {key: environ[key] for key in environ if key != "AWS_SECRET"}
    for key in ("DOCKER_HOST", "CONTAINER_HOST"):
        with pytest.raises(FleetError, match=r"another machine.*Start Muster without it"):
            container.finding({key: "ssh://ana@elsewhere"})


def test_a_container_is_called_the_same_at_each_start_of_its_agent_and_of_no_other() -> None:
    mine, others = Path("/home/ana/state/agents/coder0"), Path("/home/ana/other/agents/coder0")
    assert container.name(mine) == container.name(mine) != container.name(others)
    assert container.name(mine).startswith("muster-coder0-")


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        ("Error: localhost/a: image not known", "is not on this machine.*`podman pull localhost/a`"),
        ("Unable to find image 'localhost/a:latest' locally", "is not on this machine"),
        ('Error: exec: "python3": executable file not found in $PATH', "has no program python3"),
        ("ModuleNotFoundError: No module named 'ctypes'", "Python of the image localhost/a is not whole"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "does not reach its service"),
        ("Error: crun: something else\n", r"could not make a container here: Error: crun: something else\."),
        ("", "it gave no reason"),
    ],
)
def test_says_what_to_do_about_a_container_that_cannot_be_made(complaint: str, words: str) -> None:
    assert re.search(words, container.explain(complaint, "podman", "localhost/a"))


def test_podman_is_taken_where_both_are_there_or_what_the_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = {"kind": "container", "image": "x"}
    found = merged({"any": WrittenProfile(**box), "docker": WrittenProfile(**box, engine="docker")})  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="podman or docker is not installed"):
        command_wrapper.engine_of(found["any"])
    assert "is not installed" in selection.container_available(found["docker"]).reason
    for name in ("docker", "podman"):
        (tmp_path / name).touch(mode=0o755)
        assert command_wrapper.engine_of(found["any"])[0] == name
    assert command_wrapper.engine_of(found["docker"])[0] == "docker"


def test_an_image_has_its_own_programs_and_the_environment_is_on_no_command_line(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ground.state.parent / "bin"
    folder.mkdir()
    (folder / "podman").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    box = merged({"box": WrittenProfile(kind="container", image="localhost/agents")})["box"]
    prepared = runtimes.prepare(
        runtimes.RUNTIMES["claude"], home=ground.home, workspace=ground.workspace, model=None,
        extra_environment={"NPM_TOKEN": "the-users-own"}, elsewhere=True,
    )  # fmt: skip
    argv = sandbox.wrap(prepared, workspace=ground.workspace, home=ground.home, hidden=ground.hidden, profile=box)
    assert str(command_wrapper.INIT) in argv[:-1]
    assert argv[-1] == "claude-agent-acp"
    assert not [word for word in argv if "the-users-own" in word]
    with pytest.raises(RuntimeMissing, match="image: host"):
        runtimes.prepare(
            runtimes.RUNTIMES["sim"], home=ground.home, workspace=ground.workspace, model=None,
            elsewhere=True,
        )  # fmt: skip


# --- the first process, without a container -----------------------------------------------------------------------


@contextlib.contextmanager
def first_process(
    *command: str, program: Path = command_wrapper.INIT, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    variables = {"PATH": os.environ["PATH"], **environment}
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", str(program), *command),
        env={container.ENVIRONMENT: json.dumps(variables)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_first_process_carries_the_input_and_the_environment_and_ends_as_its_child_does() -> None:
    given = os.urandom(300_000)
    with first_process("sh", "-c", 'cat; printf %s "$WORD"; exit 7', WORD="two\nlines") as process:
        out, _ = process.communicate(given, timeout=LIMIT_S)
    assert (out, process.returncode) == (given + b"two\nlines", 7)
    with first_process("sh", "-c", "kill -9 $$") as process:
        assert process.wait(LIMIT_S) == 128 + 9
    with first_process("/no/such/program") as process:
        _, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (127, b"/no/such/program cannot be started: No such file or directory\n")


def test_the_first_process_ends_when_its_input_does_whatever_its_agent_keeps_open(tmp_path: Path) -> None:
    # As it is, but for the seconds that it gives its agent.
    patient, hasty = command_wrapper.INIT.read_text(), tmp_path / "init.py"
    assert patient.count("_GRACE_S = 5.0\n") == 1
    hasty.write_text(patient.replace("_GRACE_S = 5.0\n", "_GRACE_S = 0.1\n"))
    # The agent reads nothing, and opens its own input for writing: it would never end.
    keeps = "exec 3>/proc/self/fd/0; echo ready; exec sleep 1000"
    with first_process("sh", "-c", keeps, program=hasty) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"never read")
        process.stdin.close()
        assert process.wait(LIMIT_S) == 1
        process.stdin = None


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="somebody else than root is needed")
def test_an_agent_cannot_look_into_the_first_process() -> None:
    script = "(: >/proc/$PPID/fd/0) 2>&1; cat /proc/$PPID/environ 2>&1"
    drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    with first_process(*drop, "sh", "-c", script) as process:
        out, _ = process.communicate(timeout=LIMIT_S)
    assert out.count(b"ermission denied") == 2, out


def test_what_cannot_be_removed_is_told_and_what_cannot_be_there_is_not(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    remove(())
    remove(container.removal("podman", str(tmp_path / "podman"), "muster-nobody-0", environment))
    for said, told in (("Error: No such container: muster-nobody-0", False), ("Error: storage is locked", True)):
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
        program.chmod(0o755)
        with pytest.raises(process_sweep.Unsweepable, match="storage is locked") if told else contextlib.nullcontext():
            remove(container.removal("docker", str(program), "muster-nobody-0", environment))


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_nobody_takes_an_agents_process_for_another_agents_supervisor(ground: Ground) -> None:
    """Or it could keep that agent's container from being removed, and the agent from being started."""
    called = container.name(ground.other_home.parent)
    waits = "import time; print('there', flush=True); time.sleep(1000)"
    becomes = f"import os, sys; os.execv(sys.executable, ['conmon', '-c', {waits!r}, {called!r}])"
    argv, environment = ground.wrapped(sys.executable, "-c", becomes)
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert supervising(called)
        remove(container.removal("podman", "/no/such/podman", called, {"PATH": os.environ["PATH"]}))
        assert supervising(called)
    finally:
        process.kill()
        process.communicate()


# --- real containers ----------------------------------------------------------------------------------------------

SEEN = """
import json, os, socket
def tried(act):
    try:
        return repr(act())
    except OSError as error:
        return error.strerror
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)
        return "connected"
def write(path):
    with open(path, "w") as file:
        file.write("x")
    return "written"
secrets, workspace, home, port, others, way = json.loads(os.environ["SECRETS"])
print(repr({
    "secrets": [path for path in secrets if os.path.exists(path)],
    "interfaces": [name for _, name in socket.if_nameindex()],
    "host": tried(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
    "out": tried(lambda: connect(socket.AF_INET, ("192.0.2.1", 443))),
    "other": tried(lambda: connect(socket.AF_UNIX, others)),
    "way": os.listdir(way),
    "system": {
        tried(lambda: write(path)) for path in ("/x", "/usr/x", "/etc/x", "/proc/sys/kernel/hostname", way + "/x")
    },
    "own": {tried(lambda: write(path)) for path in (workspace + "/made", home + "/made", "/tmp/made")},
    "sizes": [os.statvfs(p).f_blocks * os.statvfs(p).f_frsize for p in ("/tmp", "/var/tmp", "/dev/shm", "/run")],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "capabilities": open("/proc/self/status").read().split("CapEff:")[1].split()[0],
    "person": tried(lambda: os.listdir(os.environ["PERSON"])),
}))
"""


@pytest.mark.slow
def test_an_agent_in_a_container_sees_and_reaches_what_is_its_own_and_nothing_else(ground: Ground) -> None:
    box = containers.profile(memory=2**29, pids=100)
    out = ground.state / "run" / "out-coder0"
    out.mkdir()
    others = ground.state / "run" / "other.sock"
    with socket.socket(socket.AF_UNIX) as foreign, socket.create_server(("127.0.0.1", 0)) as listening:
        foreign.bind(str(others))
        foreign.listen()
        port = listening.getsockname()[1]
        told = [[*map(str, ground.secrets)], str(ground.workspace), str(ground.home), port, str(others), str(out)]
        way = EgressGrant(socket=out / "sock")
        argv, environment = ground.wrapped(sys.executable, "-I", "-c", SEEN, profile=box, way=way)
        environment |= {"SECRETS": json.dumps(told), "PERSON": os.path.expanduser("~/.ssh"), "MUSTER_AGENT": "m"}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    seen = ast.literal_eval(done.stdout)
    assert seen.pop("processes") < 8
    assert seen == {
        "secrets": [],
        "interfaces": ["lo"],
        "host": "Connection refused",
        "out": "Network is unreachable",
        "other": "No such file or directory",
        "way": [],
        "system": {"Read-only file system"},
        "own": {"'written'"},
        "sizes": [2**28, 2**27, 2**27, 2**20],
        "capabilities": "0" * 16,
        "person": "No such file or directory",
    }
    made = (ground.workspace / "made").stat()
    assert (made.st_uid, made.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.slow
async def test_an_agent_works_in_a_container_and_nothing_is_left_when_its_host_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "muster" / "run" / "out-coder0"
    folder.mkdir(parents=True)
    box = containers.profile()
    ways = Ways(EgressGrant(socket=folder / "sock"))
    made = assembly(tmp_path, ways, account(), profiles={**merged({}), "box": box})
    agent = row(made, sandbox="box")
    private = made.folder("coder0")
    async with (
        providers.running() as provider,
        forwarding(folder / "sock", provider.url, SECRET) as seen,
        contextlib.AsyncExitStack() as ending,
    ):
        ending.push_async_callback(host_lifecycle.kill, private)
        for _ in range(2):
            await made.start(agent, floor=0, grants=())
            marker = ways.asked[-1].marker
            async with await AgentLink.connect(str(made.socket("coder0"))) as link:
                await link.send(marker, "[[say: through]]")
                ended = await until(link, TurnEnded, after=JournalPosition(link.hello.incarnation))
                assert (ended.message, ended.stop_reason) == (marker, "end_turn")
                host = psutil.Process(link.hello.pid)
                inside = [psutil.Process(pid) for pid in process_sweep.survivors(marker)]
            assert exists(box, private)
            assert not [pid for pid in inside if SECRET.encode() in Path(f"/proc/{pid.pid}/environ").read_bytes()]
            # Nobody clears away: its input is at an end, and the kernel ends the rest.
            host.send_signal(signal.SIGKILL)
            _, alive = await asyncio.to_thread(psutil.wait_procs, inside, timeout=LIMIT_S)
            assert not alive
            host_lifecycle.clear_away(private)
            assert not exists(box, private)
        # A client that is killed leaves a container behind, which an agent host that lives ends.
        await made.start(agent, floor=0, grants=())
        marker = ways.asked[-1].marker
        async with await AgentLink.connect(str(made.socket("coder0"))) as link:
            await until(link, RuntimeStarted, after=JournalPosition(3))
        inside = [psutil.Process(pid) for pid in process_sweep.survivors(marker)]
        client = next(each for each in inside if "--rm" in each.cmdline())
        client.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, inside, timeout=LIMIT_S)
        assert not alive
    assert not exists(box, private)
    assert [headers["x-api-key"] for headers in seen] == ["sk-ant-api03-placeholder"] * len(seen)
    assert seen


@pytest.mark.slow
def test_a_container_whose_client_is_killed_while_it_is_made_is_not_left_in_its_supervisors_hands(
    ground: Ground,
) -> None:
    box = containers.profile()
    ending = sandbox.removal(box, ground.home)
    for _ in range(3):
        argv, environment = ground.wrapped("sleep", "1000", profile=box)
        client = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while not (supervisors := supervising(ending[-1])):
            assert client.poll() is None
        client.kill()
        client.communicate()
        remove(ending)
        _, alive = psutil.wait_procs(supervisors, timeout=LIMIT_S)
        assert not alive
        assert not exists(box, ground.home.parent)


def supervising(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and Path(words[0]).name == "conmon" and name in words:
                found.append(process)
    return found


def exists(box: SandboxProfile, folder: Path) -> bool:
    _, program = command_wrapper.engine_of(box)
    done = subprocess.run([program, "container", "exists", container.name(folder)], check=False, capture_output=True)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0
