"""A stand-in for the Vobiz voice provider: its REST API, its media host, its callbacks and its bad
days.
"""
