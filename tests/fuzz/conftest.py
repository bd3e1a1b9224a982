"""How much is tried: a little in every run, much more with `--hypothesis-profile=fuzz` (`make fuzz`)."""

from hypothesis import HealthCheck, settings

# No deadline for one example: what may take long has a bound of its own in its test.
settings.register_profile(
    "fuzz", max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
