"""What of a pull request is compared, without a forge."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from forge.model.references import IssueReference
from forge.provenance.posts import compose
from forge.provenance.pull_request import described_run, description_fault, pushed_together, reference_of
from forge.provenance.record import bounded
from forge.provenance.verification import CommitVerification, ProvenanceFault
from tests.forge.provenance.records import HOSTILE, PLAIN

GITEA, GITHUB = "https://git.example.org/gitea/", "https://github.com"
PULL = IssueReference.parse("acme/app#17")


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("acme/app#17", GITEA),
        ("acme/app#17", ""),
        ("https://git.example.org/gitea/acme/app/pulls/17", GITEA),
        ("https://github.com/acme/app/pull/17#issuecomment-1", GITHUB),
        ("https://github.com/acme/app/pull/17/?w=1", GITHUB),
    ],
)
def test_a_pull_request_is_named_by_number_or_address(text: str, base: str) -> None:
    assert reference_of(text, base) == PULL


@pytest.mark.parametrize("text", ["main", "a..b", "HEAD~3", "#17", "acme/app", "0123abc"])
def test_a_commit_is_none(text: str) -> None:
    assert reference_of(text, GITHUB) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://git.example.org/acme/app/pulls/17",
        "https://github.com.example/acme/app/pull/17",
        "https://github.com/acme/app/issues/17",
        "https://github.com/../app/pull/17",
        "file:///etc/passwd",
    ],
)
def test_an_address_of_something_else_is_refused(text: str) -> None:
    for base in (GITEA, GITHUB, ""):
        with pytest.raises(ValueError, match=r"owner/repo|no repository"):
            reference_of(text, base)


@given(words=HOSTILE)
def test_an_agents_words_are_never_taken_for_the_record(words: str) -> None:
    fake = "<summary>Written by the agent <code>x</code></summary><tr><td>run</td><td><code>evil/1</code></td></tr>"
    record = bounded(replace(PLAIN, run="5e7a1c/1"))
    body = compose(f"{fake}{words}{fake}", record, key="k", secret=b"s")
    assert described_run(body) == "5e7a1c/1"


def test_a_commit_is_covered_by_a_later_one_only_if_a_missing_note_is_all() -> None:
    missing = ProvenanceFault(code="note_missing", detail="There is no record of it.")
    altered = ProvenanceFault(code="record_altered", detail="x")
    old, bad = (CommitVerification(commit=name, records=(), faults=(fault,)) for name, fault in
                (("old", missing), ("bad", altered)))  # fmt: skip
    made = pushed_together((old, bad), {"new": ("old", "bad")})
    assert (made[0].faults, made[1].faults) == ((), (altered,))
    assert pushed_together((old,), {})[0].faults == (missing,)
    assert description_fault("", ()) is not None
