"""An emulator of the Vobiz voice provider: its REST API, its media host, its callbacks and its bad
days. It knows nothing of the code that it tests.
"""
