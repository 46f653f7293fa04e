"""What a figure of a day's ledger means, in words, for the console and `endtape ledger`. Pure.

docs/api.md says exactly which recordings each figure counts.
"""

from __future__ import annotations

NOT_VERIFIED = "not_verified"  # why a recording is unexplained, where no figure says it

# In the order in which a person looks.
MEANINGS = {
    "unexplained": "somebody has to look: nothing of ours or of the rules accounts for it",
    "missing": "given up, or an answered call without one",
    "unproven": "the end was never proven",
    "over_long": "went on after it was to end",
    "too_short": "less than 1 s though no stop of ours ended it, less audio than was announced, "
    "or, where every call is to be recorded, over by itself well before its call",
    "unexpected": "the rule wants none, or one ran already",
    "cut_at_default_limit": "ended by itself at the provider's 60 s",
    "without_consent": "the rule wants consent, and there was none",
    "restricted": "played only with a reason",
    "under_way": "records, or is on its way home",
    "expected": "should have been recorded",
    "archived": "is in the archive",
    "verified": "is in the archive, and every check passed",
    "with_gaps": "a later segment, after a declared gap",
    "erased": "was erased; a signed tombstone stays",
    "deleted_at_provider": "its copy at the provider is gone",
}


def meaning(reason: str) -> str:
    """What a figure means, or NOT_VERIFIED. Raises KeyError for any other name."""
    return "is in the archive, and a check failed" if reason == NOT_VERIFIED else MEANINGS[reason]


def spelled(figure: str) -> str:
    """A figure, or NOT_VERIFIED, as people read it."""
    return "over-long" if figure == "over_long" else figure.replace("_", " ")
