"""A next version of Muster for tests: small, and it does what a file beside the configuration says."""

from __future__ import annotations

import base64
import hashlib
import json
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

from bot.config.paths import Paths
from bot.maintenance import versions

VERSION = "99.1"
#: The schema that it brings the register to.
SCHEMA = "9901"

_CLI = f"print('muster {VERSION}')\n"

_MOVING_IN = """
import json, os, pathlib, sqlite3, sys
home = pathlib.Path(os.environ["MUSTER_HOME"])
plan = json.loads((home / "next.json").read_text())
request = json.load(sys.stdin)
if sys.argv[1] == plan.get("fails"):
    sys.exit("it does not work: " + sys.argv[1])
if sys.argv[1] == "survey":
    (home / "request.json").write_text(json.dumps(request))
    print(json.dumps(plan["survey"]))
else:
    with sqlite3.connect(home / "state" / "register.db") as register:
        register.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num)")
        register.execute("UPDATE alembic_version SET version_num = ?", (plan["survey"]["schema"],))
    print("{}")
"""

_FILES = {
    "bot/__init__.py": "",
    "bot/__main__.py": _CLI,
    "bot/maintenance/__init__.py": "",
    "bot/maintenance/update/__init__.py": "",
    "bot/maintenance/update/migrate.py": _MOVING_IN,
}


def behave(paths: Paths, *, fails: str | None = None, schema: str = SCHEMA, **survey: Any) -> None:
    """Say what it finds, and at which of its two steps it fails."""
    found = {"protocol": 1, "schema": schema, "problems": [], "changes": [], "record": None, **survey}
    (paths.config / "next.json").write_text(json.dumps({"survey": found, "fails": fails}))


def wheel(folder: Path, *, name: str = "muster_fleet") -> Path:
    """It as a wheel, which needs nothing else."""
    info = f"{name}-{VERSION}.dist-info"
    contents = {
        **_FILES,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for path, text in contents.items()
    ]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    made = folder / f"{name}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return made


def installed(paths: Paths, version: str = VERSION) -> Path:
    """It where an update would have put it, without pip's help."""
    prefix = versions.folder(paths, version)
    venv.create(prefix, with_pip=False, symlinks=True)
    library = sysconfig.get_path("purelib", "venv", {"base": str(prefix), "platbase": str(prefix)})
    for path, text in _FILES.items():
        file = prefix.joinpath(library, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (prefix / versions.COMPLETE).write_text("{}")
    return prefix
