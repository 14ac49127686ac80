"""Draw the pictures of the dashboard from a real run: ``python -m docs.web_picture``. It needs Chromium and tmux.

The demo runs in a tmux server of its own, where the browser is logged in as a person does it.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from docs.terminal_picture import COLUMNS, ROWS, say, screen, tmux, wait

PICTURES = Path(__file__).parent / "pictures"
#: Each page, with text that stands on it once it is there.
PAGES = {
    "fleet": ("/", "coder0"),
    "agent": ("/agents/coder0", "Allow once"),
    "approvals": ("/waiting", "Allow once"),
    "limits": ("/limits", "host"),
    "tasks": ("/tasks", "greet.sh"),
    "runs": ("/runs", "Say hello"),
    "audit": ("/audit", "web login"),
    "health": ("/health", "register"),
    "commands": ("/commands", "budget set"),
    "browsers": ("/sessions", "Log out"),
}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = {"wide": ViewportSize(width=1100, height=800), "phone": ViewportSize(width=360, height=640)}


def main() -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("There is no Chromium. Install it, such as by apt-get install chromium.")
    with tempfile.TemporaryDirectory(prefix="muster-", dir="/tmp") as folder, sync_playwright() as driver:
        server = Path(folder) / "tmux"
        tmux(server, "-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", "demo",
             f"env -u MUSTER_HOME XDG_STATE_HOME={folder} {sys.executable} -m bot up --demo --web")  # fmt: skip
        browser = driver.chromium.launch(executable_path=program)
        try:
            wait(server, r"The dashboard is at (\S+)\.")
            found = re.search(r"The dashboard is at (\S+)\. ", screen(server))
            assert found is not None
            draw(server, browser, found[1])
        finally:
            browser.close()
            say(server, "/quit")
            wait(server, r"^$")
            tmux(server, "kill-server")


def draw(server: Path, browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 1100, "height": 1040}, color_scheme="light")
    page = context.new_page()
    log_in(server, page, address)
    page.goto(f"{address}/agents/coder0")
    page.get_by_role("button", name="Allow once").wait_for()
    page.screenshot(path=PICTURES / "web.png")
    page.set_viewport_size({"width": 360, "height": 640})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/waiting")
    page.get_by_role("button", name="Allow once").wait_for()
    page.screenshot(path=PICTURES / "web-phone.png")
    say(server, "!run coder --prompt 'Say hello'", r"Run\s+\w+\s+is\s+done")
    draw_all(page, address, PICTURES / "web", PAGES | {"changes": (changes(server, page, address), "README.md")})


def changes(server: Path, page: Page, address: str) -> str:
    """Return the path of the page with the changes of an agent, whose commit is allowed first."""
    wait(server, r"1\s+commit\s+on\s+muster/coder1")
    page.set_viewport_size(SIZES["wide"])
    page.goto(f"{address}/agents/coder1")
    page.get_by_role("link", name="diff").click()
    page.get_by_role("button", name="diff").click()
    page.get_by_role("heading", name="Changes of coder1").wait_for()
    return page.url.removeprefix(address)


def draw_all(page: Page, address: str, folder: Path, pages: Mapping[str, tuple[str, str]] = PAGES) -> None:
    """Draw every page in both themes and sizes."""
    folder.mkdir(exist_ok=True)
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            for name, (path, there) in pages.items():
                page.goto(f"{address}{path}")
                page.get_by_text(there).first.wait_for()
                page.screenshot(path=folder / f"{name}-{size}-{theme}.png")


def log_in(server: Path, page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Show a code").click()
    line = page.locator(".code code").inner_text()
    say(server, f"{line} --control", r"shows\s+this\s+code")
    say(server, "!confirm", r"gives\s+commands\s+as\s+you")
    page.wait_for_url(f"{address}/")


if __name__ == "__main__":
    main()
