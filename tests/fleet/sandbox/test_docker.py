"""The command lines of docker(1), run by its own client. Its service is podman's, which speaks the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import sandbox
from fleet.sandbox import container, selection
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import SandboxProfile, WrittenProfile, merged
from fleet.supervision.container_cleanup import remove
from tests.fleet.sandbox import containers, machine_image
from tests.fleet.sandbox.two_agents import LIMIT_S, Ground
from tests.system.escape_targets import ESCAPES, Outside

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker") is None, reason="tried by hand where docker's client is not installed"),
    # To whom files belong inside is the service's to say, and docker's is root's.
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

IMAGE = "localhost/muster-test"


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, tuple[str, ...]]]:
    """A service with one image, and a storage of its own. Its address, and the flags that containers need here."""
    flags = containers.profile().flags
    ours = [word for word in flags if word.startswith("--runtime=")]
    with tempfile.TemporaryDirectory(prefix="muster-") as name:
        folder = Path(name)
        machine_image.make(folder / "image.tar")
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp")
        podman = ["podman", *places, "--storage-driver=vfs", *ours]
        subprocess.run([*podman, "import", "--quiet", folder / "image.tar", IMAGE], check=True, capture_output=True)
        address = f"unix://{folder}/service"
        with contextlib.ExitStack() as stack:
            process = subprocess.Popen(
                [*podman, "system", "service", "--time=0", address], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            waiting = ["docker", "info", "--format", "{{.ServerVersion}}"]
            while subprocess.run(waiting, env={**os.environ, "DOCKER_HOST": address}, capture_output=True).returncode:
                assert process.poll() is None
            yield address, tuple(word for word in flags if word not in ours)


@pytest.fixture
def box(service: tuple[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> SandboxProfile:
    address, flags = service
    monkeypatch.setenv("DOCKER_HOST", address)
    written = WrittenProfile(kind="container", engine="docker", image=IMAGE, flags=flags, memory=2**29, pids=100)
    return merged({"box": written})["box"]


def test_an_agent_gets_out_of_a_container_of_dockers_in_no_way_either(ground: Ground, box: SandboxProfile) -> None:
    assert selection.container_available(box) == selection.Availability(True)
    out = ground.state / "run" / "out-coder0"
    out.mkdir()
    outside = Outside()
    shutil.copytree(ESCAPES, ground.workspace / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
    with outside.there():
        files = [*outside.desired_states()["files"], *map(str, ground.secrets)]
        desired_states = {
            **outside.desired_states(),
            "files": files,
            "sockets": [str(ground.state / "run" / "gateway.sock")],
            "port": 1,
        }
        (ground.workspace / "wishes.json").write_text(json.dumps(desired_states))
        words = ("python3", "-Es", "-m", "escapes", "networks", "kernel", "privileges", "files", "memory")
        argv, environment = ground.wrapped(*words, profile=box, way=EgressGrant(socket=out / "sock"))
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    made = ground.workspace / "findings.json"
    found = json.loads(made.read_text())["found"]
    print(json.dumps(found, indent=1))
    assert not [name for name, what in found.items() if "OPEN" in what]
    assert len(found) > 50
    assert made.stat().st_uid == os.geteuid()
    assert [file.read_text() for file in ground.secrets] == ["secret"] * len(ground.secrets)


def test_a_container_of_dockers_ends_with_its_client_and_can_be_removed_twice(
    ground: Ground, box: SandboxProfile
) -> None:
    ending = sandbox.removal(box, ground.home)
    argv, environment = ground.wrapped(
        "python3", "-c", "import time; print('there', flush=True); time.sleep(999)", profile=box
    )
    for killed in (True, False):
        client = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert client.stdout.readline() == b"there\n"
        if killed:
            client.kill()
            waiting = ["docker", "wait", container.name(ground.home.parent)]
            assert subprocess.run(waiting, capture_output=True, timeout=LIMIT_S, check=False).returncode in (0, 1)
        for _ in range(2):
            remove(ending)
        client.communicate(timeout=LIMIT_S)
        assert subprocess.run(["docker", "ps", "-aq"], capture_output=True, check=True).stdout == b""


def test_an_image_that_is_not_there_is_said_to_be_missing(
    box: SandboxProfile, service: tuple[str, tuple[str, ...]]
) -> None:
    other = merged(
        {"box": WrittenProfile(kind="container", engine="docker", image="localhost/no-such", flags=service[1])}
    )["box"]
    found = selection.container_available(other)
    assert re.search("localhost/no-such is not on this machine.*`docker pull", found.reason)
