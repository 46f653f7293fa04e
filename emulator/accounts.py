"""The provider's accounts: tokens, parents, and how callbacks are signed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from emulator.signing import MODES


@dataclass(frozen=True, slots=True)
class Account:
    """One account. When `signature` is empty, callbacks carry V3 and V2; those of a sub-account
    also carry its parent's signatures.
    """

    auth_id: str
    token: str = field(repr=False)
    parent: str | None = None
    signature: str = ""
    trunk_secret: str = field(default="", repr=False)

    @property
    def mode(self) -> str:
        return self.signature or ("ma" if self.parent else "v3+v2")


def read(text: str) -> Account:
    """Parses `ID:TOKEN` or `ID:TOKEN:PARENT`. Raises ValueError."""
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts):
        raise ValueError("an account is ID:TOKEN or ID:TOKEN:PARENT")
    return Account(parts[0], parts[1], parts[2] if len(parts) == 3 else None)


def by_id(given: Mapping[str, str] | Iterable[Account]) -> dict[str, Account]:
    """The accounts by id. Raises ValueError for an unknown parent or signature mode."""
    if isinstance(given, dict):
        return {auth_id: Account(auth_id, token) for auth_id, token in given.items()}
    accounts = {account.auth_id: account for account in given if isinstance(account, Account)}
    for account in accounts.values():
        if account.parent is not None and account.parent not in accounts:
            raise ValueError(
                f"account {account.auth_id} names the parent {account.parent}, "
                "which is not among the accounts"
            )
        check_mode(account.mode)
    return accounts


def check_mode(mode: str) -> None:
    """Raises ValueError for an unknown signature mode."""
    if mode not in MODES:
        raise ValueError(f"signature mode {mode!r} is none of {', '.join(MODES)}")
