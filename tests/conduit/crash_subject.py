"""One run of `python -m conduit.provision` that dies where it is told to."""

from __future__ import annotations

import os
import sys

from conduit import provision
from core import crash_points


def live(home: str, arguments: list[str], place: str | None) -> None:
    """Run it for the installation in `home`; the process ends with its status."""
    os.environ["MUSTER_HOME"] = home
    crash_points.arm(place)
    sys.exit(provision.main(arguments))
