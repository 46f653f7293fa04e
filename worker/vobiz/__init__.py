"""The provider's language and wire: callbacks, signatures, answers, requests and downloads.

This room knows neither Redis nor the archive.
"""
