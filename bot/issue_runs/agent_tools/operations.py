"""The lines of a run's log for what agents write. Imported only where a forge is configured: it loads records."""

from __future__ import annotations

from typing import Final

from forge.provenance.operation_lines import operation_line
from forge.provenance.record import ForgeOperation, RecordedOperation

_KINDS: Final = {
    "post_comment": ForgeOperation.COMMENT,
    "update_description": ForgeOperation.DESCRIPTION,
    "request_review": ForgeOperation.REVIEW,
}


def line_of(tool: str, target: str, refusal: str | None) -> str:
    """Return the line of a write: what was done to the target, or why it was refused."""
    return operation_line(RecordedOperation(kind=_KINDS[tool], target=target, refusal=refusal))
