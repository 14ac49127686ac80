"""Versions of Muster as packages. pip finds and installs them, with its own index and settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bot.maintenance import versions
from bot.text.errors import UserError

PACKAGE: Final = "muster-fleet"
#: The extras, each with a distribution that only it brings.
EXTRAS: Final = {
    "forge": "detect-secrets",
    "keyring": "keyring",
    "opentelemetry": "opentelemetry-proto",
    "webpush": "pywebpush",
}

#: Seconds for pip to find a version, and to install it with its dependencies.
_FIND_LIMIT: Final = 180.0
_INSTALL_LIMIT: Final = 1800.0
_TAIL: Final = 1500
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class NotInstalled(UserError):
    """A package could not be found or installed."""

    code = "update.failed"


class VersionsUnknown(NotInstalled):
    """The available versions of Muster are unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateCandidate:
    """A version that can be installed."""

    version: str
    #: The requirement for pip.
    requirement: str
    #: The SHA-256 of its file, if pip reports it.
    digest: str | None = None


def ours() -> str:
    """Return the version of this program.

    Raises:
        UserError: it is not installed as a package.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UserError(
            "This Muster is not installed as a package; update it the way it was installed.",
            code="update.not_a_package",
        ) from None


def checkout() -> str | None:
    """Return the source folder of an editable installation, or None for any other."""
    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}"
        source = json.loads(text)
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if not source.get("dir_info", {}).get("editable"):
        return None
    return str(source.get("url", "")).removeprefix("file://")


def find(place: str | None) -> UpdateCandidate:
    """Return the newest version in the package index, or the one at `place`: a wheel's path, or a URL.

    Raises:
        VersionsUnknown: there is none, or pip cannot find out.
        NotInstalled: it is another package, or `place` is not a valid address.
    """
    wanted = PACKAGE if place is None else _located(place)
    with tempfile.TemporaryDirectory(prefix="muster-update-") as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", str(report)]
        failed = _pip(["install", *options, wanted], _FIND_LIMIT)
        if failed is not None:
            what = not_in_index(failed) if place is None else f"pip cannot use {place}."
            raise VersionsUnknown(f"{what} pip's output:\n\n{textwrap.indent(failed, '    ')}")
        try:
            entry: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))["install"][0]
            name, version = str(entry["metadata"]["name"]), str(entry["metadata"]["version"])
            digest = entry.get("download_info", {}).get("archive_info", {}).get("hashes", {}).get("sha256")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotInstalled(f"pip does not say what it found ({error!r}). Is it 22.3 or newer?") from error
    if re.sub(r"[-_.]+", "-", name).lower() != PACKAGE:
        raise NotInstalled(f"{place} is the package {name[:60]}, and not {PACKAGE}.")
    if not versions.is_name(version):
        raise NotInstalled(f"{place or PACKAGE} has an invalid version: {version[:60]!r}.")
    extras = f"[{','.join(here)}]" if (here := installed_extras()) else ""
    if place is None:
        return UpdateCandidate(version=version, requirement=f"{PACKAGE}{extras}=={version}", digest=digest)
    return UpdateCandidate(version=version, requirement=f"{PACKAGE}{extras} @ {_url(wanted)}", digest=digest)


def installed_extras() -> tuple[str, ...]:
    """Return the extras that this version has, so that the next one has them, too."""
    return tuple(extra for extra, part in EXTRAS.items() if _is_installed(part))


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def not_in_index(words: str) -> str:
    """Explain from pip's output why it found no version, and what to do."""
    way_out = "`muster update --from WHEEL` takes a file or an https:// address instead."
    if "Retrying" in words or "Connection" in words:
        return f"The package index cannot be reached; `pip config list` says which one pip asks. {way_out}"
    if "(from versions: none)" in words:
        return (
            f"The package index does not have {PACKAGE}. `pip config list` and PIP_INDEX_URL show which "
            f"index pip uses. {way_out}"
        )
    if "No matching distribution" in words:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"The package index has {PACKAGE}, but no version for Python {here}. {way_out}"
    return f"pip cannot find out which versions of {PACKAGE} there are. {way_out}"


def install(candidate: UpdateCandidate, prefix: Path, *, with_pip: bool = True) -> None:
    """Create a virtual environment at `prefix` with that version and the installed plugins.

    Args:
        candidate: the version.
        prefix: the folder, which does not exist yet.
        with_pip: include pip, which finds the next update. This takes some seconds.

    Raises:
        NotInstalled: the installation failed; the caller removes the partial folder.
    """
    try:
        venv.create(prefix, with_pip=False, symlinks=True)
    except OSError as error:
        raise NotInstalled(f"{prefix} cannot be made: {error.strerror or error}.") from error
    python = str(versions.python_of(prefix))
    failed = _pip(["--python", python, "install", "--quiet", candidate.requirement, *_plugins()], _INSTALL_LIMIT)
    if failed is not None:
        raise NotInstalled(f"{PACKAGE} {candidate.version} was not installed:\n\n{failed}")
    failed = _run([python, "-P", "-m", "ensurepip", "--default-pip"], _INSTALL_LIMIT) if with_pip else None
    if failed is not None:
        raise NotInstalled(
            f"pip could not be installed into {prefix}; on Debian and Ubuntu, install the package python3-venv:\n\n"
            f"{failed}"
        )


def _plugins() -> list[str]:
    """Return the other packages that provide Muster connectors; without them the new version would lack these."""
    found = set()
    for point in metadata.entry_points(group="muster.connectors"):
        if point.dist is not None and point.dist.name != PACKAGE:
            found.add(f"{point.dist.name}=={point.dist.version}")
    return sorted(found)


def _located(place: str) -> str:
    scheme = urlsplit(place).scheme
    if scheme in ("https", "file") or (scheme == "http" and urlsplit(place).hostname in _LOOPBACK):
        return place
    if scheme:
        raise NotInstalled(f"{place[:200]}: name a file, or an address that begins with https://.")
    path = Path(place).expanduser().absolute()
    if not path.is_file():
        raise NotInstalled(f"There is no file {path}.")
    return str(path)


def _url(located: str) -> str:
    return located if urlsplit(located).scheme else Path(located).as_uri()


def _pip(arguments: Sequence[str], limit: float) -> str | None:
    """Run pip and return its output if it failed."""
    if find_spec("pip") is None:
        raise VersionsUnknown(
            f"There is no pip in {sys.prefix}, and updates need it. `{sys.executable} -m ensurepip` installs it."
        )
    options = ["--no-input", "--disable-pip-version-check"]
    return _run([sys.executable, "-P", "-m", "pip", *options, *arguments], limit)


def _run(command: Sequence[str], limit: float) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False, cwd="/", env=_environ()
        )
    except subprocess.TimeoutExpired:
        return f"pip took longer than {limit:.0f} s."
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()[-_TAIL:]
        return words or f"status {done.returncode}"
    return None


def _environ() -> dict[str, str]:
    # The variables of this interpreter must not affect the other one.
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "__PYVENV_LAUNCHER__")}
