"""Our callers' door: `/v1`.

This room writes orders down and reads back; it sends nothing to the provider.
"""
