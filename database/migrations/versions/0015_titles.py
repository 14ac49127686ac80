"""What the threads are called that Muster names."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Integer, PrimaryKeyConstraint

from database.schema.text_types import PeopleText, String

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "titles",
        Column("thread", String, nullable=False),
        Column("title", PeopleText, nullable=False),
        Column("archived", Boolean, nullable=False),
        Column("changes", Integer, nullable=False),
        Column("tenant_id", String, nullable=False),
        Column("host", String, nullable=False),
        PrimaryKeyConstraint("thread", name=op.f("pk_titles")),
    )
