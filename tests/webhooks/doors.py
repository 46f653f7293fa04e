"""The two doors for the provider, for tests that are played at both."""

import pytest

# The second one only where processes are played too: the quick suite has no time for it.
DOORS = ["asgi", pytest.param("wsgi", marks=pytest.mark.end_to_end)]
