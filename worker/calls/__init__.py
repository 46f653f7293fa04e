"""What a call is and what it needs, computed from its events, the rules and an instant.

This room knows no Redis, HTTP, Celery, clock, randomness or environment.
"""
