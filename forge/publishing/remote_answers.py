"""What git's words about a remote mean. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_UNAUTHORIZED: Final = re.compile(
    r"Authentication failed|returned error: 40[13]\b|HTTP 40[13]\b|could not read (?:Username|Password)|"
    r"HTTP Basic: Access denied",
)
_MISSING: Final = re.compile(r"repository '[^'\n]*' not found|returned error: 404\b|HTTP 404\b")
#: The forge took the request, and says no because of its size or because of a redirect.
_DECLINED: Final = re.compile(r"(?:returned error:|HTTP) (?:30\d|400|402|405|409|411|413|422|451|507)\b")
#: Curl's sentences, and statuses that say that the forge cannot now.
_AWAY: Final = re.compile(
    r"Could not resolve|Failed to connect|Couldn't connect|Connection refused|timed out|too slow|Empty reply|"
    r"Recv failure|Send failure|Connection reset|SSL|certificate|GnuTLS|gnutls|early EOF|unexpected disconnect|"
    r"hung up unexpectedly|transfer closed|(?:returned error:|HTTP) (?:408|429|5\d\d)\b|RPC failed",
)
_REMOTE: Final = re.compile(r"^remote: ?(.*)$", re.MULTILINE)
_LINE: Final = re.compile(r"^([ +*=!-])\t[^\t\n]*\t(.*)$", re.MULTILINE)


class PushOutcome(StrEnum):
    """How a push ended."""

    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    """The branch is at this commit already."""
    MOVED = "moved"
    """The branch is not where Muster left it: somebody else pushed or deleted it. Nothing changed."""
    DECLINED = "declined"
    """The forge says no: a hook, a protected branch, a quota."""
    UNAUTHORIZED = "unauthorized"
    """The token is wrong, or may not push there, or there is no such repository."""
    AWAY = "away"
    """The forge does not respond, or cannot now. Whether it took the commits is unknown; a repetition shows it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PushResult:
    """What was pushed where, and how that ended."""

    outcome: PushOutcome
    branch: str
    sha: str
    """The commit that was pushed, or was to be."""
    words: str = ""
    """What the forge or git said; untrusted, without control characters and tokens."""


def of_push(status: int, answer: str, complaint: str) -> tuple[PushOutcome, str]:
    """Return what a push with ``--porcelain`` came to, and the words that tell why."""
    words = "\n".join(_REMOTE.findall(complaint))
    if (line := _LINE.search(answer)) is not None:
        flag, summary = line.groups()
        if flag == "=":
            return PushOutcome.UNCHANGED, ""
        if flag != "!":
            return (PushOutcome.PUSHED, words) if status == 0 else (PushOutcome.AWAY, words or complaint)
        # The remote compares again when it moves the branch (git-receive-pack(1)), and says so in other words.
        moved = ("stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "lock")
        if any(sign in summary for sign in moved):
            return PushOutcome.MOVED, words or summary
        if "remote failed to report status" in summary:
            return PushOutcome.AWAY, words or summary
        return PushOutcome.DECLINED, f"{words}\n{summary}"
    return of_failure(complaint), words or _reason(complaint)


def of_failure(complaint: str) -> PushOutcome:
    """Return what a failed connection means."""
    if _UNAUTHORIZED.search(complaint) or _MISSING.search(complaint):
        return PushOutcome.UNAUTHORIZED
    if _DECLINED.search(complaint):
        return PushOutcome.DECLINED
    return PushOutcome.AWAY if _AWAY.search(complaint) else PushOutcome.DECLINED


def _reason(complaint: str) -> str:
    lines = [line for line in complaint.splitlines() if line.startswith(("fatal:", "error:"))]
    return "\n".join(lines or complaint.splitlines()[-3:])
