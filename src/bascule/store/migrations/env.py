"""What alembic runs to migrate: in the transaction that store/database.py began, all steps or none."""

from alembic import context

from bascule.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table; a batch copies it
)
with context.begin_transaction():
    context.run_migrations()
