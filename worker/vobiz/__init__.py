"""How we talk to the provider: callbacks, signatures, REST requests, answers and downloads.

This room knows neither Redis nor the archive.
"""
