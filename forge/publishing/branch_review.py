"""Looking at a fetched branch: what is in it, and every reason not to push it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forge.publishing import checks, listing_reader, secret_scan
from forge.publishing.findings import FindingKind, PublishingFinding
from forge.publishing.incoming import IncomingBranch
from forge.publishing.listing import BranchListing
from forge.publishing.rules import PublishingRules
from forge.publishing.secret_scan import ScanSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchReview:
    """What is in a branch, and what is wrong with it."""

    listing: BranchListing
    findings: tuple[PublishingFinding, ...]

    @property
    def may_be_pushed(self) -> bool:
        return not self.findings


def review(branch: IncomingBranch, rules: PublishingRules, scan: ScanSettings) -> BranchReview:
    """Check a branch.

    Args:
        branch: it.
        rules: what is allowed in it. Its marks of secrets are added to those of `scan`.
        scan: how secrets are searched for. The baseline is taken from the base.

    Raises:
        PublishingError: the branch cannot be read, or the search for secrets is not installed.
        InvalidGate: ``.muster/merge.yaml`` of the base is not valid.
        FleetError: git took too long, or the sandbox is not there.
    """
    listing = listing_reader.read(branch, rules)
    found = checks.check(listing, rules)
    if any(finding.kind is FindingKind.SIZE and finding.path is None for finding in found):
        # Too much to be searched, and refused anyway.
        return BranchReview(listing=listing, findings=found)
    settings = replace(scan, baseline=listing.baseline, allowed_marks=scan.allowed_marks | rules.allowed_marks)
    contents = listing_reader.changed_contents(branch, listing, longest=rules.file_bytes)
    secrets = secret_scan.scan(contents, settings, given_up=branch.given_up)
    unread = _unread(listing, rules)
    return BranchReview(listing=listing, findings=(*found, *secrets, *unread))


def _unread(listing: BranchListing, rules: PublishingRules) -> tuple[PublishingFinding, ...]:
    """Return a finding for each file that the rules allow, but that is too long to be searched."""
    return tuple(
        PublishingFinding(
            kind=FindingKind.UNSCANNED,
            sentence=f"{checks.shown(change.path)} is too long to be searched for secrets. Remove it.",
            commit=commit.sha,
            path=change.path,
        )
        for commit in listing.commits
        for change in commit.changes
        if listing_reader.MOST_SEARCHED < change.size <= rules.file_bytes
    )
