"""Settings of every test."""

from hypothesis import settings

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("bascule", deadline=None)
settings.load_profile("bascule")
