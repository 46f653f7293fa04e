"""What we owe a call, and the name under which the ledger keeps it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Duty(StrEnum):
    """What can be owed: planning and looks to a call, a fetch and an offload to a recording, a
    survey to an account, a row of the catalogue and late facts to a call's finished recordings, the
    closing of its days and the reading of its call records to an account.
    """

    PLAN = "plan"  # plan the call, and send what is due
    LOOK = "look"  # ask the provider's list and live calls
    FETCH = "fetch"  # download the file into the archive
    # compare the provider's lists with the ledger; `call_uuid` of the obligation holds the scope
    SURVEY = "survey"
    INDEX = "index"  # enter finished recordings into the catalogue
    FACTS = "facts"  # write into the archive what changed after the receipts
    OFFLOAD = "offload"  # delete the provider's copy of a recording that is ours
    CDRS = "cdrs"  # read the provider's call records; `call_uuid` of the obligation is `.cdrs`
    NOTIFY = "notify"  # tell the operator's applications
    HAND_ON = "handon"  # tell whoever the rule names that a recording is home
    ERASE = "erase"  # remove every copy of a recording, and look whether they are gone
    DAY = "day"  # close the days of an account; `call_uuid` of the obligation is `.days`


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """One entry of the ledger's sorted set, written `DUTY|ACCOUNT|CALL[|RECORDING]`."""

    duty: Duty
    account: str
    call_uuid: str
    recording_id: str | None = None

    def __str__(self) -> str:
        parts = [
            self.duty,
            self.account,
            self.call_uuid,
            *([self.recording_id] if self.recording_id else []),
        ]
        return "|".join(parts)

    @classmethod
    def parse(cls, text: str) -> Obligation:
        """The obligation that `str` wrote. Raises ValueError where a part is missing."""
        duty, account, call_uuid, *rest = text.split("|")
        return cls(
            duty=Duty(duty),
            account=account,
            call_uuid=call_uuid,
            recording_id=rest[0] if rest else None,
        )
