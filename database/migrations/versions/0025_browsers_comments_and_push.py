"""What a browser collects before it sends it, and where it is told that something waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("web_sessions", sa.Column("comments", sa.JSON(none_as_null=True)))
    op.add_column("web_sessions", sa.Column("push", sa.JSON(none_as_null=True)))
