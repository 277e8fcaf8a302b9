"""For all tests: none is timed."""

from hypothesis import settings

# Hypothesis fails a case that takes over 200 ms, unless told otherwise; on a busy machine some do.
untimed = settings(settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.register_profile("untimed", untimed)
settings.load_profile("untimed")
