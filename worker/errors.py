"""Our errors, named for what to do about them.

EndtapeError
├── SettingsError      settings or rules are wrong: each problem names the thing, the value and the
│                      way out; exit status 2
├── TryAgain           a failure that passes: try again after `after_s` (None: our own back-off)
│   ├── NotReady       the provider does not have it yet
│   ├── Unstored       our own disk has no room for it, or cannot hold it
│   └── Unsigned       the signing key cannot be read, made or used
├── Refused            401 or 403 of the API: wrong credentials, or one thing that we may not have
│   └── MediaRefused   401 or 403 of a media host: concerns that file alone
├── WrongPath          a gateway answered, not the application: our path or host is wrong
├── CallOver           the application says that there is no such live call
├── Rejected           the provider will not do this, however often we ask (400, 402, 409, 422)
├── Unclear            we asked and do not know whether it was done: never repeat it blindly
├── CorruptMedia       the bytes that arrived are not the recording, or not all of it
├── Conflict           the archive already holds other content under this name
├── StaleLease         another worker holds this obligation now: record nothing
├── Ending             this process ends: long work is given back
├── CatalogueAway      the catalogue did not answer; nothing depends on it
└── LedgerUnavailable  Redis did not answer in time
"""

from __future__ import annotations


class EndtapeError(Exception):
    """The base of every error that this project raises on purpose."""


class SettingsError(EndtapeError):
    """`problems` has a line for each mistake in the settings or the rules, without secrets."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TryAgain(EndtapeError):
    """The request may be repeated as it is. `after_s`: after how many seconds, where the provider
    named them.
    """

    def __init__(
        self, message: str, *, after_s: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.status = status


class NotReady(TryAgain):
    """The provider does not have the file yet (an early 404)."""


class Unstored(TryAgain):
    """Our spool or archive cannot take the file."""


class Unsigned(TryAgain):
    """The signing key cannot be read, made or used. The text names ENDTAPE_SIGNING_KEY."""


class Refused(EndtapeError):
    """401 or 403. `duties.access` finds out what it means for other requests."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class MediaRefused(Refused):
    """401 or 403 for a file, which says nothing about the account."""


class WrongPath(EndtapeError):
    """A gateway's 404, or an address off the lists. It proves nothing about a call."""


class CallOver(EndtapeError):
    """An application's 404: the provider knows no such live call."""


class Rejected(EndtapeError):
    """The provider refuses this request for good; it did nothing."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unclear(EndtapeError):
    """A request that must not be repeated blindly was sent and not answered."""


class CorruptMedia(EndtapeError):
    """The bytes failed a check. `check` is its name in the receipt."""

    def __init__(self, message: str, *, check: str) -> None:
        super().__init__(message)
        self.check = check


class Conflict(EndtapeError):
    """The archive holds other content under the final name, and keeps it."""


class Held(EndtapeError):
    """It is under legal hold, so nothing of it is deleted."""


class NotOver(EndtapeError):
    """It is still recording."""


class Gone(EndtapeError):
    """It is erased, or is being erased."""


class StaleLease(EndtapeError):
    """Our lease ran out or another worker took it. The results of this work are thrown away."""


class Ending(EndtapeError):
    """The process was asked to end, so long work is given back."""


class LedgerUnavailable(EndtapeError):
    """Redis refused, was silent, or did not take the write."""


class CatalogueAway(EndtapeError):
    """The catalogue does not answer, or cannot be used. The text shows no password."""
