"""Benchmarks: the figures of contract section 8, each beside its peer's. `make bench` runs them."""
