"""Limits, the pace that is kept below them, and what follows for sessions and agents."""

from sqlalchemy import JSON, Column, Float, Index

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

#: Limits given by command; for their scope they go before all that muster.yaml says of it.
budgets = table(
    "budgets",
    Column("scope", String, primary_key=True),  # agent, host, or agent:, profile:, provider:, account: NAME
    Column("unit", String, primary_key=True),  # tokens | usd | share
    Column("window", String, primary_key=True),  # empty: without an end
    Column("amount", Float, nullable=False),
    Column("policy", String, nullable=False),  # cutoff | freeze | kill
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
    Column("reset_at", Float),  # when the window resets, as a person said; null: as the clock or the provider says
    Column("of", String),  # of a share: the account whose window it is a share of
)

#: The even-spread line of each window as it was drawn last (budget.windows.pace_admission.EvenSpreadLine).
pace_lines = table(
    "pace_lines",
    Column("window", String, primary_key=True),  # budget.windows.pace_admission.Window.key
    Column("line", JSON, nullable=False),
    Column("drawn_at", Float, nullable=False),
)

#: What happened to windows: lines redrawn, resets, changes of plan, clock skew, contradictions.
pace_log = table(
    "pace_log",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("window", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("detail", JSON, nullable=False),
)
Index("ix_pace_log_window", pace_log.c.window, pace_log.c.at)

#: Leave to spend faster than the pace; used up or over, it ends by itself.
authorizations = table(
    "authorizations",
    Column("id", String, primary_key=True),  # of the command that gave it
    Column("scope", String, nullable=False),
    Column("unit", String, nullable=False),  # tokens | usd | share
    Column("amount", Float, nullable=False),
    Column("drawn", Float, nullable=False),  # used up before the line that stands was drawn
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("ended_at", Float),
    Column("ended", String),  # used | over | taken back
)
Index("ix_authorizations_ended", authorizations.c.ended_at)

#: Which account an agent's session is on: picked when the session starts, and kept.
account_leases = table(
    "account_leases",
    Column("agent", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("reason", PeopleText, nullable=False),
    Column("leased_at", Float, nullable=False),
)

#: Agents that stopped at a limit, and when they go on.
continuations = table(
    "continuations",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("scope", String, nullable=False),  # the window or limit that stopped it
    Column("stopped_at", Float, nullable=False),
    Column("resume_at", Float),  # null: not known yet
    Column("state", String, nullable=False),  # waiting | done | dropped
    Column("detail", PeopleText),
)
Index("ix_continuations_state", continuations.c.state)
