"""Redis: the calls, what is owed and when, limits, counters, and the news that processes send one another.

This room knows neither the provider nor the archive.
"""
