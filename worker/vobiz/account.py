"""An account at the provider, with the credentials that we try."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account and its secrets, which never show in its repr. Tokens stand newest first."""

    auth_id: str
    tokens: tuple[str, ...] = field(repr=False)
    parent: str | None = None
    parent_tokens: tuple[str, ...] = field(default=(), repr=False)
    trunk_secrets: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError(f"account {self.auth_id} has no token")
