"""The house that is measured: a real Synapse with raised limits, `muster up` as a process of its own, its operator."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from fleet.sim.provider import server as provider
from tests.synapse import Synapse
from tests.system.matrix_installation import Installation, installation

#: Agents ask the built-in model provider and run without a sandbox, whose processes would be counted too.
AGENTS = {"runtime": "sim", "sandbox": "none"}


@asynccontextmanager
async def house(*, encryption: str | None = None) -> AsyncIterator[Installation]:
    """A house whose bot was started and is in its room, with no agent yet; `encryption` as muster.yaml has it."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        homeserver = Synapse(Path(folder, "synapse"))
        homeserver.start()
        try:
            async with (
                provider.running() as models,
                installation(Path(folder, "house"), homeserver, models, agents=AGENTS) as home,
            ):
                if encryption is not None:
                    written = yaml.safe_load(home.paths.muster_yaml.read_text())
                    written["connectors"]["matrix"]["encryption"] = encryption
                    home.paths.muster_yaml.write_text(yaml.safe_dump(written))
                await home.start()
                await home.joined()
                yield home
        finally:
            homeserver.stop()
