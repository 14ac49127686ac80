"""Which orchestrator acts, and out of which backups the register came."""

from sqlalchemy import BigInteger, Column, Float

from database.schema.table_base import table
from database.schema.text_types import String

#: Names that one owner holds for a time (database.queries.operations.leases). Rows stay when the time is over, so that
# tokens only
#: grow.
leases = table(
    "leases",
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("acquired_at", Float, nullable=False),
    Column("until", Float, nullable=False),
)

#: The times at which this register came out of a backup: what was said before them is not acted on again.
restores = table(
    "restores",
    Column("id", String, primary_key=True),
    Column("restored_at", Float, nullable=False),
    Column("backup_at", Float, nullable=False),  # when the backup was made
)
