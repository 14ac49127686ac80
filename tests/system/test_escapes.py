"""An agent tries to get out of its sandbox in every way that is known here; all fail, and operators read of them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import yaml

from bot.egress_client.in_process import InProcessEgress
from bot.egress_client.process import places
from egress.daemon import audit_throttle
from egress.settings import AgentRegistration
from fleet.sandbox.egress_grant import PORT
from fleet.sandbox.selection import available
from tests import waiting
from tests.bot.orchestrator import House, house
from tests.fleet.sandbox import containers
from tests.system.escape_targets import ESCAPES, Outside

pytestmark = [pytest.mark.slow, pytest.mark.root]

#: What is answered, and metered as this agent's.
ANSWERED = ("forged identity",)


def desired_states(home: House, outside: Outside) -> dict[str, Any]:
    """What of Muster's an agent would like to have, too."""
    paths, egress = home.paths, places(home.paths)
    files = [
        *egress.authority.iterdir(),
        *(egress.ledger, egress.settings, paths.muster_yaml, paths.agent_folder("coder0") / "turn.json"),
        *(Path("/etc/shadow"), Path(__file__).parents[2] / "pyproject.toml"),
    ]
    assert all(file.exists() for file in files)
    own = [egress.listener("coder0"), paths.sockets / "tools-coder0.sock"]
    sockets = [egress.control, *paths.sockets.glob("*.sock"), egress.listener("other0")]
    sockets = [place for place in sockets if place not in own]
    assert len(sockets) >= 4
    assert all(place.exists() for place in (*sockets, *own))
    found = outside.desired_states()
    return {
        **found,
        "port": urlsplit(home.models.url).port,
        "relay": PORT,
        "egress": str(own[0]),
        "tools": str(own[1]),
        "files": [*found["files"], *map(str, files)],
        "sockets": list(map(str, dict.fromkeys(sockets))),
    }


def _outside(home: House) -> dict[Path, bytes]:
    """What must not change."""
    egress = places(home.paths)
    files = [*egress.authority.iterdir(), egress.settings, home.paths.muster_yaml]
    # Only root could change it, and only root can read it.
    files += [shadow for shadow in [Path("/etc/shadow")] if os.access(shadow, os.R_OK)]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", ["bubblewrap", "container"])
async def test_an_agent_gets_out_of_its_sandbox_in_no_way_and_operators_read_of_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise all but the first ones of a minute are told as a number.
    monkeypatch.setattr(audit_throttle, "MOST_ATTEMPTS", 200)
    outside = Outside()
    async with house(tmp_path, settings=_profiles(kind)) as home, home.open():
        with outside.there():
            await home.ask("!launch coder0 --runtime sim --sandbox box")
            thread = await home.thread("coder0")
            await home.heard(thread, "Ready")
            inside = cast("InProcessEgress", home.egress).egress
            assert inside is not None
            await inside.register(
                AgentRegistration(agent="other0", launch_id="other", role="coder", accounts={"anthropic": "sim"})
            )
            place = home.paths.workspace("coder0")
            shutil.copytree(ESCAPES, place / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
            (place / "wishes.json").write_text(json.dumps(desired_states(home, outside)))
            before = _outside(home)
            event = home.say(f"[[run: {Path(sys.executable).resolve()} -Es -m escapes]]", thread)
            question = await home.heard(thread, "asks for permission")
            asked = next(said for said in home.chat.messages(thread) if said.text == question)
            home.chat.react(asked.event_id, "✅", conversation=thread)
            await home.marks(event, "✅")
            assert _outside(home) == before
        findings = json.loads((place / "findings.json").read_text())
        found: dict[str, str] = findings["found"]
        print(json.dumps(found, indent=1))
        for name, what in found.items():
            assert "OPEN" not in what, name
            assert "HTTP/1.1 2" not in what or name in ANSWERED, name
        assert found["keyring"] == errno.errorcode[errno.EPERM]
        assert found["io_uring"] == errno.errorcode[errno.ENOSYS]
        for what in ("memory", "files"):
            assert int(found[f"{what} looked through"]) > 50
        assert int(found["descriptors looked at"]) > 5
        left = list(place.rglob("*"))
        assert not [each for each in left if each.lstat().st_mode & 0o6000]
        assert not [each for each in left if "security.capability" in os.listxattr(each, follow_symlinks=False)]
        # Metered are its own turn and the one request that looked like somebody else's, all as its own.
        entries = await inside.ledger.entries_after(0, 1000)
        assert {(entry.agent, entry.account) for entry in entries} == {("coder0", "sim")}
        assert sum(entry.status == 200 for entry in entries) == len(await home.models.ledger.find(lambda entry: True))
        audit = await _audit(home, "/v1/models with a body")
        print(audit)
        for name, words in findings["told"].items():
            assert words in audit, name
    # And nothing else is, nor one of them twice.
    assert _counted(places(home.paths).ledger) == len(findings["told"])


def _profiles(kind: str) -> str:
    if kind == "container":
        made = containers.profile()
        return yaml.safe_dump({"sandboxes": {"box": {"kind": kind, "image": made.image, "flags": list(made.flags)}}})
    if not (found := available()).works:
        pytest.skip(found.reason)
    return yaml.safe_dump({"sandboxes": {"box": {"extends": kind}}})


async def _audit(home: House, words: str) -> str:
    """What operators read, once these words are in it."""
    told = await waiting.until(lambda: home.ask("!audit"), lambda told: words in told)
    return told


def _counted(ledger: Path) -> int:
    """How many refusals the egress has written down, told apart or as a number."""
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("SELECT detail FROM actions WHERE result = 'refused'").fetchall()
    return sum(json.loads(detail or "{}").get("attempts", 1) for (detail,) in rows)


def test_the_same_attempts_are_open_where_there_is_no_sandbox(tmp_path: Path) -> None:
    """Or the test above would prove nothing. Those that root alone could do are no part of it."""
    outside = Outside()
    place = tmp_path / "work"
    place.mkdir()
    shutil.copytree(ESCAPES, place / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
    with outside.there(), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        given = {**outside.desired_states(), "sockets": [str(tmp_path / "socket")]}
        (place / "wishes.json").write_text(json.dumps(given))
        words = [sys.executable, "-Es", "-m", "escapes", "kernel", "privileges", "files"]
        subprocess.run(words, cwd=place, check=True, timeout=60)
    found = json.loads((place / "findings.json").read_text())["found"]
    print(json.dumps(found, indent=1))
    opened = {name for name, what in found.items() if "OPEN" in what}
    assert opened >= {
        *("keyring", "memory that others share", "processes of the host", "signal to the host", "set-user-ID programs"),
        *("set-user-ID file by chmod", "set-user-ID file by open", "set-user-ID file by mknod"),
        *(f"file {outside.shared_memory}", f"socket {tmp_path / 'socket'}", "program out of memory"),
    }
    if os.geteuid() == 0:
        assert opened >= {"/proc/sys", "capabilities", "capabilities of a file", "control groups", "new device"}
