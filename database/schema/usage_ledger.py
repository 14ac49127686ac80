"""What was used: requests as the egress metered them, their sums, and what providers said of quotas."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

#: What the egress metered: one row per request, copied from the ledger of the host that it left from.
ledger = table(
    "ledger",
    Column("id", String, primary_key=True),  # egress.ledger.model.LedgerEntry
    Column("ledger", String, nullable=False),  # which host's ledger it comes from, and its place there
    Column("seq", BigInteger, nullable=False),
    Column("agent", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("role", String, nullable=False),
    Column("profile", String, nullable=False),
    Column("session", String),
    Column("turn", String),
    Column("task", String),
    Column("account", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("api", String, nullable=False),
    Column("model_asked", String),
    Column("model", String),
    Column("attempt", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),  # no token is counted in two columns
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("reported", Boolean, nullable=False),  # false: the provider did not tell, and the tokens are an estimate
    Column("raw", JSON),  # the provider's own usage
    Column("status", Integer),
    Column("ended", String, nullable=False),  # completed | client_gone | upstream_gone | cut | error
    Column("detail", PeopleText),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("day", Integer, nullable=False),  # of its end, in UTC, counted from 1970-01-01
    Column("first_byte_s", Float),
    Column("total_s", Float, nullable=False),
    Column("usd", Float),  # null: no price is known
)
Index("uq_ledger_place", ledger.c.ledger, ledger.c.seq, unique=True)
Index("ix_ledger_ended", ledger.c.ended_at)
Index("ix_ledger_task", ledger.c.task)  # sums by anything else are those of `spending`

#: How far each host's ledger was copied; moved in the transaction that writes what was copied.
ledger_positions = table(
    "ledger_positions",
    Column("ledger", String, primary_key=True),
    Column("entries", BigInteger, nullable=False),
    Column("observations", BigInteger, nullable=False),
    Column("actions", BigInteger, nullable=False),
    Column("read_at", Float, nullable=False),
)

#: What the ledger comes to, hour by hour; kept in the transaction that writes the ledger's rows, and longer than these
#: (database.queries.spending.hourly_rollup).
spending = table(
    "spending",
    Column("hour", Integer, primary_key=True, autoincrement=False),  # of the end, in UTC, counted from 1970-01-01
    Column("agent", String, primary_key=True),
    Column("role", String, primary_key=True),
    Column("profile", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("model", String, primary_key=True),  # empty: none was named
    Column("task", String, primary_key=True),  # empty: of no task
    Column("ledger", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usd", Float, nullable=False),  # of those whose price is known
    Column("unpriced", BigInteger, nullable=False),  # that used tokens, and of which no price is known
    Column("estimated", BigInteger, nullable=False),  # that used tokens, as an estimate says
    sqlite_with_rowid=False,  # its rows lie in the order of the key, in which they are read
)
Index("ix_spending_agent", spending.c.agent, spending.c.hour)
Index("ix_spending_task", spending.c.task)

#: What providers said last of each account's quota, window by window (egress.ledger.model.Observation).
quota = table(
    "quota",
    Column("account", String, primary_key=True),
    Column("window", String, primary_key=True),
    Column("provider", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("used", Float),  # a fraction; null: the provider did not say
    Column("amount", Float),  # the window's limit
    Column("remaining", Float),
    Column("reset_at", Float),
    Column("window_s", Float),
    Column("status", String),
)

#: What providers said of quotas, one row for each time that it was something else; the newest is also in `quota`.
quota_history = table(
    "quota_history",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("account", String, nullable=False),
    Column("window", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("used", Float),
    Column("reset_at", Float),
    Column("window_s", Float),
    Column("status", String),
    Column("tokens", Float, nullable=False),  # weighted: what the account had used in all when this was seen
)
Index("ix_quota_history_window", quota_history.c.account, quota_history.c.window, quota_history.c.seen_at)
Index("ix_quota_history_place", quota_history.c.account, quota_history.c.window, quota_history.c.seq)
