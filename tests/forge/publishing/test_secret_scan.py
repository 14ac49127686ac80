"""The search for secrets, where a file is made to stop it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge.publishing import secret_scan
from forge.publishing.findings import FindingKind
from forge.publishing.listing_reader import ChangedContent
from forge.publishing.secret_scan import ScanSettings, added_lines
from tests.forge.publishing.stage import SCAN, SECRET


def changed(new: bytes, path: str = "a.py", old: bytes = b"") -> ChangedContent:
    return ChangedContent(commit="c" * 40, path=path, old=old, new=new)


def kinds(content: ChangedContent, settings: ScanSettings = SCAN) -> list[FindingKind]:
    return [finding.kind for finding in secret_scan.scan([content], settings)]


@pytest.mark.parametrize("line", [b"a" * 100_000, b"password='" * 10_000, b"AKIA" * 20_000, b"eyJ.eyJ." * 10_000])
def test_one_endless_line_does_not_hide_what_follows(line: bytes) -> None:
    assert FindingKind.SECRET in kinds(changed(line + b"\n" + SECRET.encode()))


def test_a_search_that_takes_too_long_or_needs_too_much_is_a_finding() -> None:
    content = changed(b"password='" * 800_000)
    assert FindingKind.UNSCANNED in kinds(content, replace(SCAN, seconds=1))
    assert FindingKind.UNSCANNED in kinds(content, replace(SCAN, memory_bytes=40_000_000))


def test_more_text_than_is_searched_is_a_finding() -> None:
    contents = (changed(b"%d\n" % number + b"x" * 8000) for number in range(9))
    found = secret_scan.scan(contents, replace(SCAN, most_characters=64_000))
    assert {finding.kind for finding in found} == {FindingKind.UNSCANNED}


def test_added_lines_are_those_that_were_not_there() -> None:
    assert added_lines(b"one\ntwo\n", b"two\n\nthree\r\none\nfour") == [(3, "three"), (6, "four")]
    assert added_lines(b"", "ä\n".encode("utf-16-le")) != []


@pytest.mark.parametrize(
    "baseline", [b"", b"[]", b"{", b'{"results": 1}', b'{"results": {"a.py": [{}]}}', b"\xff", b"[" * 100_000]
)
def test_a_baseline_that_is_not_valid_allows_nothing(baseline: bytes) -> None:
    assert kinds(changed(SECRET.encode()), replace(SCAN, baseline=baseline)) == [FindingKind.SECRET]


def test_names_that_are_no_text_do_not_stop_it() -> None:
    found = secret_scan.scan([changed(SECRET.encode(), path="\udcff\n{")], SCAN)
    assert [finding.kind for finding in found] == [FindingKind.SECRET]
    assert found[0].sentence.isprintable()
