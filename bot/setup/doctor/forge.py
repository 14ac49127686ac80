"""What a configured forge needs of this machine. `muster forge check` asks the forge itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

from bot.config.forge import extra
from bot.config.forge.settings import WebhooksBlock
from bot.config.instance_lock import holder
from bot.config.loader import Check
from bot.config.paths import Paths
from bot.config.surfaces.web import parse_listen
from bot.setup.doctor.finding import DoctorFinding
from core.secret_references import Unresolved
from forge.webhooks.signature import SHORTEST_SECRET

_COSTS = "Muster does not start."


def examine(checked: Check, paths: Paths, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Check the extra and the listener, if there is a forge. Its secrets are checked with all others."""
    block = checked.settings.forge if checked.settings else None
    if block is None:
        return
    if lacking := extra.lacking():
        found = f"the extra forge is not installed: no {', '.join(lacking)}"
        way = f"{extra.INSTALL}, or remove `forge:` from muster.yaml."
        yield DoctorFinding(name="forge", state="wrong", found=found, costs=_COSTS, way=way)
    else:
        count = len(block.repositories)
        found = f"{block.address}, {count} repositor{'y' if count == 1 else 'ies'}; `muster forge check` asks it"
        yield DoctorFinding(name="forge", state="ok", found=found)
    if block.listens and block.webhooks is not None:
        yield _webhooks(block.webhooks, environ, is_ours=holder(paths.lock) is not None)


def _webhooks(block: WebhooksBlock, environ: Mapping[str, str], *, is_ours: bool) -> DoctorFinding:
    name = "forge.webhooks"
    try:
        length = len(block.secret.resolve(environ))
    except Unresolved:
        length = SHORTEST_SECRET
    if length < SHORTEST_SECRET:
        found = f"the secret has {length} characters, and {SHORTEST_SECRET} are needed"
        way = "Make one with `openssl rand -hex 32`, and set it at the forge as well."
        return DoctorFinding(name=name, state="wrong", found=found, costs=_COSTS, way=way)
    if is_ours:
        return DoctorFinding(name=name, state="ok", found=f"{block.listen} belongs to the running Muster")
    host, port = parse_listen(block.listen)
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        found = f"nothing can listen at {block.listen}: {error.strerror}"
        way = "End what listens there, or change `forge: webhooks: listen`."
        return DoctorFinding(name=name, state="wrong", found=found, costs=_COSTS, way=way)
    return DoctorFinding(name=name, state="ok", found=f"{block.listen} is free")
