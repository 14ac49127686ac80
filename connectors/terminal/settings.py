"""The block of a terminal connector in ``muster.yaml``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Attention: TypeAlias = Literal["off", "bell", "desktop"]


class TerminalSettings(BaseModel):
    """The prompt of `muster up` and `muster chat`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    attention: Attention = Field(
        default="bell",
        description="How the terminal tells you that a permission request or a question waits: by its bell, by its "
        "bell and a notification of the desktop (OSC 9 and OSC 777), or not at all.",
    )
