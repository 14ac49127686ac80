"""Operations on the forge as lines of text, as the register keeps them: ``posted a comment on #17``."""

from __future__ import annotations

from typing import Final

from forge.provenance.record import ForgeOperation, RecordedOperation

#: What is said of each kind: when it was done, and after "refused".
WORDS: Final = {
    ForgeOperation.COMMENT: ("posted a comment on", "a comment on"),
    ForgeOperation.EDIT: ("changed a comment on", "a change of a comment on"),
    ForgeOperation.DESCRIPTION: ("changed the text of", "a change of the text of"),
    ForgeOperation.PULL_REQUEST: ("opened a pull request from", "a pull request from"),
    ForgeOperation.READY: ("marked as ready", "to mark as ready"),
    ForgeOperation.REVIEW: ("asked for a review of", "to ask for a review of"),
    ForgeOperation.PUSH: ("pushed to", "a push to"),
}
_REFUSED: Final = "refused "


def operation_line(operation: RecordedOperation) -> str:
    """Return the line of an operation."""
    did, refused = WORDS[operation.kind]
    if operation.refusal is None:
        return f"{did} {operation.target}"
    return f"{_REFUSED}{refused} {operation.target}: {operation.refusal}"


def read_line(line: str) -> RecordedOperation | None:
    """Return the operation of a line; None if the line says something else."""
    for kind, (did, refused) in WORDS.items():
        if line.startswith(f"{did} "):
            return RecordedOperation(kind=kind, target=line.removeprefix(f"{did} "))
        if line.startswith(f"{_REFUSED}{refused} "):
            target, colon, why = line.removeprefix(f"{_REFUSED}{refused} ").partition(": ")
            return RecordedOperation(kind=kind, target=target, refusal=why) if colon else None
    return None
