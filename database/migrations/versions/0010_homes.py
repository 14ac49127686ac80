"""Which installation each agent belongs to: several may take turns with one register."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("agents", sa.Column("home", sa.String(), nullable=True))
