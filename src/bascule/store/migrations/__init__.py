"""Steps from one schema to the next. alembic runs them; nothing imports them."""
