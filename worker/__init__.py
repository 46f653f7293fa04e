"""The life of a recording: what is known, what is owed, and the doing of it."""
