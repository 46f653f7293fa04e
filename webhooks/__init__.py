"""What comes in: callbacks from the provider, requests from our own callers."""
