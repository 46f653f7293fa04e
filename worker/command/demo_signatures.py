"""The end of the demo: verifies what was archived, and shows how a stranger checks it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from worker.archive import filing, signers
from worker.archive.places import Place
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
    with ThreadPoolExecutor(READERS) as readers:
        for unit in whole.units(report):
            report.take(whole.check(unit, readers))
    return report


def for_a_stranger(archive: Path, keys: Path, archive_key: str) -> str:
    """The commands that check one recording."""
    account, _, audio = archive_key.partition("/")
    (signer, *_) = signers.read(keys.read_text())
    return _STRANGER.format(
        account=archive / account,
        keys=keys,
        signer=signer.signer,
        receipt=f"{audio.rpartition('.')[0]}.json",
        audio=audio,
    )
