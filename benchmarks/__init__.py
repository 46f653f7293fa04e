"""Scripts that print numbers: contract section 8, each figure beside its peer's. `make bench` runs
them.
"""
