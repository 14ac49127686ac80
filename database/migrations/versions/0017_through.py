"""By which group someone was allowed to do what they did."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column

from database.schema.text_types import String

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("audit", Column("through", String))
    op.add_column("command_runs", Column("through", String))
