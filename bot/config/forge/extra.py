"""The extra `forge`: what only issues of a forge need."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

#: The modules that it brings.
MODULES: Final = ("detect_secrets",)
INSTALL: Final = (
    "Run `pip install 'muster-fleet[forge]'` with the pip of Muster's own environment; docs/how-to/forge.md has the "
    "command for uv, pipx and a checkout"
)


def lacking(modules: Sequence[str] = MODULES) -> list[str]:
    """Return those that are not installed."""
    return [each for each in modules if find_spec(each) is None]
