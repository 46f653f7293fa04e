"""Checks the servers that settings name."""

from worker.ledger import fitness


def servers(settings):
    """Settings as the arguments of `fitness.check` and `fitness.wait`."""
    return {
        "redis_url": settings.redis_url,
        "broker_url": settings.broker_url,
        "allow_no_aof": settings.allow_no_aof,
        "rules_file": settings.config.name if settings.config else None,
    }


def check(settings):
    fitness.check(**servers(settings))
