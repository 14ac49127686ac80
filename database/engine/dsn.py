"""Where the register is: an SQLite file, or a database on a PostgreSQL server.

    sqlite:////var/lib/muster/register.db
    postgresql://muster@db.example.org/fleet
    postgresql://muster@db.example.org:5433/fleet?sslrootcert=/etc/ssl/ours.pem
    postgresql:///fleet?host=/run/postgresql

An address holds no password; that is referred to beside it. Over a network the server must prove who it is, unless the
address says ``sslmode=require`` (encrypted, to whoever answers) or ``sslmode=disable``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from core.errors import RegisterError

SslMode: TypeAlias = Literal["disable", "require", "verify-full"]
_SSL_MODES: tuple[SslMode, ...] = ("disable", "require", "verify-full")
_OPTIONS = ("host", "sslmode", "sslrootcert")
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")

HOW_TO_WRITE = (
    "Write sqlite:/// and the absolute path of a file, like sqlite:////var/lib/muster/register.db, or "
    "postgresql://USER@HOST/DATABASE."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAddress:
    """An SQLite file."""

    file: Path

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """A database on a PostgreSQL server. Safe to show and to log."""

    database: str
    #: A host's name or address, or the folder of the server's socket; None: this machine, by the driver's own search.
    host: str | None = None
    port: int = 5432
    #: None: as the driver has it, the user of this process.
    user: str | None = None
    sslmode: SslMode = "disable"
    #: A file with the authorities that may vouch for the server; None: those of this machine.
    sslrootcert: str | None = None

    @property
    def local(self) -> bool:
        """Whether it is reached by a socket, and not over TCP."""
        return self.host is None or self.host.startswith("/")

    def __str__(self) -> str:
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        host = self.host or ""
        name = "" if self.local else f"[{host}]" if ":" in host else host
        port = "" if self.port == 5432 else f":{self.port}"
        folder = f"?host={host}" if host and self.local else ""
        return f"postgresql://{user}{name}{port}/{quote(self.database, safe='')}{folder}"


Address: TypeAlias = FileAddress | ServerAddress


def parse(url: str) -> Address:
    """Read the address of a register.

    Raises:
        RegisterError: it is none, or it holds a password, which the message does not repeat.
    """
    if url.startswith("sqlite:"):
        if not re.fullmatch(r"sqlite:////[^?#\0]+", url):
            raise RegisterError(f"found {url[:80]!r}, which is no absolute path of a file. {HOW_TO_WRITE}")
        return FileAddress(file=Path(url.removeprefix("sqlite:///")))
    if url.startswith("postgresql://"):
        return _server(url)
    shown = repr(url[:80]) if "@" not in url else "an address of another kind"
    raise RegisterError(f"found {shown}, which is no address of a register. {HOW_TO_WRITE}")


def _server(url: str) -> ServerAddress:
    # Nothing of the address is repeated before it is known to hold no password.
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise RegisterError(f"this is no address of a PostgreSQL database. {HOW_TO_WRITE}") from None
    user = unquote(parts.username) if parts.username else None
    if parts.password is not None or "password" in options or (user is not None and ":" in user):
        raise RegisterError(
            "the address contains a password. This file must not contain secrets: take it out, and refer to it "
            "beside the address, like password: env:NAME."
        )
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise RegisterError(f"found the option {unknown[0][:40]!r}; allowed are {', '.join(_OPTIONS)}.")
    if not unquote(url).isprintable() or " " in url or parts.fragment:
        raise RegisterError(f"this address holds characters that none has. {HOW_TO_WRITE}")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise RegisterError(f"expected the name of the database after the host, and nothing after it. {HOW_TO_WRITE}")
    host, sslrootcert = parts.hostname or options.get("host"), options.get("sslrootcert")
    if parts.hostname and "host" in options:
        raise RegisterError("the host is given twice: once after // and once as an option. Leave one out.")
    local = host is None or host.startswith("/") or _LOOPBACK.fullmatch(host) is not None
    sslmode = options.get("sslmode", "disable" if local and sslrootcert is None else "verify-full")
    if sslmode not in _SSL_MODES:
        raise RegisterError(f"found sslmode={sslmode[:40]}; allowed are {', '.join(_SSL_MODES)}.")
    if sslrootcert is not None and (sslmode != "verify-full" or not sslrootcert.startswith("/")):
        raise RegisterError("sslrootcert is the absolute path of a file, and goes with sslmode=verify-full.")
    return ServerAddress(
        database=database,
        host=host,
        port=port or 5432,
        user=user,
        sslmode=sslmode,
        sslrootcert=sslrootcert,
    )
