"""The profile of `make fuzz`: many more examples wherever a test does not fix their number."""

from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
