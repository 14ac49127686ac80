"""A migrated database has the tables that the program expects."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from register import migrations
from register.schema import metadata

if TYPE_CHECKING:
    from pathlib import Path


def test_a_migrated_database_is_what_the_schema_says(tmp_path: Path) -> None:
    file = tmp_path / "register.db"
    migrations.upgrade(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_revisions_are_known_by_the_names_of_their_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    scripts = ScriptDirectory.from_config(config)
    assert {script.revision for script in scripts.walk_revisions()} == migrations.known()
    assert scripts.get_current_head() == migrations.head()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "register.db"
    migrations.upgrade(file)
    with closing(sqlite3.connect(file)) as connection:
        before = list(connection.execute("SELECT sql FROM sqlite_master ORDER BY name"))
    migrations.upgrade(file)
    with closing(sqlite3.connect(file)) as connection:
        assert list(connection.execute("SELECT sql FROM sqlite_master ORDER BY name")) == before
