"""Which model answers an agent in place of the one that was asked for."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column

from database.schema.text_types import String

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("agents", Column("model_answering", String))
