"""Draws a chart in a separate process: `python -P -m bot.reports.chart_drawing png|text <figure.json >picture`.

The drawing libraries are larger than the rest of Muster, and general purpose. So the process is limited in time and
memory, and a fault in it costs only the picture. Texts are drawn literally, never as formulas.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from typing import Any, Final

#: Limits of the process: bytes of address space, and seconds of processor time.
MEMORY: Final = 768 * 2**20
PROCESSOR_S: Final = 20
#: Maximum size of a figure in bytes.
LARGEST: Final = 2**20

#: The picture has a background of its own, so it looks the same in light and dark chat themes.
_GROUND, _INK, _FAINT = "#262b34", "#eceff4", "#7d8796"
_USED, _EVEN, _LIMIT = "#62b0ff", "#ffce6b", "#ff7676"
_INCHES, _DPI = 7.2, 100
#: Height in inches of one panel, and of the area below all panels.
_PANEL, _FOOT = 2.35, 0.55
_COLOURS = 64

_COLUMNS, _ROWS = 76, 13


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(5)
    figure = json.loads(sys.stdin.buffer.read(LARGEST))
    # Libraries may print to standard output.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    out.write(png(figure) if sys.argv[1:] == ["png"] else text(figure).encode())
    out.flush()
    return 0


def png(figure: dict[str, Any]) -> bytes:
    """Return a PNG of a `bot.reports.chart.Figure`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = figure["panels"]
    style: Any = {"text.parse_math": False, "text.usetex": False, "font.size": 13, "font.family": "DejaVu Sans"}
    with rc_context(style):
        size = _INCHES, _PANEL * len(panels) + _FOOT
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        sheet = Figure(figsize=size, dpi=_DPI, facecolor=_GROUND, layout=layout)
        FigureCanvasAgg(sheet)
        named: dict[str, Any] = {}
        for axes, panel in zip(sheet.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            _draw(axes, panel)
            handles, labels = axes.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        sheet.legend(
            list(named.values()),
            list(named),
            loc="outside lower center",
            ncols=len(named),
            frameon=False,
            labelcolor=_INK,
            fontsize=13,
            handlelength=1.6,
            columnspacing=1.2,
        )
        made = io.BytesIO()
        sheet.savefig(made, format="png")
    return _smaller(made)


def _smaller(picture: io.BytesIO) -> bytes:
    """Reduce the number of colors, which saves two thirds of the bytes."""
    from PIL import Image

    made = io.BytesIO()
    with Image.open(picture) as opened:
        opened.convert("RGB").quantize(_COLOURS).save(made, format="png", optimize=True)
    return made.getvalue()


def _draw(axes: Any, panel: dict[str, Any]) -> None:
    length, now = panel["length"], panel["now"]
    used = panel["used"]
    band = panel["band"]
    since = panel.get("since") or []
    at_now = (since or used)[-1][1]
    top = max(100.0, at_now, *(amount for _, amount in panel["even"]), *(band or ()))
    axes.set_facecolor(_GROUND)
    axes.axhline(100, color=_LIMIT, linewidth=1.6, label="limit")
    if panel["even"]:
        dashes = (0, (4, 3))
        axes.plot(*zip(*panel["even"], strict=True), color=_EVEN, linewidth=2, linestyle=dashes, label="line")
    axes.plot(*zip(*used, strict=True), color=_USED, linewidth=2.8, label="used", solid_capstyle="round")
    axes.fill_between(*zip(*used, strict=True), color=_USED, alpha=0.16, linewidth=0)
    if since:
        xs, ys = zip(*since, strict=True)
        axes.plot(xs, ys, color=_USED, linewidth=1.8, linestyle=(0, (1, 1)))
        above = [max(100.0, amount) for amount in ys]
        axes.fill_between(xs, ys, above, facecolor="none", edgecolor=_FAINT, hatch="//", linewidth=0, label="not known")
    if band is not None:
        low, expected, high = band
        axes.fill_between([now, length], [at_now, low], [at_now, high], color=_USED, alpha=0.30, linewidth=0)
        axes.plot([now, length], [at_now, expected], color=_USED, linewidth=1.8, linestyle=":", label="expected")
    axes.axvline(now, color=_FAINT, linewidth=1)
    axes.set_xlim(0, length)
    axes.set_ylim(0, top * 1.08)
    axes.set_yticks([0, 50, 100], ["0", "50", "100 %"])
    axes.set_xticks([at for at, _ in panel["ticks"]], [label for _, label in panel["ticks"]])
    axes.tick_params(colors=_INK, labelsize=13, length=3, color=_FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)
    axes.set_title(panel["title"], loc="left", color=_INK, fontsize=15, fontweight="bold")
    axes.set_title(panel["note"], loc="right", color=_INK, fontsize=13)


def text(figure: dict[str, Any]) -> str:
    """Return the chart as plain text without colors, for terminals."""
    import plotext

    # The text appears in another terminal, so the size of this one is irrelevant.
    plotext.terminal.limit(False, False)
    drawn = [_in_letters(plotext.figure, panel) for panel in figure["panels"]]
    unknown = "   ? at least so much" if any(panel.get("since") for panel in figure["panels"]) else ""
    return "\n\n".join([*drawn, f"⠒ used   · line   ░ expected{unknown}"])


def _in_letters(sheet: Any, panel: dict[str, Any]) -> str:
    since = panel.get("since") or []
    length, (now, at_now) = panel["length"], (since or panel["used"])[-1]
    sheet.clear()
    sheet.plot_size(_COLUMNS, _ROWS)
    if panel["band"] is not None:
        sheet.draw(sheet.signal(*_filled(now, at_now, length, panel["band"]), marker="░"))
    if panel["even"]:
        sheet.draw(sheet.signal(*zip(*panel["even"], strict=True), marker="·").lines())
    sheet.draw(sheet.signal(*zip(*panel["used"], strict=True), marker="braille").lines())
    if since:
        sheet.draw(sheet.signal(*zip(*since, strict=True), marker="?").lines())
    top = max(100.0, at_now, *(panel["band"] or ()))
    sheet.ruler("x").lim(0, length)
    sheet.ruler("x").ticks([at for at, _ in panel["ticks"]], [label for _, label in panel["ticks"]])
    sheet.ruler("y").lim(0, top)
    sheet.ruler("y").ticks([0, 50, 100], ["0", "50", "100 %"])
    title, note = panel["title"], panel["note"]
    gap = max(2, _COLUMNS - len(title) - len(note))
    rows = [row.rstrip() for row in sheet.build().string(colorless=True).rstrip("\n").split("\n")]
    return "\n".join([f"{title}{' ' * gap}{note}", *rows])


def _filled(now: float, at_now: float, length: float, band: tuple[float, float, float]) -> tuple[list[float], ...]:
    """Return points that are dense enough to fill every cell between the low and the high projection."""
    low, _, high = band
    across, up = _COLUMNS, 4 * _ROWS
    xs, ys = [], []
    for step in range(1, across + 1):
        part = step / across
        bottom, ceiling = at_now + (low - at_now) * part, at_now + (high - at_now) * part
        for height in range(up + 1):
            xs.append(now + (length - now) * part)
            ys.append(bottom + (ceiling - bottom) * height / up)
    return xs, ys


if __name__ == "__main__":
    sys.exit(main())
