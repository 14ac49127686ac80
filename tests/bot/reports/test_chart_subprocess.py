"""Pictures that several people ask for at once."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from bot.figures.model import Figure
from bot.reports.chart_subprocess import ChartSubprocess

#: Says whether another one was drawing when it began.
WATCHFUL = """
import os, sys, time
try:
    os.mkdir("busy")
except FileExistsError:
    sys.exit("another one is drawing")
sys.stdin.read()
time.sleep(0.3)
os.rmdir("busy")
print("drawn")
"""


async def test_nobody_waits_for_long_for_a_picture_of_somebody_else(tmp_path: Path) -> None:
    """Reports are posted meanwhile, without one."""
    hanging = "import time; time.sleep(600)"
    painter = ChartSubprocess(folder=tmp_path, environ=os.environ, program=(sys.executable, "-c", hanging), limit_s=0.5)
    async with asyncio.timeout(20):
        drawn = await asyncio.gather(*(painter.letters(Figure(panels=[])) for _ in range(50)))
    assert drawn == [None] * 50


async def test_they_are_drawn_one_after_the_other(tmp_path: Path) -> None:
    painter = ChartSubprocess(folder=tmp_path, environ=os.environ, program=(sys.executable, "-c", WATCHFUL))
    drawn = await asyncio.gather(*(painter.letters(Figure(panels=[])) for _ in range(4)))
    assert drawn == ["drawn\n"] * 4
