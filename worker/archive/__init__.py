"""Files: the spool, what is in a sound file, receipts, and the archive.

This room knows neither Redis nor the provider.
"""
