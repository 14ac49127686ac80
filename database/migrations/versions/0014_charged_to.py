"""Tasks that agents ask for count for whom they work for, where turns are taken."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column

from database.schema.text_types import String

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("tasks", Column("charged_to", String))
