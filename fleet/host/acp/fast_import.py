"""Import this before `acp`: its models are then made without the descriptions of their fields, and built at first use.

The library asks pydantic to cut the descriptions out of its source text, which costs each agent host and each built-in
agent 0.2 s of the 0.45 s that the import takes; nothing reads them. Should the library stop asking, this does nothing.
A session uses a few of the two hundred models, so building the others would take another 0.1 s. Looking for garbage
among models that stay would take a tenth of it.
"""

from __future__ import annotations

import gc
from typing import Any

import pydantic

_original: Any = pydantic.ConfigDict


def _lean(**settings: Any) -> Any:
    settings.pop("use_attribute_docstrings", None)
    return _original(**settings, defer_build=True)


_collects = gc.isenabled()
gc.disable()
try:
    pydantic.ConfigDict = _lean  # type: ignore[assignment, misc]
    import acp.schema as _models
finally:
    pydantic.ConfigDict = _original  # type: ignore[misc]
    if _collects:
        gc.enable()

#: Whether it had the wished effect.
LEAN = _models.ReadTextFileRequest.model_fields["path"].description is None
