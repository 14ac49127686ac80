"""Options of podman and docker that a profile may add."""

from __future__ import annotations

import pytest

from fleet.sandbox import container_options


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (("--runtime", "runc", "--ulimit", "nofile=1024:1024"), ("--runtime=runc", "--ulimit=nofile=1024:1024")),
        (("--cpus=1.5", "--security-opt=label=disable"), ("--cpus=1.5", "--security-opt=label=disable")),
    ],
)
def test_flags_of_a_profile_are_taken_in_one_word_or_two(written: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert container_options.flags(written) == found


@pytest.mark.parametrize(
    "written",
    [
        ("--privileged",),
        ("--network=host",),
        ("--net", "host"),
        ("--cap-add=SYS_ADMIN",),
        ("-v", "/:/host"),
        ("-v/:/host",),
        ("--volume=/var/run/docker.sock:/var/run/docker.sock",),
        ("--mount=type=bind,source=/,destination=/host",),
        ("--pid=host",),
        ("--ipc", "host"),
        ("--userns=host",),
        ("--device=/dev/kmsg",),
        ("--security-opt=seccomp=unconfined",),
        ("--security-opt", "apparmor=unconfined"),
        ("--security-opt=label=disable,seccomp=unconfined",),
        ("--runtime",),
        ("--runtime", "--privileged"),
        ("--runtime=", "x"),
        ("--ulimit=nofile=1\n2",),
        ("alpine",),
        ("--",),
        ("",),
    ],
)
def test_flags_that_could_undo_the_isolation_are_refused(written: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"leave the isolation alone|needs a value|of --security-opt only"):
        container_options.flags(written)
