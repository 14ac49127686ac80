"""What a project asks of every merge: its tests, and the paths that no agent's merge may change. Pure.

It is written in ``.muster/merge.yaml`` of the branch that gets the commits. Only that branch's own file is read, so an
agent cannot change what its merge is judged by.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from core import durations, yaml_loader
from core.validation_errors import FileProblems
from fleet.errors import FleetError

#: Where the file is in a repository, and how long it may be in bytes.
PATH: Final = ".muster/merge.yaml"
LONGEST: Final = 64 * 1024
#: Seconds that the tests may take, if the file does not say, and at most.
TEST_S: Final = 600.0
LONGEST_TEST_S: Final = 3600.0
#: An agent that could change the file would choose what its next merge is judged by.
_ALWAYS: Final = (PATH.partition("/")[0],)
_ANYWHERE: Final = "**"
_MOST_PATHS: Final = 200


class InvalidGate(FleetError):
    """The file that says what is asked of a merge is not valid."""

    code = "merge.invalid_gate"


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeGate:
    """What is asked of a merge."""

    test: str | None = None
    """The command line that has to succeed in the merged files; None: nothing is tested."""
    timeout_s: float = TEST_S
    protected: tuple[str, ...] = _ALWAYS
    """Patterns of paths that a merge may not change, and all below them."""


def _seconds(value: object) -> float:
    seconds = durations.of_setting(value)
    if not 1 <= seconds <= LONGEST_TEST_S:
        raise ValueError("expected a time from 1s to 1h")
    return seconds


def _line(text: str) -> str:
    if not text.strip() or any(unicodedata.category(each) == "Cc" for each in text):
        raise ValueError("expected one command line, such as make test")
    return text.strip()


def _pattern(text: str) -> str:
    parts = [part for part in text.split("/") if part]
    wrong = not parts or any(part in (".", "..") for part in parts) or _ANYWHERE in parts[1:] or parts == [_ANYWHERE]
    if wrong or "\0" in text or "\\" in text:
        raise ValueError(
            "expected a path from the root of the repository, such as ci, ci/*.yml or **/Makefile, without . and .."
        )
    return "/".join(parts)


class _GateFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    test: Annotated[str, Field(max_length=2000), AfterValidator(_line)] | None = Field(
        default=None, description="The command that must succeed in the merged files, such as make test."
    )
    timeout: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=TEST_S, description="How long it may take, at most 1h. Default: 10m."
    )
    protected: Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], Field(max_length=_MOST_PATHS)] = Field(
        default=(), description="Paths that a merge may not change, and all below them."
    )


def read(content: bytes) -> MergeGate:
    """Return what the file says.

    Raises:
        InvalidGate: it is not valid; the message names line and key.
    """
    try:
        document = yaml_loader.parse(Path(PATH), content.decode("utf-8"))
        if document.value is None:
            return MergeGate()
        written = document.validate(_GateFile)
        document.check()
    except UnicodeDecodeError:
        raise InvalidGate(f"{PATH} is not UTF-8 text. Save it as UTF-8, and commit it.") from None
    except FileProblems as problems:
        raise InvalidGate(f"{PATH} is not valid: {problems} Correct it, and commit it.") from None
    assert written is not None
    return MergeGate(test=written.test, timeout_s=written.timeout, protected=(*_ALWAYS, *written.protected))


def touched(gate: MergeGate, paths: Iterable[str]) -> list[str]:
    """Return which of these changed paths are protected.

    A path is compared as the most forgiving file system would: without case, in one Unicode form, without characters
    that are not seen. A file in the place of a folder that has something protected is a change of it, too.
    """
    patterns = [_folded(pattern) for pattern in gate.protected]
    return [path for path in paths if any(_matches(pattern, _folded(path)) for pattern in patterns)]


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    if pattern[0] == _ANYWHERE:
        rest = pattern[1:]
        return any(_begins(rest, path[at:]) for at in range(len(path) - len(rest) + 1))
    # Shorter than the pattern: no folder, since only files are listed, but where one is or would be.
    return _begins(pattern[: len(path)], path)


def _begins(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return all(fnmatchcase(part, wanted) for wanted, part in zip(pattern, path, strict=False))


def _folded(path: str) -> list[str]:
    return [_folded_name(part) for part in path.split("/") if part]


def _folded_name(name: str) -> str:
    """Return a name as file systems compare it: HFS+ ignores what is not seen, NTFS dots and blanks at the end."""
    seen = "".join(each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) != "Cf")
    return unicodedata.normalize("NFKC", seen.casefold()).rstrip(". ")
