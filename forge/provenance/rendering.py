"""A record as the folded end of a comment or pull request.

It is one block of HTML, in which a forge reads no Markdown, and every name stands in ``<code>``, in which it links and
mentions nobody. Names are disarmed besides, because a forge may search the text without regard to markup.
"""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Final

from forge.cleaning import disarming
from forge.provenance.operation_lines import WORDS
from forge.provenance.record import (
    ProvenanceRecord,
    RecordedOperation,
    RunEnding,
    bounded,
    first_entries,
    utc,
)

#: The most characters of a rendered record.
LONGEST_RECORD: Final = 16_000
#: How many entries of each list are tried until the record is short enough.
_FEWER: Final = (20, 10, 5, 2)
_LONGEST_VALUE: Final = 200

FOOTER: Final = (
    "Traffic to the forge is no route of the agent: it has no credential of the forge, and Muster did what is listed "
    "here in its place."
)
_ENDINGS: Final = {
    RunEnding.SIGNALLED: "signal_done",
    RunEnding.BLOCKED: "signal_done: blocked, the agent needs an answer, may be incomplete",
    RunEnding.FAILED: "signal_done: failed, the agent could not do it, may be incomplete",
    RunEnding.WATCHDOG: "watchdog: the agent did not signal, may be incomplete",
    RunEnding.WORKING: "nobody yet: the agent still works",
}

_AT: Final = re.compile(f"@(?!{disarming.GAP})")
_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(?::\d+)?/[A-Za-z0-9._~/%-]*")


def render(record: ProvenanceRecord) -> str:
    """Return the record as HTML within Markdown, without a blank line; at most `LONGEST_RECORD` characters."""
    record = bounded(record)
    text = _rendered(record)
    for count in _FEWER:
        if len(text) <= LONGEST_RECORD:
            break
        text = _rendered(first_entries(record, count))
    return text


def duration(seconds: int | None) -> str:
    """Return a duration such as ``4m 12s`` or ``30s``; ``unknown`` for None."""
    if seconds is None:
        return "unknown"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] * (hours > 0) + [f"{minutes}m"] * (hours > 0 or minutes > 0) + [f"{seconds}s"]
    return " ".join(parts)


def operation(done: RecordedOperation) -> str:
    """Return what was done or refused, as HTML: ``posted a comment on #17``."""
    did, refused = WORDS[done.kind]
    if done.refusal is None:
        return f"{did} {_code(done.target)}"
    return f"refused {refused} {_code(done.target)}: {_code(done.refusal)}"


def _rendered(record: ProvenanceRecord) -> str:
    rows: list[tuple[str, str]] = [
        ("agent", _code(record.agent)),
        ("role", _code(record.role)),
        ("runtime", f"{_code(record.runtime)} {_code(record.runtime_version)}"),
        ("models that answered", _listed([_code(each) for each in record.models])),
        ("sandboxes", _listed([_code(each) for each in record.sandboxes])),
        ("run", _code(record.run)),
        ("session", _code(record.session)),
        ("started", utc(record.started)),
        ("duration", duration(record.duration_s)),
        ("exit", _code(record.exit)),
        ("turns", _count(record.turns)),
        ("tokens", f"projected {_count(record.tokens_projected)}, actual {_count(record.tokens_actual)}"),
        ("cost", f"projected {_cost(record.cost_projected)}, actual {_cost(record.cost_actual)}"),
        ("secret scan", record.secret_scan.value),
        ("ended by", _ENDINGS[record.ending]),
    ]
    if record.routes is not None:
        routes = [
            _code(route.host) + ("" if route.authentication is None else f" with {_code(route.authentication)}")
            for route in record.routes
        ]
        rows.append(("egress routes", _listed(routes)))
    rows.append(("on the forge", _listed([operation(each) for each in record.operations])))
    approvals = [f"{_code(each.request)} by {_code(each.by)}" for each in record.approvals]
    rows.append(("approvals", _listed(approvals)))
    if (configuration := record.configuration) is not None:
        version = "" if configuration.version is None else f", version {_code(configuration.version)}"
        if version and configuration.url is not None and _URL.fullmatch(configuration.url):
            version = f', version <a href="{configuration.url}">{_code(configuration.version)}</a>'
        rows.append(("configuration", f"{_code(configuration.digest)}{version}"))
    if record.audit is not None:
        rows.append(("audit", _code(record.audit)))
    if record.left_out:
        rows.append(("shortened", f"{record.left_out} more entries of these lists are left out"))
    table = "\n".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    # A name can end with what the next one completes.
    return disarming.keywords(
        f"<details>\n<summary>Written by the agent {_code(record.agent)} through Muster</summary>\n"
        f"<table>\n{table}\n</table>\n<p>{FOOTER}</p>\n</details>"
    )


def _code(text: str | None) -> str:
    if text is None:
        return "unknown"
    line = " ".join(text.split()) or "-"
    disarmed = _AT.sub(f"@{disarming.GAP}", disarming.prose(disarming.keywords(line)))
    escaped = html.escape(disarmed)
    while len(escaped) > _LONGEST_VALUE:
        # An escaped character has up to six.
        disarmed = f"{disarmed[: min(len(disarmed) * 3 // 4, _LONGEST_VALUE)].rstrip('…')}…"
        escaped = html.escape(disarmed)
    return f"<code>{escaped}</code>"


def _listed(entries: list[str]) -> str:
    return "<br>".join(entries) if entries else "none"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _cost(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"
