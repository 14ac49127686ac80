"""The rows of the ledger: named tuples in the order of the columns, which bind directly to statements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from budget.limits.scopes import NANO_USD
from budget.tokens import Tokens
from egress.ledger.model import Action, LedgerEntry, Observation

#: The maximum tokens of one kind in a response; the bound keeps every sum within 64 bits.
MOST_TOKENS: Final = 10**12
_NAME_CHARACTERS: Final = 200
_DETAIL_CHARACTERS: Final = 1000
_compact: Final = json.JSONEncoder(separators=(",", ":")).encode
_RAW_CHARACTERS: Final = 32_768


class Reservation(NamedTuple):
    """An admitted request, with its assumed usage if nothing more becomes known."""

    number: int
    """Counts the reservations of one run of the egress."""
    id: str
    tenant_id: str
    host: str
    agent: str
    launch_id: str
    role: str
    profile: str
    profiles: str
    """That profile and the profiles that it extends, separated by commas."""
    session: str | None
    turn: str | None
    task: str | None
    account: str
    provider: str
    api: str
    model_asked: str | None
    attempt: int
    started_at: float
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    nano_usd: int | None


#: The part of a reservation that its entry copies.
WHO: Final = slice(Reservation._fields.index("id"), Reservation._fields.index("input"))


class Settlement(NamedTuple):
    """How an admitted request ended. With its reservation and a seq from the writer, it makes an entry."""

    reservation: Reservation
    model: str | None
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    reported: bool
    raw: str | None
    status: int | None
    ended: str
    detail: str | None
    ended_at: float
    first_byte_s: float | None
    total_s: float
    nano_usd: int | None


def estimated(reservation: Reservation, ended_at: float, why: str) -> Settlement:
    """Return the settlement of a request whose actual usage is unknown.

    Args:
        reservation: the assumed usage.
        ended_at: the latest possible end, in seconds since the epoch.
        why: the error type, which says why the usage is unknown.
    """
    return Settlement(
        reservation=reservation,
        model=None,
        input=reservation.input,
        output=reservation.output,
        cache_read=reservation.cache_read,
        cache_write=reservation.cache_write,
        reasoning=reservation.reasoning,
        reported=False,
        raw=None,
        status=None,
        ended="upstream_gone",
        detail=why,
        ended_at=max(reservation.started_at, ended_at),
        first_byte_s=None,
        total_s=max(0.0, ended_at - reservation.started_at),
        nano_usd=reservation.nano_usd,
    )


ENTRY_COLUMNS: Final = ("seq", *Reservation._fields[WHO], *Settlement._fields[1:])


class Denial(NamedTuple):
    """A ban on all traffic of an agent, or of every agent for ``*``."""

    agent: str
    action: str
    """cutoff, freeze, kill, or estop."""
    cause: str
    by: str
    id: str
    at: float


def name(text: str | None) -> str | None:
    """Return an external name, shortened, and safe for the database (without lone surrogates)."""
    return text if text is None else _clean(text, _NAME_CHARACTERS)


def detail(text: str | None) -> str | None:
    """Return an external sentence, shortened."""
    return text if text is None else _clean(text, _DETAIL_CHARACTERS)


def _clean(text: str, characters: int) -> str:
    text = text[:characters]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def usage(raw: Mapping[str, Any] | None) -> str | None:
    """Return a provider's usage object as text for the ledger; if it is too long, only its length."""
    if raw is None:
        return None
    try:
        text = _compact(raw)
    except (TypeError, ValueError, RecursionError):
        return '{"unreadable":true}'
    return text if len(text) <= _RAW_CHARACTERS else f'{{"too_long":{len(text)}}}'


def bounded(tokens: Tokens) -> Tokens:
    """Return the tokens, each kind clamped between 0 and the maximum of a response."""
    if (
        0 <= tokens.input <= MOST_TOKENS
        and 0 <= tokens.output <= MOST_TOKENS
        and 0 <= tokens.cache_read <= MOST_TOKENS
        and 0 <= tokens.cache_write <= MOST_TOKENS
        and 0 <= tokens.reasoning <= MOST_TOKENS
    ):
        return tokens
    return Tokens(
        input=min(max(tokens.input, 0), MOST_TOKENS),
        output=min(max(tokens.output, 0), MOST_TOKENS),
        cache_read=min(max(tokens.cache_read, 0), MOST_TOKENS),
        cache_write=min(max(tokens.cache_write, 0), MOST_TOKENS),
        reasoning=min(max(tokens.reasoning, 0), MOST_TOKENS),
    )


def tokens_of(row: Mapping[str, Any]) -> Tokens:
    """Return the tokens of a row."""
    return Tokens(**{kind: row[kind] for kind in Tokens.__dataclass_fields__})


def entry(row: Mapping[str, Any]) -> LedgerEntry:
    """Return the entry of a row."""
    nano = row["nano_usd"]
    return LedgerEntry(
        **{name: row[name] for name in _AS_THEY_ARE},
        tokens=tokens_of(row),
        reported=bool(row["reported"]),
        raw=None if row["raw"] is None else json.loads(row["raw"]),
        usd=None if nano is None else nano / NANO_USD,
    )


#: The fields of an entry that are columns.
_AS_THEY_ARE: Final = tuple(
    name for name in LedgerEntry.__dataclass_fields__ if name not in ("tokens", "reported", "raw", "usd")
)


def action(row: Mapping[str, Any]) -> Action:
    """Return the action of a row."""
    values = {name: row[name] for name in Action.__dataclass_fields__}
    return Action(**{**values, "detail": json.loads(row["detail"])})


OBSERVED: Final = tuple(Observation.__dataclass_fields__)


def observation(row: Mapping[str, Any]) -> Observation:
    """Return the observation of a row."""
    return Observation(**{column: row[column] for column in OBSERVED})
