"""Which turn an agent called a tool in: what it says of its task is said of the one that it had then."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("tool_calls", sa.Column("turn", sa.String(), nullable=True))
