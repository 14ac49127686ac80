"""Draw the picture of the README from a real run: ``python -m docs.terminal_picture``.

The demo runs in a tmux server of its own, and Rich draws the screen as SVG.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent / "pictures" / "terminal-room.svg"
COLUMNS, ROWS = 100, 34


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="muster-", dir="/tmp") as folder:
        server = Path(folder) / "tmux"
        tmux(server, "-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", "demo",
             f"env -u MUSTER_HOME XDG_STATE_HOME={folder} {sys.executable} -m bot up --demo")  # fmt: skip
        try:
            wait(server, r"(?s)lead\] ▶ Ready.*polisher\] ▶ Ready|polisher\] ▶ Ready.*lead\] ▶ Ready")
            wait(server, r"Task `?\w+`? is done\. The README says")
            tmux(server, "send-keys", "-t", "demo", "C-l")
            say(server, "!ps", r"polisher +🟢")
            say(server, "Who is there? [[say: I am lead. I plan the work.]]", r"(?s)work\.\]\] .*✅.*│ I am lead\.")
            say(server, "!send polisher What day is it? [[run: date -u +%A]]", r"!approve \w+")
            request = re.search(r"!approve (\w+)", screen(server))
            assert request is not None
            say(server, f"!approve {request[1]}", r"Bash returned")
            console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
            console.print(Text.from_ansi(screen(server, "-e").replace(folder, "~/.local/state")), end="")
            PICTURE.write_text(console.export_svg(title="muster up --demo"))
        finally:
            say(server, "/quit")
            time.sleep(3)
            tmux(server, "kill-server")


def tmux(server: Path, *words: str) -> str:
    done = subprocess.run(["tmux", "-S", str(server), *words], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout


def screen(server: Path, *options: str) -> str:
    return tmux(server, "capture-pane", "-p", *options, "-t", "demo")


def say(server: Path, words: str, until: str = "") -> None:
    tmux(server, "send-keys", "-t", "demo", "-l", words)
    tmux(server, "send-keys", "-t", "demo", "Enter")
    wait(server, until)


def wait(server: Path, pattern: str) -> None:
    for _ in range(300):
        if re.search(pattern, screen(server)):
            return
        time.sleep(0.1)
    raise SystemExit(f"{pattern!r} never came:\n{screen(server)}")


if __name__ == "__main__":
    main()
