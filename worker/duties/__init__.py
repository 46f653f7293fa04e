"""The duties: plan a call, send its stops, look, fetch, survey.

A duty is a function of a worker and its claims. No module of this room may know Celery.
"""
