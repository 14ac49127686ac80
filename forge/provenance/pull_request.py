"""Records of a whole pull request: its commits' notes, and the record that its description shows. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from forge.model.references import IssueReference
from forge.provenance.verification import CommitVerification, ProvenanceFault

_RUN: Final = re.compile(r"<tr><td>run</td><td><code>([^<]{1,1000})</code></td></tr>")
#: The round, at the end of a run's id.
_ROUND: Final = re.compile(r"[-/][0-9]+\Z")
_RECORD: Final = "<summary>Written by the agent "


def reference_of(text: str, base: str) -> IssueReference | None:
    """Return the pull request that a person named; None: the text is something else, such as a commit.

    Args:
        text: ``owner/repo#17``, or the address of its page.
        base: the address of the configured forge's start page; empty: there is none.

    Raises:
        ValueError: it is an address, but of no pull request of this forge.
    """
    if "://" not in text:
        try:
            return IssueReference.parse(text)
        except ValueError:
            return None
    found = IssueReference.of_page(text, base, ("pulls", "pull"))
    if found is not None:
        return found
    raise ValueError(f"{text[:200]!r} is no pull request of the configured forge. Write it as owner/repo#17.")


def described_run(body: str) -> str | None:
    """Return the run that the record in a description names; None: there is no record."""
    _, found, record = body.rpartition(_RECORD)
    run = _RUN.search(record) if found else None
    return html.unescape(run[1]) if run is not None else None


def description_fault(body: str, verified: Sequence[CommitVerification]) -> ProvenanceFault | None:
    """Compare the record that a description shows with those that match. They must be of one run, of any round."""
    shown = described_run(body)
    if shown is None:
        return ProvenanceFault(code="description_missing", detail="The description shows no record of Muster's.")
    noted = {_ROUND.sub("", signed.record.run) for each in verified for signed in each.records}
    if _ROUND.sub("", shown) in noted:
        return None
    said = f"the run {shown[:100]!a}, and no record of a commit that matches is of it."
    return ProvenanceFault(code="description_differs", detail=f"The description shows {said}")


def pushed_together(
    verified: Sequence[CommitVerification], before: Mapping[str, Collection[str]]
) -> tuple[CommitVerification, ...]:
    """Return the same, but without the fault that commits have no record if Muster pushed them with a later one.

    Muster signs the last commit of each push, and its hash covers all before it.

    Args:
        verified: the commits.
        before: of each commit whose record matches, the commits that it descends from.
    """
    covered = {old: newer for newer, olds in before.items() for old in olds}
    made = []
    for each in verified:
        newer = covered.get(each.commit)
        if newer is not None and [fault.code for fault in each.faults] == ["note_missing"]:
            notice = f"It was pushed together with {newer[:12]}, whose record matches."
            each = replace(each, faults=(), notices=(*each.notices, notice))
        made.append(each)
    return tuple(made)
