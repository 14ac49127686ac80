"""Which sandbox an agent gets."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.sandbox import bubblewrap, command_wrapper, container, profiles
from fleet.sandbox.profiles import SandboxProfile
from fleet.sandbox.system_mounts import kernel, system

_TRY_FOR_S = 20.0
_TRY_CONTAINER_FOR_S = 60.0
#: What the first processes in a container take of Python's library (fleet.sandbox.container_init, closing, relay).
_IMPORTS = "import ctypes, errno, json, os, resource, select, signal, socket, struct, sys, time"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a kind of sandbox works here; if not, `reason` says why, in a sentence."""

    works: bool
    reason: str = ""


def available() -> Availability:
    """Try bubblewrap, with the very isolation that agents get."""
    program = shutil.which("bwrap")
    if program is None:
        return Availability(False, "bubblewrap is not installed (Debian, Ubuntu, Fedora: the package bubblewrap).")
    try:
        tried = subprocess.run(
            [
                *bubblewrap.isolated(
                    program,
                    (*system(), *kernel()),
                    root=os.geteuid() == 0,
                    network=False,
                    scratch_bytes=command_wrapper.scratch_bytes(program),
                ),
                *("--", "/bin/sh", "-c", ":"),
            ],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRY_FOR_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Availability(False, f"bubblewrap could not be tried: {error}.")
    if tried.returncode == 0:
        return Availability(True)
    return Availability(False, explain(tried.stderr.decode("utf-8", "replace"), _settings()))


def bounds_files_in_memory() -> bool:
    """Return whether bubblewrap can bound what agents keep in memory as files; True where it is not installed."""
    program = shutil.which("bwrap")
    return program is None or command_wrapper.sizes_tmpfs(program)


def container_available(profile: SandboxProfile) -> Availability:
    """Try a container with the profile's image, and with the very isolation that agents get."""
    with tempfile.TemporaryDirectory(prefix="muster-try-") as folder:
        called = f"muster-try-{secrets.token_hex(6)}"
        try:
            engine, program = command_wrapper.engine_of(profile)
            environment = container.finding(os.environ)
            line = command_wrapper.contained(
                profile,
                ("-I", "-S", "-c", _IMPORTS),
                called=called,
                root=Path(folder) / "root",
                mounts=(),
                workspace=Path("/tmp"),  # noqa: S108
            )
        except FleetError as error:
            return Availability(False, str(error))
        try:
            tried = subprocess.run(
                line, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_CONTAINER_FOR_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                ending = container.removal(engine, program, called, environment)
                subprocess.run(ending, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_FOR_S, check=False)
            return Availability(False, f"{engine} could not be tried: {error}.")
    if tried.returncode == 0:
        return Availability(True)
    said = tried.stderr.decode("utf-8", "replace")
    return Availability(False, container.explain(said, engine, profile.image or ""))


def explain(complaint: str, settings: dict[str, str]) -> str:
    """Return why bubblewrap does not work here, from what it said and the kernel's settings."""
    said = complaint.strip().splitlines()[-1] if complaint.strip() else "it gave no reason"
    head = f"bubblewrap is installed but does not work here ({said})."
    if settings.get("user/max_user_namespaces") == "0":
        return f"{head} User namespaces are off: set the kernel's user.max_user_namespaces above 0."
    if settings.get("kernel/unprivileged_userns_clone") == "0":
        return f"{head} User namespaces are off: set the kernel's kernel.unprivileged_userns_clone to 1."
    if settings.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"{head} AppArmor restricts user namespaces: install its profile for bwrap (Ubuntu: the package "
            "apparmor-profiles has bwrap-userns-restrict), or set kernel.apparmor_restrict_unprivileged_userns to 0."
        )
    if "mount proc" in complaint.lower():
        return (
            f"{head} A container around Muster hides parts of /proc: start that container with "
            "`--security-opt unmask=/proc/*` (podman) or `--security-opt systempaths=unconfined` (docker)."
        )
    if "permi" in complaint.lower() or "namespace" in complaint.lower():
        return f"{head} A container around Muster may forbid new namespaces."
    return head


def choose(
    requested: str | None,
    availability: Availability | None = None,
    known: Mapping[str, SandboxProfile] = profiles.BUILT_IN,
) -> SandboxProfile:
    """Return the sandbox for an agent: the profile that was asked for, else bubblewrap. Never none without being asked.

    Args:
        requested: the profile's name.
        availability: what `available`, or `container_available`, found; looked up when it is needed and not given.
        known: the profiles that there are, by name.

    Raises:
        FleetError: there is no such profile, or its kind does not work here.
    """
    profile = profiles.named(requested or profiles.DEFAULT, known)
    if profile is None:
        raise FleetError(profiles.unknown(str(requested), known), code="sandbox.unknown")
    if profile.kind == "none":
        return profile
    if profile.kind == "container":
        found = availability or container_available(profile)
        if found.works:
            return profile
        raise FleetError(
            f"There is no container for this agent (sandbox profile {profile.name}): {found.reason} Fix that, or give "
            "it another sandbox.",
            code="sandbox.unavailable",
        )
    found = availability or available()
    if found.works:
        return profile
    raise FleetError(
        f"There is no sandbox for this agent: {found.reason} Fix that, or set `sandbox: none`, which lets the agent "
        "act as you do: it can read your files and give Muster orders.",
        code="sandbox.unavailable",
    )


def _settings() -> dict[str, str]:
    found = {}
    for name in (
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ):
        path = Path("/proc/sys") / name
        if path.exists():
            found[name] = path.read_text(encoding="ascii").strip()
    return found
