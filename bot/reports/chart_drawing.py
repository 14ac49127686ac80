"""Draws a chart in a separate process: `python -P -m bot.reports.chart_drawing png|text <figure.json >picture`.

The drawing libraries are compiled and general purpose. So the process is limited in time and memory, and a fault in it
costs only the picture.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from typing import Final

from bot.figures.model import Figure

#: Limits of the process: bytes of address space, and seconds of processor time.
MEMORY: Final = 512 * 2**20
PROCESSOR_S: Final = 20
#: Maximum size of a figure in bytes.
LARGEST: Final = 2**20


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(5)
    figure = Figure.from_json(sys.stdin.buffer.read(LARGEST))
    # Libraries may print to standard output.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    out.write(_png(figure) if sys.argv[1:] == ["png"] else _text(figure).encode())
    out.flush()
    return 0


def _png(figure: Figure) -> bytes:
    from bot.figures.png import png
    from bot.figures.window_chart import window_chart

    return png(window_chart(figure))


def _text(figure: Figure) -> str:
    from bot.figures.letters import window_letters

    return window_letters(figure)


if __name__ == "__main__":
    sys.exit(main())
