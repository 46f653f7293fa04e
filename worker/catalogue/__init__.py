"""The catalogue: an index of finished recordings, in SQLite or PostgreSQL. Never the truth: the
archive is.
"""
