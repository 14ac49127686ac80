"""What can go wrong at a forge.

ForgeError                    the forge did not do what was asked
├── ForgeAway                 it does not respond, or cannot now
│   └── MembershipAway        it cannot say now whether somebody is a member
└── ForgeRefused              it responded with a status that says no
    ├── ForgeMissing          what was asked for does not exist
    └── MembershipUnknown     it did not say whether somebody is a member
"""

from __future__ import annotations

from core.errors import MusterError

#: More of a response than this is not shown.
MOST_BODY_CHARACTERS = 500


class ForgeError(MusterError):
    """The forge did not do what was asked."""

    code = "forge.failed"


class ForgeAway(ForgeError):
    """The forge does not respond, or says that it cannot now. The work continues when it is back.

    Attributes:
        retry_after: The seconds after which the forge wants to be asked again; None if it does not say.
    """

    code = "forge.away"

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MembershipAway(ForgeAway):
    """The forge cannot say now whether somebody is a member. It may answer what else it is asked."""


class ForgeRefused(ForgeError):
    """The forge responded with a status that says no.

    Attributes:
        status: The HTTP status.
        body: The first characters of what the forge said, without control characters; untrusted.
    """

    code = "forge.refused"

    def __init__(self, message: str, *, status: int, body: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.body = shown_body(body)


class ForgeMissing(ForgeRefused):
    """What was asked for does not exist, or our token may not see it."""

    code = "forge.missing"


class MembershipUnknown(ForgeRefused):
    """The forge did not say whether somebody is a member of the organization. Nobody is taken for a member then."""

    code = "forge.membership_unknown"


def shown_body(text: str) -> str:
    """Return the beginning of what a forge said in one line, as a terminal and a chat room can show it."""
    words = " ".join(text[: 4 * MOST_BODY_CHARACTERS].split())
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in words)
    return shown if len(shown) <= MOST_BODY_CHARACTERS else f"{shown[: MOST_BODY_CHARACTERS - 1]}…"
