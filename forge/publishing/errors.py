"""What keeps an agent's branch from being looked at or pushed at all."""

from __future__ import annotations

from forge.model.errors import ForgeError


class PublishingError(ForgeError):
    """An agent's branch cannot be published as things are."""

    code = "publishing.failed"


class BranchTooLarge(PublishingError):
    """What an agent committed is more than is taken over. Nothing was pushed."""

    code = "publishing.too_large"


class ScannerMissing(PublishingError):
    """The search for secrets is not installed, so nothing is pushed. Run
    `pip install 'muster-fleet[forge]'` with the pip of Muster's own environment."""

    code = "publishing.no_scanner"
