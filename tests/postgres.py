"""A real PostgreSQL server for tests, in a temporary folder, on a unix socket and nowhere else.

    server = Postgres()
    server.start()
    name = await server.database()           # an empty one; `like="name"` copies another
    store = await Store.open(server.url(name))
    server.kill(); server.start()            # same folder, same data

Its programs are looked for in ``PATH`` and where Debian puts them. It does not run as root, so for root it is another
user's. What is written need not outlive the machine, so nothing waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from database.engine.postgres_connection import SCHEMA

START_LIMIT = 60.0
USER = "muster"
_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}


_EMPTY = f"""
    DO $$ DECLARE name text; BEGIN
        FOR name IN
            SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename <> 'alembic_version'
        LOOP
            EXECUTE format('DELETE FROM %I', name);
        END LOOP;
        FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = '{SCHEMA}' AND last_value IS NOT NULL LOOP
            EXECUTE format('ALTER SEQUENCE %I RESTART', name);
        END LOOP;
    END $$
"""


class PostgresMissing(Exception):
    """PostgreSQL is not installed here; the message says so. Tests skip with it."""


class Postgres:
    """One server with a folder of its own, which it keeps over restarts."""

    def __init__(self) -> None:
        self._programs = programs()
        # Not below pytest's folders: those are closed to other users, and too long for a socket's path.
        self.folder = Path(tempfile.mkdtemp(prefix="muster-pg-"))
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = ""
        options = ["--auth=trust", f"--username={USER}", "--encoding=UTF8", "--no-sync"]
        # An order of a language, as people's servers have it; and the errors in English.
        options += ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8", "--lc-messages=C"]
        subprocess.run(
            [self._programs / "initdb", f"--pgdata={self.folder / 'data'}", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_user(),
        )

    @property
    def pid(self) -> int | None:
        """The server's first process, while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / f".s.PGSQL.{self._port}"

    def start(self, **settings: str) -> None:
        """Start and wait until it answers. `settings` are the server's own, and go before those of these tests."""
        self._spawn(settings)
        self._wait()

    async def started(self, **settings: str) -> None:
        """Start without holding the event loop, and wait until it answers."""
        self._spawn(settings)  # not in another thread: it would die with that
        await asyncio.to_thread(self._wait)

    def _spawn(self, settings: dict[str, str]) -> None:
        options = [f"-c{name}={value}" for name, value in {**_SETTINGS, **settings}.items()]
        self._port = settings.get("port", "5432")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *options],
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                **self._as_user(),
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        where = ["-h", str(self.folder), "-p", self._port, "-U", USER, "-d", "postgres"]
        while subprocess.run([self._programs / "pg_isready", "-q", *where], check=False).returncode:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Die as a machine dies: all of its processes at once, and nothing is said to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End in order, at once; safe to call twice."""
        self._end(signal.SIGINT)

    def remove(self) -> None:
        """End, and leave nothing behind."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def freeze(self, *, thaw: bool = False) -> None:
        """Hang, or go on: connections stay open, nothing is answered."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if thaw else signal.SIGSTOP)

    def url(self, database: str, *, user: str = USER) -> str:
        """The address of a database as a register."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    async def database(self, *, like: str | None = None, options: str = "") -> str:
        """Make a database and give its name; with `like` as a copy of another, to which nobody may be connected."""
        name = f"t{secrets.token_hex(6)}"
        template = "" if like is None else f" TEMPLATE {like} STRATEGY file_copy"
        await self.execute("postgres", f"CREATE DATABASE {name}{template} {options}")
        return name

    async def drop(self, database: str) -> None:
        """Remove a database, whoever is connected."""
        await self.execute("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    async def empty(self, database: str) -> None:
        """Take every row of a register away, and let its numbers begin again."""
        await self.execute(database, _EMPTY)

    async def execute(self, database: str, *statements: str) -> None:
        """Run statements as the server's superuser."""
        connection = await self.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def connect(self, database: str) -> Any:
        """A connection of the server's superuser, in the register's schema."""
        settings = {"search_path": SCHEMA}
        return await asyncpg.connect(
            host=str(self.folder), port=int(self._port), user=USER, database=database, server_settings=settings
        )

    async def ask_for_password(self, role: str) -> None:
        """Let a role in only with its password from now on."""
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        await self.execute("postgres", "SELECT pg_reload_conf()")

    def certify(self) -> tuple[Path, Path]:
        """A certificate for the name localhost, which vouches for itself, and its key."""
        certificate, key = self.folder / "localhost.pem", self.folder / "localhost.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(
            [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, **self._as_user()
        )
        return certificate, key

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        if how is signal.SIGKILL:
            for pid in self._pids(process.pid):
                with contextlib.suppress(ProcessLookupError):  # one of them may just have ended
                    os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(how)
        process.wait()

    def _pids(self, first: int | None = None) -> list[int]:
        """The server's first process and what it started."""
        first = first or self.pid
        assert first is not None
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _as_user(self) -> dict[str, Any]:
        made: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}}
        if self._user is not None:
            made |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return made


def programs() -> Path:
    """The folder of the server's programs.

    Raises:
        PostgresMissing: there is none.
    """
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    for folder in sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name), reverse=True
    ):
        if (folder / "postgres").exists():
            return folder
    raise PostgresMissing("PostgreSQL is not installed here (apt-get install postgresql)")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
