"""The archive that the settings name. It stands apart from `composition`, so that a command that
only reads does not load the provider's client.
"""

from __future__ import annotations

from worker.archive.filing import Archive
from worker.archive.signing_key import Signer
from worker.settings import Settings


def make_archive(settings: Settings) -> Archive:
    """The archive, which signs its receipts."""
    signer = Signer(settings.signing_key, settings.signer)
    return Archive(settings.archive, settings.spool, signer, fallback=settings.fallback)
