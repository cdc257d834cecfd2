"""How Alembic reaches the database: the URL from our settings, everything in the schema `equipoise`."""

from alembic import context
from sqlalchemy import text
from sqlmodel import SQLModel

from models import tables
from worker.postgres.engines import migration_engine

SCHEMA = tables.SCHEMA


def migrate() -> None:
    """Run the migrations in one transaction, one program at a time."""
    url = context.config.attributes["database_url"]
    engine = migration_engine(url)
    with engine.begin() as connection:
        # Two programs that migrate at once take turns; the second then finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('equipoise.migrate', 0))"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            version_table_schema=SCHEMA,
            include_schemas=True,
            transactional_ddl=True,
        )
        context.run_migrations()
    engine.dispose()


migrate()
