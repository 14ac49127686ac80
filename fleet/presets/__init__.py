"""The presets: rosters to begin with, as data. Each is a roster by itself, and valid wherever it is written."""

from __future__ import annotations

from pathlib import Path

from fleet.roster.loader import HEADER
from fleet.roster.schema import Preset

_FOLDER = Path(__file__).parent


def text(preset: Preset, *, runtime: str | None = None, remark: str = "", sandbox: str | None = None) -> str:
    """Return a roster made from a preset, with its comments.

    Args:
        preset: which.
        runtime: what every agent runs on; None leaves that to muster.yaml.
        remark: what is to be said of the runtime, in a comment.
        sandbox: what holds every agent; None is the default.
    """
    defaults = [("runtime", runtime, remark), ("sandbox", sandbox, "")]
    lines = [f"  {key}: {value}{f'  # {remark}' if remark else ''}\n" for key, value, remark in defaults if value]
    block = f"\n# What holds for agents that do not say otherwise.\ndefaults:\n{''.join(lines)}" if lines else ""
    return f"{HEADER}{block}\n{(_FOLDER / f'{preset}.yaml').read_text(encoding='utf-8')}"
