"""Where alembic meets our models: migrations run on a connection that mlt_lib.store.database hands over.

There is no alembic.ini: one transaction around all steps, opened by the caller, so that a migration that breaks leaves
nothing half done (SQLite and PostgreSQL can both roll back DDL).
"""

from alembic import context

from mlt_lib.store.schema import Record

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Record.metadata,
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
