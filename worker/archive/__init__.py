"""Files: the spool, the checks of a sound file, keys, receipts, and the archive.

This room knows neither Redis nor the provider.
"""
