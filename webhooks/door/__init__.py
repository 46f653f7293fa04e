"""The provider's door: verify, parse, record, answer.

This room sends nothing to the provider and knows no route of `/v1`.
"""
