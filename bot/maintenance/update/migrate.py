"""The part of an update that the newer version carries out for the older one.

    python -P -m bot.maintenance.update.migrate survey     reports what it would change
    python -P -m bot.maintenance.update.migrate migrate    migrates the register to this version's schema

The request is JSON on standard input, the answer is JSON on standard output. Both versions must understand it, so keys
are only ever added. Unknown keys are ignored, and a missing key keeps its earlier meaning.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bot.config.database import open_register
from bot.config.loader import check, load
from bot.config.paths import Paths
from bot.maintenance.update import default_files
from core.errors import MusterError
from core.validation_errors import lines_of
from database import migrations

#: Increased when a request or an answer changes its meaning.
PROTOCOL = 1


def survey(paths: Paths, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this version would change in the installation."""
    found = check(paths)
    roles_before = request.get("roles") or {}
    changes = default_files.changes(paths, roles_before)
    changes += default_files.unit_changes(paths, os.environ, request.get("units") or {}, str(request.get("python")))
    return {
        "protocol": PROTOCOL,
        "schema": migrations.head(),
        "problems": list(lines_of(found.problems)),
        "changes": [asdict(change) for change in changes],
        "record": default_files.record_now(paths),
    }


async def migrate(paths: Paths) -> dict[str, Any]:
    """Migrate the register to this version's schema, in one transaction and by additions only."""
    store = await open_register(load(paths), os.environ)
    await store.close()
    return {"protocol": PROTOCOL, "schema": migrations.head()}


def main(arguments: list[str]) -> int:
    """Answer one request and return the exit status."""
    try:
        request = json.loads(sys.stdin.read() or "{}")
        paths = Paths.of(os.environ)
        match arguments:
            case ["survey"]:
                answer = survey(paths, request)
            case ["migrate"]:
                answer = asyncio.run(migrate(paths))
            case _:
                print("usage: python -P -m bot.maintenance.update.migrate survey|migrate", file=sys.stderr)
                return 2
    except MusterError as error:
        print(str(error), file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
