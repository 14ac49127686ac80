"""What can go wrong at a forge."""

from __future__ import annotations

from core.errors import MusterError

#: More of a response than this is not shown.
MOST_BODY_CHARACTERS = 500


class ForgeError(MusterError):
    """The forge did not do what was asked."""

    code = "forge.failed"


class ForgeAway(ForgeError):
    """The forge does not respond, or says that it cannot now. The work continues when it is back."""

    code = "forge.away"


class ForgeRefused(ForgeError):
    """The forge responded with a status that says no.

    Attributes:
        status: The HTTP status.
        body: The first characters of what the forge said; untrusted.
    """

    code = "forge.refused"

    def __init__(self, message: str, *, status: int, body: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.body = body[:MOST_BODY_CHARACTERS]


class ForgeMissing(ForgeRefused):
    """What was asked for does not exist, or our token may not see it."""

    code = "forge.missing"


class MembershipUnknown(ForgeRefused):
    """The forge did not say whether somebody is a member of the organization. Nobody is taken for a member then."""

    code = "forge.membership_unknown"
