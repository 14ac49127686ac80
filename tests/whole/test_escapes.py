"""An agent tries to get out of its sandbox in every way that is known here; all fail, and operators read of them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import platform
import shutil
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import pytest

from bot.outlet.process import places
from egress import remarks
from egress.settings import Registration
from fleet import programs
from fleet.sandbox.policy import available
from tests.bot.house import house
from tests.whole import escaping

if TYPE_CHECKING:
    from bot.outlet.inside import InsideEgress
    from tests.bot.house import House

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available().works, reason="bubblewrap does not work here"),
]

CREDENTIAL = "sk-test-not-a-real-key"
#: What stands in the audit besides the targets of tunnels.
TOLD = (
    *("Host header", "no body and", "handshake names 'evil.example'", "in it names evil.example", "forward proxy"),
    *("POST /sim/ledger", "/v1/organizations/api_keys", "/v1/files", "/v1/messages/:", "POST openai /v1/messages"),
    *("/v1/messages/batches", "/v1/messages;x=1", "empty segments", "climbs", "POST /status", "POST /agents/other0"),
    *("malformed request", "/other0/anthropic/v1/messages"),
)
#: add_key and keyctl, by machine.
KEY_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}
#: What is answered, and metered as this agent's.
ANSWERED = ("forged identity",)


def wishes(home: House, abstract: str) -> dict[str, object]:
    """What there is outside that an agent would like to have."""
    paths, egress = home.paths, places(home.paths)
    files = [
        *egress.authority.iterdir(),
        *(egress.ledger, egress.settings, paths.muster_yaml, paths.agent_folder("coder0") / "turn.json"),
        *(Path("/etc/shadow"), Path(__file__).parents[2] / "pyproject.toml"),
    ]
    assert all(file.exists() for file in files)
    sockets = [egress.control, *paths.sockets.glob("*.sock"), egress.listener("other0")]
    # Its own door to the tools.
    sockets = [place for place in sockets if place.name != "tools-coder0.sock"]
    assert len(sockets) >= 4
    assert all(place.exists() for place in sockets)
    port = urlsplit(home.models.url).port
    return {
        "keyctl": KEY_CALLS[platform.machine()][1],
        "key": abstract,
        "credential": [CREDENTIAL[:9], CREDENTIAL[9:]],
        "programs": [str(path) for path in programs.python_paths()],
        "port": port,
        "pid": os.getpid(),
        "process": Path("/proc/self/cmdline").read_bytes().hex(),
        "abstract": abstract,
        "files": list(map(str, files)),
        "sockets": list(map(str, dict.fromkeys(sockets))),
    }


def _keep_a_key(name: str) -> None:
    """Have the kernel keep a secret of this session."""
    libc, session = ctypes.CDLL(None, use_errno=True), ctypes.c_long(-3)
    size = ctypes.c_size_t(6)
    made = libc.syscall(KEY_CALLS[platform.machine()][0], b"user", name.encode(), b"secret", size, session)
    assert made >= 0, os.strerror(ctypes.get_errno())


def _outside(home: House) -> dict[Path, bytes]:
    """What must not change."""
    egress = places(home.paths)
    files = [*egress.authority.iterdir(), egress.settings, home.paths.muster_yaml]
    # Only root could change it, and only root can read it.
    files += [shadow for shadow in [Path("/etc/shadow")] if os.access(shadow, os.R_OK)]
    return {file: file.read_bytes() for file in files}


async def test_an_agent_in_bubblewrap_gets_out_in_no_way_and_operators_read_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise all but the first ones of a minute are told as a number.
    monkeypatch.setattr(remarks, "MOST_ATTEMPTS", 200)
    abstract = f"muster-{uuid.uuid4().hex}"
    async with house(tmp_path) as home, home.open():
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(listening):
            listening.bind(f"\0{abstract}")
            listening.listen()
            _keep_a_key(abstract)
            await home.ask("!launch coder0 --runtime sim --sandbox bubblewrap")
            thread = await home.thread("coder0")
            await home.heard(thread, "Ready")
            inside = cast("InsideEgress", home.egress).egress
            assert inside is not None
            await inside.register(
                Registration(agent="other0", launch_id="other", role="coder", accounts={"anthropic": "sim"})
            )
            place = home.paths.workspace("coder0")
            shutil.copy(escaping.__file__, place)
            (place / "wishes.json").write_text(json.dumps(wishes(home, abstract)))
            before = _outside(home)
            event = home.say(f"[[run: {Path(sys.executable).resolve()} -I escaping.py]]", thread)
            question = await home.heard(thread, "asks for permission")
            asked = next(said for said in home.chat.messages(thread) if said.text == question)
            home.chat.react(asked.event_id, "✅", conversation=thread)
            await home.marks(event, "✅")
            assert _outside(home) == before
        found: dict[str, str] = json.loads((place / "findings.json").read_text())
        print(json.dumps(found, indent=1))
        for name, what in found.items():
            assert "OPEN" not in what, name
            assert "HTTP/1.1 2" not in what or name in ANSWERED, name
        assert found["keyring"] == os.strerror(errno.EPERM)
        assert found["io_uring"] == os.strerror(errno.ENOSYS)
        assert int(found["memory looked through"]) > 50
        assert int(found["files looked through"]) > 50
        # Metered are its own turn and the one request that looked like somebody else's, all as its own.
        entries = await inside.ledger.entries_after(0, 1000)
        assert {(entry.agent, entry.account) for entry in entries} == {("coder0", "sim")}
        assert sum(entry.status == 200 for entry in entries) == len(await home.models.ledger.find(lambda entry: True))
        told = await _audit(home, "/v1/models with a body")
        print(told)
        targets = [name.removeprefix("CONNECT ")[:30] for name in found if name.startswith("CONNECT ") and ":" in name]
        for words in (*TOLD, *targets):
            assert words in told, words


async def _audit(home: House, words: str) -> str:
    """What operators read, once these words are in it."""
    async with asyncio.timeout(30):
        while words not in (told := await home.ask("!audit")):
            await asyncio.sleep(0.05)
    return told
