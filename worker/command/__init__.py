"""The command `endtape`: what a person types and reads.

Nothing of the service knows this room.
"""
