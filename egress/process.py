"""The egress as a separate process: ``python -P -m egress.process --state DIR --sockets DIR``.

It is ready when its control socket answers. It outlives the orchestrator. SIGTERM shuts it down in order; SIGKILL at
any moment loses no completed request.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import structlog
import uvloop

from budget.costs import token_prices
from core import logs
from core.errors import MusterError
from core.redaction import SecretMasker
from egress.daemon.startup import running
from egress.paths import EgressPaths
from egress.upstream.credentials import Credentials

_LOG_BYTES: Final = 4 * 2**20
_LOG_FILES: Final = 3
#: Raises the collector's threshold: a request creates some hundred objects, and reference counting frees nearly all.
_GARBAGE: Final = 20_000
#: The longest time the event loop waits for the GIL while another thread computes (a ledger page, a long body). With a
#: shorter interval, the ledger's thread wakes up again and again only to find the loop still running.
_SWITCH_S: Final = 0.0005
_log = structlog.get_logger("egress.process")


class EgressAlreadyRunning(MusterError):
    """Another egress is already running here."""


def main(arguments: list[str] | None = None) -> int:
    """Run until stopped. Return 0 after an orderly shutdown, or 1 if the egress cannot run; standard error says why."""
    parser = argparse.ArgumentParser(prog="python -P -m egress.process", description="The egress of this host.")
    parser.add_argument("--state", type=Path, required=True, help="Muster's state folder (absolute)")
    parser.add_argument("--sockets", type=Path, required=True, help="the folder for sockets (absolute)")
    chosen = parser.parse_args(arguments)
    if not chosen.state.is_absolute() or not chosen.sockets.is_absolute():
        parser.error("both folders must be absolute")
    os.umask(0o077)
    allow_files()
    paths = EgressPaths(state=chosen.state, sockets=chosen.sockets)
    try:
        paths.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = hold(paths.lock)
    except (MusterError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        credentials = Credentials()
        configure_log(paths.log, SecretMasker(values=credentials.secrets))
        token_prices.load()
        # Objects created so far live as long as the process; the collector need not scan them.
        gc.freeze()
        gc.set_threshold(_GARBAGE, 20, 20)
        sys.setswitchinterval(_SWITCH_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(paths, credentials))
    except (MusterError, OSError) as error:
        _log.error("egress failed", error=str(error))
        print(error, file=sys.stderr)
        return 1
    finally:
        os.close(lock)
    return 0


def allow_files() -> None:
    """Raise the limit of open files to the maximum: a request takes two, and the usual limit is 1,024."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def hold(path: Path) -> int:
    """Take the lock that limits a host to one egress, and return its descriptor.

    The kernel frees the lock when the process ends.

    Raises:
        EgressAlreadyRunning: another process holds it.
        OSError: the lock file cannot be opened or locked.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(number, 300, 0).decode("utf-8", "replace").strip()
        os.close(number)
        raise EgressAlreadyRunning(
            f"An egress runs here already ({who or 'it has not said who it is'}). `muster egress status` shows it, "
            "or stop it with `muster egress stop`."
        ) from None
    os.ftruncate(number, 0)
    os.pwrite(number, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    return number


def configure_log(path: Path, redact: Callable[[str], str]) -> None:
    """Send the log to a bounded number of bounded files that only this user can read."""
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8")
    logs.configure(handler, redact, quiet=dict.fromkeys(("aiohttp.server", "aiohttp.client", "asyncio"), logging.ERROR))


async def _run(paths: EgressPaths, credentials: Credentials) -> None:
    loop = asyncio.get_running_loop()
    async with running(paths, credentials=credentials) as egress:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, egress.stop)
        await egress.stopped.wait()
        _log.info("egress stopping", streams=egress.proxy.streams)


if __name__ == "__main__":
    sys.exit(main())
