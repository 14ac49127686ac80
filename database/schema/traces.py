"""How far what happened was sent to the collector of traces."""

from sqlalchemy import BigInteger, Column, Float

from database.schema.table_base import table
from database.schema.text_types import String

#: How far each table was looked through for what ended. The row `id` has a number that the ids of spans are made from.
trace_positions = table(
    "trace_positions",
    Column("source", String, primary_key=True),  # id | inbox | audit | messages | outbox | ledger/ID
    Column("place", BigInteger, nullable=False),
    Column("moved_at", Float, nullable=False),
)

#: Rows before these places that had not ended when they were looked at.
trace_waiting = table(
    "trace_waiting",
    Column("source", String, primary_key=True),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
)
