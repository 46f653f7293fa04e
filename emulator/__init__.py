"""A stand-in for the provider. It imports nothing from `worker` or `webhooks`, so it can catch them being wrong."""
