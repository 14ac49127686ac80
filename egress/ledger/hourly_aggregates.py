"""Usage by agent and role since a given time, from hourly sums and the entries that they do not include.

``meta.summed`` is the last entry in the sums. It changes in the same transaction as the sums, so that each entry is
counted once, whenever the egress dies. Adding many entries at a time is cheap.

Usage by role is summed separately, with its own position (``meta.summed_roles``). An older egress ignores it, and a
newer one continues from there.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from budget.tokens import Tokens

HOUR_S: Final = 3600

_KINDS: Final = "input, output, cache_read, cache_write, reasoning"
_WHO: Final = "agent, launch_id, account, provider, profiles"


class Used(NamedTuple):
    """What one agent has used with one account since a given time."""

    agent: str
    launch_id: str
    account: str
    provider: str
    profiles: tuple[str, ...]
    requests: int
    tokens: Tokens
    nano_usd: int
    """The cost of the requests whose price is known."""
    role: str = ""
    """If set, this is the usage of a whole role with the account, and no agent is given. Empty: not a sum by role."""


def advance(connection: sqlite3.Connection) -> None:
    """Add all entries to the sums. Must run within a transaction."""
    (summed,) = connection.execute("SELECT value FROM meta WHERE key = 'summed'").fetchone()
    connection.execute(
        f"""INSERT INTO hours
            SELECT CAST(ended_at / {HOUR_S} AS INTEGER) AS hour, {_WHO}, count(*), sum(input), sum(output),
                sum(cache_read), sum(cache_write), sum(reasoning), coalesce(sum(nano_usd), 0), min(seq), max(seq)
            FROM entries WHERE seq > ? GROUP BY hour, {_WHO}
            ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, input = input + excluded.input,
                output = output + excluded.output, cache_read = cache_read + excluded.cache_read,
                cache_write = cache_write + excluded.cache_write, reasoning = reasoning + excluded.reasoning,
                nano_usd = nano_usd + excluded.nano_usd, last_seq = excluded.last_seq""",  # noqa: S608
        (summed,),
    )
    (summed,) = connection.execute("SELECT value FROM meta WHERE key = 'summed_roles'").fetchone()
    connection.execute(
        f"""INSERT INTO role_hours
            SELECT CAST(ended_at / {HOUR_S} AS INTEGER) AS hour, role, account, count(*), sum(input), sum(output),
                sum(cache_read), sum(cache_write), sum(reasoning), coalesce(sum(nano_usd), 0), min(seq), max(seq)
            FROM entries WHERE seq > ? AND role <> '' GROUP BY hour, role, account
            ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, input = input + excluded.input,
                output = output + excluded.output, cache_read = cache_read + excluded.cache_read,
                cache_write = cache_write + excluded.cache_write, reasoning = reasoning + excluded.reasoning,
                nano_usd = nano_usd + excluded.nano_usd, last_seq = excluded.last_seq""",  # noqa: S608
        (summed,),
    )
    connection.execute(
        "UPDATE meta SET value = coalesce((SELECT max(seq) FROM entries), value)"
        " WHERE key IN ('summed', 'summed_roles')",
    )


def since(connection: sqlite3.Connection, start: float) -> list[Used]:
    """Return the usage from `start` on (seconds since the epoch), by agent and by role.

    All entries must be in the sums. Whole hours come from the sums. In the hour that contains `start`, entries are
    counted individually.
    """
    return [
        Used(
            agent=row[0],
            launch_id=row[1],
            account=row[2],
            provider=row[3],
            profiles=tuple(row[4].split(",")) if row[4] else (),
            requests=row[5],
            tokens=Tokens(input=row[6], output=row[7], cache_read=row[8], cache_write=row[9], reasoning=row[10]),
            nano_usd=row[11],
        )
        for row in _sums(connection, start, "hours", _WHO)
    ] + [
        Used(
            agent="",
            launch_id="",
            account=row[1],
            provider="",
            profiles=(),
            requests=row[2],
            tokens=Tokens(input=row[3], output=row[4], cache_read=row[5], cache_write=row[6], reasoning=row[7]),
            nano_usd=row[8],
            role=row[0],
        )
        for row in _sums(connection, start, "role_hours", "role, account")
    ]


def _sums(connection: sqlite3.Connection, start: float, table: str, who: str) -> sqlite3.Cursor:
    hour, rest = divmod(start, HOUR_S)
    whole = int(hour) + (1 if rest else 0)
    parts = [f"SELECT {who}, requests, {_KINDS}, nano_usd FROM {table} WHERE hour >= :whole"]  # noqa: S608
    bounds = (None, None)
    if rest:
        bounds = connection.execute(
            f"SELECT min(first_seq), max(last_seq) FROM {table} WHERE hour = ?",  # noqa: S608
            (int(hour),),
        ).fetchone()
    if bounds[0] is not None:
        parts.append(
            f"SELECT {who}, 1, {_KINDS}, coalesce(nano_usd, 0) FROM entries"  # noqa: S608
            " WHERE seq BETWEEN :first AND :last AND ended_at >= :start AND ended_at < :end"
            + (" AND role <> ''" if table == "role_hours" else "")
        )
    return connection.execute(
        f"""SELECT {who}, sum(requests), sum(input), sum(output), sum(cache_read), sum(cache_write), sum(reasoning),
            sum(nano_usd) FROM ({" UNION ALL ".join(parts)}) GROUP BY {who}""",  # noqa: S608
        {"whole": whole, "first": bounds[0], "last": bounds[1], "start": start, "end": whole * HOUR_S},
    )
