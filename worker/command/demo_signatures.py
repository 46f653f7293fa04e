"""The end of the demo: verifies what was archived, and shows how a stranger checks it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from worker.archive import filing, signers
from worker.archive.keys import parse
from worker.archive.places import Bucket, Place
from worker.archive.verify import READERS, Report, Trust
from worker.archive.verify_all import WholeArchive

_STRANGER = """\
Anybody can check them, without software of ours:

  cd {account}
  ssh-keygen -Y verify -f {keys} \\
    -I {signer} -n endtape-receipt -s {receipt}.sig < {receipt}
  sha256sum {audio}     # is media.sha256 of the receipt
"""


def verified(archive: Place, keys: Path) -> Report:
    """The report of the whole archive. `keys`: the file with the service's public keys."""
    trust = Trust(signers.read(keys.read_text()))
    whole = WholeArchive(filing.reading(archive), trust, quick=False)
    report = Report()
    with ThreadPoolExecutor(READERS[isinstance(archive, Bucket)]) as readers:
        for unit in whole.units(report):
            report.take(whole.check(unit, readers))
    return report


def for_a_stranger(archive: Place, keys: Path, archive_key: str) -> str:
    """The commands that check one recording."""
    if isinstance(archive, Bucket):
        copied = keys.parent / "copied"
        copy = f"\n  aws s3 sync {archive} {copied}     # or any other client of S3"
        return _stranger(copied, keys, archive_key).replace("\n  cd ", f"{copy}\n  cd ", 1)
    return _stranger(archive, keys, archive_key)


def _stranger(archive: Path, keys: Path, archive_key: str) -> str:
    account, _, audio = archive_key.partition("/")
    (signer, *_) = signers.read(keys.read_text())
    return _STRANGER.format(
        account=archive / account,
        keys=keys,
        signer=signer.signer,
        receipt=parse(archive_key).receipt.partition("/")[2],
        audio=audio,
    )
