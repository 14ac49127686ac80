"""Records for tests: a plain one, and any."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from forge.provenance.record import (
    ForgeOperation,
    ProvenanceRecord,
    RecordedApproval,
    RecordedConfiguration,
    RecordedOperation,
    RecordedRoute,
    RunEnding,
    SecretScan,
)

PLAIN = ProvenanceRecord(
    agent="coder0",
    role="coder",
    runtime="claude",
    runtime_version="2.1.0",
    models=("opus-5",),
    sandboxes=("bubblewrap",),
    run="run-1",
    session="s-1",
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    duration_s=252,
    exit="0",
    turns=7,
    tokens_projected=40_000,
    tokens_actual=31_250,
    cost_projected=Decimal("1.20"),
    cost_actual=Decimal("0.873"),
    secret_scan=SecretScan.CLEAN,
    ending=RunEnding.SIGNALLED,
    routes=(RecordedRoute(host="api.anthropic.com", authentication="api key"), RecordedRoute(host="internal")),
    operations=(
        RecordedOperation(kind=ForgeOperation.COMMENT, target="#17"),
        RecordedOperation(kind=ForgeOperation.COMMENT, target="#500", refusal="out of scope"),
    ),
    approvals=(RecordedApproval(request="git push", by="Ana"),),
    configuration=RecordedConfiguration(
        digest="sha256:ab12", version="v3", url="https://git.example.org/o/r/src/commit/abc/muster.yaml"
    ),
    audit="ab" * 32,
)

#: What breaks Markdown or HTML, or makes a forge act.
HOSTILE = st.one_of(
    st.sampled_from(
        [
            "</details>", "</code></td></table></details>\n\n@org", "@org",
            "fixes #17", "`", "```\n", "|", "\n\n",
            "<!-- muster:a:b -->", "-->", "<script>alert(1)</script>", "<img src=https://spy.example/x>", "\u202e",
            "&#64;org",             "x" * 10_000, "<" * 10_000, '"' * 10_000, "@org " * 2_000, "closes owner/repo#3", "![x](https://spy.example/x)",
            "\r\n\r\n", "\x00", "\ud800", "https://git.example.org/o/r/issues/3", "</summary>",
            "[x]: https://e.example", "",
        ]
    ),
    st.text(max_size=60),
)  # fmt: skip
_OPTIONAL = st.none() | HOSTILE
_COUNT = st.none() | st.integers(0, 2**53)
_COST = st.none() | st.decimals(0, 10**6, places=4, allow_nan=False)

RECORDS = st.builds(
    ProvenanceRecord,
    agent=HOSTILE,
    role=HOSTILE,
    runtime=HOSTILE,
    runtime_version=_OPTIONAL,
    models=st.lists(HOSTILE, max_size=60).map(tuple),
    sandboxes=st.lists(HOSTILE, max_size=3).map(tuple),
    run=HOSTILE,
    session=_OPTIONAL,
    started=st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    duration_s=_COUNT,
    exit=_OPTIONAL,
    turns=_COUNT,
    tokens_projected=_COUNT,
    tokens_actual=_COUNT,
    cost_projected=_COST,
    cost_actual=_COST,
    secret_scan=st.sampled_from(SecretScan),
    ending=st.sampled_from(RunEnding),
    routes=st.none()
    | st.lists(st.builds(RecordedRoute, host=HOSTILE, authentication=_OPTIONAL), max_size=3).map(tuple),
    operations=st.lists(
        st.builds(RecordedOperation, kind=st.sampled_from(ForgeOperation), target=HOSTILE, refusal=_OPTIONAL),
        max_size=60,
    ).map(tuple),
    approvals=st.lists(st.builds(RecordedApproval, request=HOSTILE, by=HOSTILE), max_size=3).map(tuple),
    configuration=st.none() | st.builds(RecordedConfiguration, digest=HOSTILE, version=_OPTIONAL, url=_OPTIONAL),
    audit=_OPTIONAL,
)

LARGEST = replace(
    PLAIN,
    models=("'" * 10_000,) * 500,
    sandboxes=('"' * 10_000,) * 500,
    operations=(RecordedOperation(kind=ForgeOperation.REVIEW, target="<" * 10_000, refusal="&" * 10_000),) * 500,
    routes=(RecordedRoute(host="@" * 10_000, authentication=">" * 10_000),) * 500,
    approvals=(RecordedApproval(request="'" * 10_000, by='"' * 10_000),) * 500,
)
