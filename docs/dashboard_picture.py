"""Draw the picture of the dashboard from a real run: ``python -m docs.dashboard_picture``.

The demo runs in a tmux server of its own, and the dashboard over its gateway draws itself as SVG.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from bot.config.paths import Paths
from bot.interfaces.tui.start import made
from docs.terminal_picture import COLUMNS, ROWS, say, tmux, wait

PICTURE = Path(__file__).parent / "pictures" / "dashboard.svg"
SIZE = (106, 16)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="muster-", dir="/tmp") as folder:
        server = Path(folder) / "tmux"
        tmux(server, "-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", "demo",
             f"env -u MUSTER_HOME XDG_STATE_HOME={folder} {sys.executable} -m bot up --demo")  # fmt: skip
        try:
            wait(server, r"Task `?\w+`? is done\. The README says")
            home = f"{folder}/muster/demo"
            picture = asyncio.run(draw(Paths.of({"MUSTER_HOME": home, "HOME": folder})))
            PICTURE.write_text(picture.replace(folder, "~/.local/state"))
        finally:
            say(server, "/quit")
            wait(server, r"\A\s*\Z")
            tmux(server, "kill-server")


async def draw(paths: Paths) -> str:
    """Return the page of requests, where one waits."""
    app = made(paths)
    async with app.run_test(size=SIZE) as pilot:
        async with asyncio.timeout(60):
            while not (app.waiting_count and app.source_mode == "live"):
                await pilot.pause(0.1)
        await pilot.press("2")
        await pilot.pause(1.0)
        return app.export_screenshot(title="muster dashboard")


if __name__ == "__main__":
    main()
