"""A real homeserver for tests: Synapse from PyPI, in a virtual environment of its own, on loopback and SQLite.

    server = Synapse(folder)            # raised limits, sync cache on, as Synapse has it by default
    server.start()
    ana = await server.register("ana")
    server.kill(); await server.restarted()    # same port, same data

`MUSTER_TEST_SYNAPSE` names a virtual environment that has Synapse already; otherwise one is made in `.cache/` from
`tests/synapse-requirements.lock` at first use.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import yaml

PROJECT = Path(__file__).resolve().parent.parent
LOCK_FILE = PROJECT / "tests" / "synapse-requirements.lock"
ENVIRONMENT_VARIABLE = "MUSTER_TEST_SYNAPSE"
SERVER_NAME = "muster.test"
START_LIMIT = 60.0
_PR_SET_PDEATHSIG = 1


class SynapseMissing(Exception):
    """Synapse cannot be had here; the message says why. Tests skip with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one user may do. The defaults here are Synapse's own: 0.2 messages a second, ten at once."""

    messages_per_second: float = 0.2
    messages_burst: int = 10


GENEROUS = Limits(messages_per_second=10_000, messages_burst=10_000)
DEFAULT = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Somebody's log-in on one device."""

    homeserver: str
    user_id: str
    password: str
    access_token: str
    device_id: str


class Synapse:
    """One homeserver in `folder`, which it keeps over restarts."""

    def __init__(
        self, folder: Path, *, limits: Limits = GENEROUS, sync_cache: bool = True, port: int | None = None
    ) -> None:
        self.folder = folder
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server_name = SERVER_NAME
        self.log = folder / "synapse.log"
        self._secret = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        config = _configuration(folder, self.port, self._secret, limits, sync_cache)
        (folder / "homeserver.yaml").write_text(yaml.safe_dump(config))

    @property
    def shared_secret(self) -> str:
        """What lets its bearer register users."""
        return self._secret

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            SynapseMissing: it cannot be installed here.
        """
        self._spawn()
        self._wait()

    async def restarted(self) -> None:
        """Start again without holding the event loop, and wait until it answers."""
        self._spawn()
        await asyncio.to_thread(self._wait)

    def kill(self) -> None:
        """Die as a machine dies: SIGKILL, nothing is said to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it; safe to call twice."""
        # Synapse in order takes seconds for its last words; its data is in a temporary folder.
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Hang: connections are accepted, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def register(self, name: str | None = None, *, prefix: str = "user", admin: bool = False) -> Account:
        """Make a user through the registration endpoint for administrators; without a name, a fresh one."""
        localpart = name or f"{prefix}-{secrets.token_hex(4)}"
        password = secrets.token_urlsafe(12)
        path = f"{self.url}/_synapse/admin/v1/register"
        async with aiohttp.ClientSession() as http:
            async with http.get(path) as response:
                nonce = (await response.json())["nonce"]
            parts = [nonce, localpart, password, "admin" if admin else "notadmin"]
            mac = hmac.new(self._secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
            body = {"nonce": nonce, "username": localpart, "password": password, "admin": admin, "mac": mac}
            async with http.post(path, json=body) as response:
                answer = await response.json()
                assert response.status == 200, answer
        return Account(
            homeserver=self.url,
            user_id=answer["user_id"],
            password=password,
            access_token=answer["access_token"],
            device_id=answer["device_id"],
        )

    async def log_in(self, account: Account, *, device: str | None = None) -> Account:
        """The same person on one more device, or again on that one."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": account.user_id},
            "password": account.password,
        } | ({"device_id": device} if device else {})
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/_matrix/client/v3/login", json=body) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
        return replace(account, access_token=answer["access_token"], device_id=answer["device_id"])

    def _spawn(self) -> None:
        assert self._process is None, "it runs already"
        environment = installed()
        (self.folder / "media").mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [environment / "bin" / "python", "-P", "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        self._deadline = time.monotonic() + START_LIMIT

    def _wait(self) -> None:
        while not self._answers():
            time.sleep(0.05)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            self._process = None
            raise RuntimeError(f"Synapse ended at its start: {self.log.read_text()[-2000:]}")
        if time.monotonic() > self._deadline:
            self.stop()
            raise RuntimeError(f"Synapse did not answer within {START_LIMIT:.0f} s: {self.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait()
        self._process = None


def installed() -> Path:
    """The virtual environment that has Synapse, made now if it is not there.

    Raises:
        SynapseMissing: it cannot be installed here.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    if given:
        return Path(given)
    cache = PROJECT / ".cache"
    environment = cache / "synapse-venv"
    stamp = environment / f"installed-{hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:16]}"
    if stamp.exists():
        return environment
    cache.mkdir(exist_ok=True)
    with (cache / "synapse-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(environment))
            pip = (str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
            _run(*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK_FILE))
            stamp.touch()
    return environment


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SynapseMissing(f"Synapse could not be installed: {result.stderr.strip()[-500:]}")


def _die_with_parent() -> None:
    # A pytest that is killed must not leave its server behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(folder: Path, port: int, secret: str, limits: Limits, sync_cache: bool) -> dict[str, object]:
    plenty = {"per_second": 10_000, "burst_count": 10_000}
    key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return {
        "server_name": SERVER_NAME,
        "listeners": [
            {
                "port": port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
        "media_store_path": str(folder / "media"),
        "signing_key": f"ed25519 a_test {key}",
        "macaroon_secret_key": secrets.token_hex(16),
        "registration_shared_secret": secret,
        "report_stats": False,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "presence": {"enabled": False},
        "bcrypt_rounds": 4,
        "filter_timeline_limit": 5000,
        "caches": {} if sync_cache else {"sync_response_cache_duration": "0s"},
        "rc_message": {"per_second": limits.messages_per_second, "burst_count": limits.messages_burst},
        "rc_registration": plenty,
        "rc_login": {"address": plenty, "account": plenty, "failed_attempts": plenty},
        "rc_joins": {"local": plenty, "remote": plenty},
        "rc_joins_per_room": plenty,
        "rc_invites": {"per_room": plenty, "per_user": plenty, "per_issuer": plenty},
        "rc_admin_redaction": plenty,
        "rc_room_creation": plenty,
        "rc_media_create": plenty,
    }
