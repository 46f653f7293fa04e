"""What went wrong, named for what to do about it.

EndtapeError
├── SettingsError      settings or rules are wrong: name the thing, the value, the way out; exit status 2
├── TryAgain           nobody's fault that lasts: try again after `after_s` (None: our own back-off)
│   ├── NotReady       the provider does not have it yet
│   └── Unstored       our own disk has no room for it, or cannot hold it
├── Refused            401 or 403 of the API: credentials, or one thing that we may not have
│   └── MediaRefused   401 or 403 of a media host: concerns that file alone
├── WrongPath          a gateway answered, not the application: our path or host is wrong
├── CallOver           the application says that there is no such live call
├── Rejected           the provider will not do this, however often it is asked (400, 402, 409, 422)
├── Unclear            asked, and nobody knows whether it was done: never repeat it blindly
├── CorruptMedia       bytes arrived that are not the recording, or not all of it
├── Conflict           the archive already holds other content under this name
├── StaleLease         somebody else holds this obligation now: record nothing
└── LedgerUnavailable  Redis did not answer in time
"""

from __future__ import annotations


class EndtapeError(Exception):
    """Everything that this project raises on purpose."""


class SettingsError(EndtapeError):
    """All that is wrong at once. `problems` has one line for each, without secrets."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TryAgain(EndtapeError):
    """A try that may be repeated as it is. `after_s`: seconds the provider asked for, else None."""

    def __init__(
        self, message: str, *, after_s: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.status = status


class NotReady(TryAgain):
    """The provider does not have it yet (an early 404)."""


class Unstored(TryAgain):
    """The spool or the archive cannot take it. Nobody else can mend that."""


class Refused(EndtapeError):
    """401 or 403. `duties.access` finds out what it means for other requests."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class MediaRefused(Refused):
    """401 or 403 for a file. It says nothing about the account."""


class WrongPath(EndtapeError):
    """A gateway's 404 or an address off the lists: never a proof of anything."""


class CallOver(EndtapeError):
    """An application's 404: the provider knows no such live call."""


class Rejected(EndtapeError):
    """The provider says no for good: it was not done."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unclear(EndtapeError):
    """A request that is not to be repeated blindly went out, and no answer told what came of it."""


class CorruptMedia(EndtapeError):
    """The bytes failed a check. `check` is its name in the receipt."""

    def __init__(self, message: str, *, check: str) -> None:
        super().__init__(message)
        self.check = check


class Conflict(EndtapeError):
    """Other content stands under the final name; it is left alone."""


class StaleLease(EndtapeError):
    """The lease ran out or went to another; whatever was found out is thrown away."""


class LedgerUnavailable(EndtapeError):
    """Redis refused, was silent, or did not take the write."""
