"""Fault runs: the whole service beside the emulator, while parts of both are taken away."""
