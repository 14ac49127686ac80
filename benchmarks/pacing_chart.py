"""Draw one week of one account under each law.

python -m benchmarks.pacing_chart > docs/pictures/pacing.svg
"""

from __future__ import annotations

import sys

from benchmarks.pacing import LAWS, SEED
from benchmarks.weeks import LOADS, Law, Week, play

#: Which load, and which of its weeks.
LOAD, WEEK = "bursts", 3
_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 72
_STYLE = """
  text { font: 14px sans-serif; fill: #333 } .grid { stroke: #ccc } .line { stroke: #777; stroke-dasharray: 5 4 }
  path { fill: none; stroke-width: 2.5 } .even { stroke: #0a7d33 } .greedy { stroke: #c4261d } .days { stroke: #b07300 }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .grid { stroke: #444 } .line { stroke: #999 }
    .even { stroke: #4cc974 } .greedy { stroke: #ff7b72 } .days { stroke: #e3b341 }
  }
"""


def chart(weeks: dict[Law, Week]) -> str:
    """SVG: how much of the window was used by when."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>A window of seven days, used at an even pace, greedily, and by whole days</title>",
        f"<style>{_STYLE}</style>",
    ]
    for percent in range(0, 101, 25):
        y = _y(percent / 100)
        parts.append(f'<path class="grid" style="stroke-width:1" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 5}" text-anchor="end">{percent} %</text>')
    for day in range(8):
        parts.append(f'<text x="{_x(day / 7)}" y="{_HEIGHT - _BOTTOM + 22}" text-anchor="middle">{day}</text>')
    parts.append(f'<path class="line" style="stroke-width:1.5" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    place = _LEFT
    for law in ("greedy", "days", "even"):
        points = [*weeks[law].curve[::4], weeks[law].curve[-1]]
        path = "L".join(f"{_x(part)} {_y(used)}" for part, used in points)
        parts.append(f'<path class="{law}" d="M{path}"/>')
    for law, name in LAWS.items():
        parts.append(f'<path class="{law}" d="M{place} {_HEIGHT - 18}h24"/>')
        parts.append(f'<text x="{place + 32}" y="{_HEIGHT - 13}">{name}</text>')
        place += 140
    parts.append(f'<path class="line" style="stroke-width:1.5" d="M{place} {_HEIGHT - 18}h24"/>')
    parts.append(f'<text x="{place + 32}" y="{_HEIGHT - 13}">straight line (days below)</text>')
    return "\n".join([*parts, "</svg>", ""])


def _x(part: float) -> float:
    return round(_LEFT + part * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(used: float) -> float:
    return round(_HEIGHT - _BOTTOM - used * (_HEIGHT - _TOP - _BOTTOM), 1)


if __name__ == "__main__":
    number, load = next((number, load) for number, load in enumerate(LOADS) if load.name == LOAD)
    sys.stdout.write(chart({law: play(load, law, WEEK + 1, SEED * 1000 + number)[WEEK] for law in LAWS}))
