"""When reports are posted, and which were."""

from sqlalchemy import Column, Float, Index

from database.schema.table_base import table
from database.schema.text_types import String

#: When reports are posted, as commands said; for their kind they go before muster.yaml.
schedules = table(
    "schedules",
    Column("kind", String, primary_key=True),  # daily | weekly | fleet | budget
    Column("cron", String, nullable=False),  # empty: off
    Column("zone", String, nullable=False),
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
)

#: What was posted, so that it is posted once: a report by its time, a crossing by its window and share.
reports = table(
    "reports",
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("posted_at", Float, nullable=False),
)
Index("ix_reports_kind", reports.c.kind, reports.c.due_at)
