"""The deeds: plan a call, send its stops, look, fetch, survey.

This room knows Celery neither by name nor by import: a deed is a function of a worker and its claims.
"""
