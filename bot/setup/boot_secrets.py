"""Which secrets of the configuration are not available when the machine starts Muster."""

from __future__ import annotations

from pathlib import Path

from bot.config.loader import Check
from bot.config.paths import Paths
from bot.setup import systemd_units
from bot.setup.doctor.installation import references


def missing_at_boot(paths: Paths, found: Check) -> list[str]:
    """Return warnings about secrets that are not available at boot before a login."""
    given = _variables(Path(systemd_units.secrets_of(paths)))
    told = []
    for place, reference in references(found):
        if reference.scheme == "env" and reference.name not in given:
            told.append(
                f"{place} is {reference}, which is not set at boot. Write {reference.name}=... into "
                f"{systemd_units.secrets_of(paths)} (chmod 600), or the secret into a file, and file:PATH here."
            )
        elif reference.scheme == "keyring":
            told.append(
                f"{place} is {reference}, and after a boot a keyring is locked until somebody logs in. For a machine "
                f"without logins, put the secret into a file that only you can read, and use file:PATH."
            )
    return told


def _variables(file: Path) -> frozenset[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(
        line.partition("=")[0].strip() for line in lines if "=" in line and not line.startswith(("#", ";"))
    )
