"""Our callers' door: `/v1`.

This room records orders and reads back; it sends nothing to the provider.
"""
