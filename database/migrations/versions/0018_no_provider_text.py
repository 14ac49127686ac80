"""The ledger keeps the type of an error, and no text of a provider's: some write the account's key into it."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Otherwise the old text stays in the file until something is written over it.
        op.execute("PRAGMA secure_delete = ON")
    op.execute("UPDATE ledger SET detail = NULL WHERE detail IS NOT NULL")
