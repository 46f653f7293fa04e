"""The processes: Celery and its tasks, the clock, the supervisor, the embedded Redis.

This room decides nothing about calls.
"""
