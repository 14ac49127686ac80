"""Asking tmux for the pane without waiting for tmux: a process of its own does, with little in its environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Final

from connectors.tmux.pane_model import PanePlace, WantedPane
from core.errors import MusterError

#: Seconds that tmux may take.
PATIENCE: Final = 20.0

_KEPT: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMUX_TMPDIR", "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR", "NO_COLOR",
)  # fmt: skip


class TmuxUnanswered(MusterError):
    """tmux was asked in vain; the message says why and what to do."""


def surroundings() -> dict[str, str]:
    """Return what tmux, and what runs in the pane, may know of the environment that Muster was started in: no secrets.

    tmux prints other signs for what it has to print where the locale is not UTF-8, so that one is always said.
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    kept = {name: value for name, value in kept.items() if value.isprintable()}
    locale = kept.get("LC_ALL") or kept.get("LC_CTYPE") or kept.get("LANG") or ""
    if "UTF-8" not in locale.upper() and "UTF8" not in locale.upper():
        kept.pop("LC_ALL", None)
        kept["LC_CTYPE"] = "C.UTF-8"
    return kept


async def ask(wanted: WantedPane, *, make: bool, anew: bool = False, patience: float = PATIENCE) -> PanePlace | None:
    """Return where the pane is; None when there is none, which with `make` cannot be.

    Raises:
        TmuxUnanswered: tmux cannot be asked, or cannot do it.
    """
    words = json.dumps({"wanted": asdict(wanted), "make": make, "anew": anew})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "connectors.tmux.process",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=surroundings(), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            out, err = await process.communicate(words.encode())
    except TimeoutError:
        where = wanted.socket or "default"
        raise TmuxUnanswered(
            f"The tmux server {where} did not answer in {patience:g} s. See what it does, or end it."
        ) from None
    finally:
        if process.returncode is None:
            # With the tmux that it waits for; a server has a session of its own and stays.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        answer = json.loads(out)
        trouble, place = answer.get("trouble"), answer.get("place")
    except (ValueError, AttributeError):
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise TmuxUnanswered(f"What asks tmux failed: {last[0][:200] if last else process.returncode}") from None
    if trouble is not None:
        raise TmuxUnanswered(str(trouble))
    return None if place is None else PanePlace(**place)
