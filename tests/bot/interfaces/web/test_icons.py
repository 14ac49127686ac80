"""The icons of home screens come from one drawing."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from PIL import Image

from docs.web_icon import SIZE, drawn
from tests.bot.interfaces.web.browser import browser, dashboard


async def test_an_iphone_gets_a_picture_without_transparent_corners(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as home, browser(home) as it:
        found = re.search(r'rel="apple-touch-icon" href="([^"]+)"', (await it.get("/login")).text)
        assert found is not None
        async with it.client.get(f"{it.origin}{found[1]}") as answer:
            assert answer.headers["Content-Type"] == "image/png"
            served = await answer.read()
        icons = json.loads((await it.get("/manifest.webmanifest")).text)["icons"]
    picture = Image.open(io.BytesIO(served))
    assert picture.size == (SIZE, SIZE)
    assert picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    assert picture.tobytes() == Image.open(io.BytesIO(drawn())).tobytes(), "run `python -m docs.web_icon`"
    assert found[1] in {each["src"] for each in icons}
