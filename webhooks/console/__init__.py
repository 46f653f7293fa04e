"""The console for operators: pages rendered here, from the building blocks of `webhooks.api` and
with what they promise. It has a session in the place of a bearer key, and nothing else of its own.
"""
