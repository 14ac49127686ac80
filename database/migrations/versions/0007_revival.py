"""How often each agent fell, and when it is tried again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("agents", sa.Column("revival", sa.JSON(), nullable=True))
