"""The image of the Containerfile, built on a base made by debootstrap and started, without any registry of images."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/muster-test"
UNMASKED = ("--security-opt", "unmask=/proc/*")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(900),
    # It downloads a Debian and installs all dependencies anew, which takes minutes.
    pytest.mark.skipif(
        os.environ.get("MUSTER_TESTS_IMAGE") is None, reason="tried by hand: MUSTER_TESTS_IMAGE=1 builds the image"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for debootstrap"),
]


class Podman:
    def __init__(self, folder: Path) -> None:
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver=vfs")
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()
        self.words = ("podman", *places, *runtime)

    def __call__(self, *words: str | Path) -> str:
        done = subprocess.run(
            [*self.words, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        assert done.returncode == 0, text[-3000:]
        return text

    def run(self, *words: str) -> str:
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
        return self("run", "--rm", "--network", "host", *limits, *words)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("image")
    made = Podman(folder)
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder / "base"], check=True
    )
    subprocess.run(["tar", "-C", folder / "base", "-cf", folder / "base.tar", "."], check=True)
    made("import", "--quiet", folder / "base.tar", "localhost/base")
    # What this machine says of package indexes and certificates.
    there = [place for place in ("/etc/pip.conf", "/etc/ssl/certs", *_local_indexes()) if Path(place).exists()]
    volumes = [word for place in there for word in ("--volume", f"{place}:{place}:ro")]
    build = ["build", "--network", "host", "--isolation", "chroot", "--build-arg", "BASE=localhost/base"]
    made(*build, *volumes, "--tag", IMAGE, ROOT)
    yield made
    made("rmi", "--all", "--force")


def _local_indexes() -> list[str]:
    said = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    return [word.strip("'\"").removeprefix("file://") for word in said.replace("=", " ").split() if "/opt/" in word]


def test_the_demo_plays_in_the_container_with_sandboxed_agents(podman: Podman) -> None:
    assert podman.run(IMAGE, "--version").startswith("muster ")
    assert "The demo played to its end" in podman.run(*UNMASKED, IMAGE, "up", "--demo")


def test_without_the_option_it_is_named(podman: Podman) -> None:
    said = podman.run(
        "--entrypoint", "sh", IMAGE, "-c", "muster init --chat terminal --runtime none --yes; muster doctor; true"
    )
    assert "--security-opt unmask=/proc/*" in said
