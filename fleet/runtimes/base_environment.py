"""The environment that every runtime gets, whatever it is."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Of Muster's own environment a runtime sees these, and no other.
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


def base(home: Path, environ: Mapping[str, str], folders: Sequence[Path]) -> dict[str, str]:
    """Return the whole of it.

    Args:
        environ: where language, time zone and certificates are taken from.
        folders: come first on the PATH.
    """
    try:
        person = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        person = str(os.getuid())
    path = dict.fromkeys([*map(str, folders), *_PATH])
    return {
        "LANG": "C.UTF-8",
        **{name: environ[name] for name in _INHERITED if environ.get(name)},
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "USER": person,
        "LOGNAME": person,
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
        "TERM": "dumb",
        "TMPDIR": str(home / "tmp"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        # An agent cannot answer a question for a password; it must fail instead of hanging.
        "GIT_TERMINAL_PROMPT": "0",
        # Runtimes call git by themselves, and a repository can name a program here that git then runs.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": "false",
    }
