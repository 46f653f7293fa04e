"""Fault runs: the whole service, the emulator, and everything that can be taken away from them."""
