"""Redis: the calls, what is owed and when, limits, counters, and what processes tell one another.

This room knows neither the provider nor the archive.
"""
