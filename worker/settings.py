"""All settings, from the environment, `.env` and the rules file. Reports every mistake at once."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from worker.archive import bucket, signing_key
from worker.archive.places import CLOUDS, Bucket, Place, with_client
from worker.calls import rules_file
from worker.calls.notices import RECORDING_ARCHIVED, Endpoint
from worker.calls.rules import AfterArchive, Rules
from worker.calls.rules_file import RulesFile, gone
from worker.errors import SettingsError, Unsigned
from worker.variables import kinds
from worker.variables.dotenv_file import environment, lines_without_effect
from worker.variables.kinds import Kind, NamedKey, SigningSecrets, Tokens, Unaccepted
from worker.variables.table import AT_START, KNOWN, SETTINGS, Setting, nearest
from worker.variables.urls import WebUrl, in_folder
from worker.vobiz.account import Account

# An editor may leave a moment without a file, or with an empty one, before it writes the new one.
_GONE_FOR_S = 0.5
_TOKENS = Tokens()
_SIGNS = "set the secret that signs notifications: whsec_ and base64"
_PASSWORDS = re.compile(r"password=([^&]*)")
# `lines_without_effect` reports such lines once, with the name of the file.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Every setting, checked; variables/table.py says what each means. Its repr shows no secret."""

    accounts: dict[str, Account]
    api_url: str
    media_hosts: tuple[str, ...]
    redirect_hosts: tuple[str, ...]
    redis_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    port: int
    host: str
    public_url: str
    callback_token: str = field(repr=False)
    signatures_required: bool
    api_keys: tuple[NamedKey, ...] = field(repr=False)
    app_key: str | None = field(repr=False)
    view_keys: tuple[NamedKey, ...] = field(repr=False)
    shows_numbers: bool  # in the console, until somebody asks for the other
    archive: Place
    fallback: Place | None
    archive_options: tuple[tuple[str, str], ...] | None = field(repr=False)
    spool: Path
    spool_max: int
    signing_key: Path
    signer: str
    catalog: str = field(repr=False)  # the URL, with an absolute path
    config: Path | None
    rules: Rules
    notify: tuple[Endpoint, ...]
    hand_ons: Mapping[AfterArchive, Endpoint]  # whom the rules tell that a recording is home
    reconcile_s: float
    api_rate: float
    stop_rate: float
    max_media_bytes: int
    history: timedelta
    log: str
    allow_no_aof: bool  # accept a Redis without an append-only file
    warnings: tuple[str, ...] = ()  # names and lines that have no effect
    restart: tuple[str, ...] = ()  # settings that changed and take effect at the next start

    @property
    def has_bucket(self) -> bool:
        """Whether an archive is in a bucket."""
        return any(isinstance(place, Bucket) for place in (self.archive, self.fallback))

    def secrets(self) -> set[str]:
        """Every value that must never be shown."""
        keys = (*self.api_keys, *self.view_keys)
        secrets = {self.callback_token, self.app_key or "", *(key.secret for key in keys)}
        for account in self.accounts.values():
            secrets |= {*account.tokens, *account.parent_tokens, *account.trunk_secrets}
        for endpoint in (*self.notify, *self.hand_ons.values()):
            secrets |= {*endpoint.secrets, *(s.removeprefix("whsec_") for s in endpoint.secrets)}
        for place in (self.archive, self.fallback):
            secrets |= place.secrets if isinstance(place, Bucket) else set()
        # A broker's address may hold several of RabbitMQ.
        for url in (
            self.redis_url,
            self.broker_url,
            *self.broker_url.split(";"),
            self.catalog,
        ):
            parts = urlsplit(url)
            for password in (parts.password or "", *_PASSWORDS.findall(parts.query)):
                plain = unquote(password)
                secrets |= {password, plain, quote(plain, safe="")}  # Celery is given the last
        return secrets - {""}

    @property
    def local_url(self) -> str:
        """Where `web` listens, as a URL."""
        return _base(self.host, self.port)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        without_rules: bool = False,
        had_rules: bool = False,
    ) -> Settings:
        """Reads `.env` in `folder` (the environment wins) and the rules file.

        `without_rules` leaves the rules file out. `had_rules`: there was a rules file before, so a
        missing one is a mistake. Raises SettingsError with all problems.
        """
        place = folder or Path.cwd()
        return _Reader(
            environment(place, environ), place, without_rules=without_rules, had_rules=had_rules
        ).settings()

    def again(self) -> Settings:
        """The settings as they are set now. Those that only a start can change stay as they are,
        and `restart` names those of them that were changed. Raises SettingsError.
        """
        new = Settings.from_env(had_rules=self.rules.from_file)
        unchanged = {name: getattr(self, name) for name in AT_START}
        if new.public_url == new.local_url:
            # Nobody set the public URL: it follows the address that the process listens on.
            unchanged["public_url"] = self.local_url
        restart = tuple(
            variable for name, variable in AT_START.items() if getattr(new, name) != unchanged[name]
        )
        return replace(new, **unchanged, restart=restart)


def _signer(public_url: str | None) -> str:
    return f"endtape@{urlsplit(public_url or '').hostname or 'localhost'}"


def _base(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _comes_back(place: Path) -> bool:
    """Whether the file is there, now or in a moment."""
    until = time.monotonic() + _GONE_FOR_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if place.stat().st_size:
                return True
        time.sleep(0.02)
    return place.exists()  # empty, so somebody emptied it on purpose


class _Reader:
    """Reads all settings from `env` and collects every mistake in `problems`."""

    def __init__(
        self, env: Mapping[str, str], folder: Path, *, without_rules: bool, had_rules: bool
    ) -> None:
        self.env, self.without_rules, self.had_rules = env, without_rules, had_rules
        self.folder = folder
        self.problems: list[str] = []
        self.rules_broken = False

    def settings(self) -> Settings:
        """Raises SettingsError with all problems."""
        config, file = self.rules_file()
        by_name = {setting.name: self.value(setting) for setting in SETTINGS}
        values = {setting.field: by_name[setting.name] for setting in SETTINGS}
        values["broker_url"] = values["broker_url"] or values["redis_url"]
        values["public_url"] = values["public_url"] or self.default_base(values)
        values["view_keys"] = values["view_keys"] or ()
        values["signer"] = values["signer"] or _signer(values["public_url"])
        self.problems += kinds.keys_of_two_doors(values)
        self.complete_archives(values)
        self.check_signing_key(values["signing_key"])
        values["catalog"] = in_folder(values["catalog"], self.folder)
        values["accounts"] = self.accounts(file, by_name["VOBIZ_AUTH_TOKEN"] or ())
        values["notify"] = self.endpoints(file)
        values["hand_ons"] = {told: self.hand_on(told) for told in file.rules.after_archive}
        values["config"] = config
        warnings = self.without_effect(file)
        if self.problems:
            # A misspelled name is often the reason why another is missing. Secrets that a broken
            # rules file names would look like misspelled names.
            told = [*self.problems, *([] if self.rules_broken else warnings)]
            raise SettingsError(list(dict.fromkeys(told)))
        return Settings(**values, rules=file.rules, warnings=tuple(warnings))

    def value(self, setting: Setting) -> Any:
        """The value of one setting, None where nothing is set and nothing stands in for it."""
        text = self.env.get(setting.name, setting.default)
        if text is None:
            if setting.missing:
                self.problems.append(f"{setting.name} is missing: {setting.missing}")
            return None
        value = self.read(setting.name, setting.kind, text)
        return self.folder / value if isinstance(value, Path) else value

    def read(self, name: str, kind: Kind, text: str) -> Any:
        """The value of a text, None where it is a mistake."""
        try:
            return kind.read(text)
        except Unaccepted as error:
            shown = "(secret)" if error.secret else repr(text)[:120]
            self.problems += [f"{name} = {shown}: {fix}" for fix in error.fixes]
            return None

    def default_base(self, values: Mapping[str, Any]) -> Any:
        base = _base(values["host"] or "127.0.0.1", values["port"] or 8000)
        try:
            return WebUrl().read(base)
        except Unaccepted as error:
            self.problems += [f"ENDTAPE_PUBLIC_URL is missing: {fix}" for fix in error.fixes]
            return None

    def check_signing_key(self, place: Path) -> None:
        """A key that is there and cannot be used is a mistake. One that this user cannot read may
        be another's: whoever signs with it says so.
        """
        try:
            if os.access(place, os.R_OK):
                signing_key.load(place)
        except Unsigned as error:
            self.problems.append(str(error))

    def complete_archives(self, values: dict[str, Any]) -> None:
        """Give the buckets what their client needs, and see that it takes it. A spool that cannot
        hold the largest file is a mistake.
        """
        for name, field_name in (
            ("ENDTAPE_ARCHIVE", "archive"),
            ("ENDTAPE_ARCHIVE_FALLBACK", "fallback"),
        ):
            place = values[field_name]
            if isinstance(place, Bucket):
                place = with_client(place, self.env, values["archive_options"] or ())
                values[field_name] = place
                try:
                    bucket.store_at(place)
                except ValueError as error:
                    self.problems.append(
                        f"{name} = {place.url!r}: with ENDTAPE_ARCHIVE_OPTIONS and the variables "
                        f"{CLOUDS[place.cloud]}*: {error}"
                    )
        if values["fallback"] is not None and str(values["fallback"]) == str(values["archive"]):
            self.problems.append(
                f"ENDTAPE_ARCHIVE_FALLBACK = {str(values['fallback'])!r:.120}: "
                "must be another place than ENDTAPE_ARCHIVE"
            )
        most, largest = values["spool_max"], values["max_media_bytes"]
        if most is not None and largest is not None and most < largest:
            self.problems.append(
                f"ENDTAPE_SPOOL_MAX = {most}: must not be below ENDTAPE_MAX_MEDIA_BYTES ({largest})"
            )

    # The rules file and accounts
    # ----------------------------------------------------------------------------------

    def rules_file(self) -> tuple[Path | None, RulesFile]:
        """The path of the rules file and what it says; (None, no rules) where there is none."""
        named = self.env.get("ENDTAPE_CONFIG")
        place = self.folder / (named or "endtape.toml")
        if self.without_rules or (not named and not self.had_rules and not place.exists()):
            return None, RulesFile(rules=Rules())
        if self.had_rules and not _comes_back(place):
            self.problems.append(gone(place.name))
            self.rules_broken = True
            return place, RulesFile(rules=Rules())
        try:
            return place, rules_file.read(place.read_text(encoding="utf-8"), place.name)
        except (OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read: {error}"
            self.problems.append(
                f"ENDTAPE_CONFIG = {named!r:.120}: {problem}"
                if named
                else f"ENDTAPE_CONFIG is missing: {problem}"
            )
        except SettingsError as error:
            self.problems += error.problems
        self.rules_broken = True
        return place, RulesFile(rules=Rules())

    def rules_text(self) -> str | None:
        """What stands in the rules file, fit or not; None where it is there and cannot be read."""
        try:
            return (self.folder / (self.env.get("ENDTAPE_CONFIG") or "endtape.toml")).read_text()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError):
            return None

    def without_effect(self, file: RulesFile) -> list[str]:
        """A warning for each line of `.env` that sets nothing, and for each name that looks like a
        setting and is none.

        Where the rules file is left out, its text alone says which secrets it may name.
        """
        named = {name for a in file.accounts for name in (a.token_env, a.trunk_secret_env) if name}
        named |= {endpoint.secret_env for endpoint in file.notify}
        named |= {told.secret_env for told in file.rules.after_archive if told.secret_env}
        if self.without_rules:
            text = self.rules_text()
            named |= {name for name in self.env if text is None or name in text}
        strange = sorted(
            name
            for name in self.env
            if name.startswith(("ENDTAPE_", "VOBIZ_")) and name not in KNOWN | named
        )
        return [
            *lines_without_effect(self.folder / ".env"),
            *(
                f"{name} is no setting of this release and has no effect; "
                f"the nearest is {nearest(name)}"
                for name in strange
            ),
        ]

    def accounts(self, file: RulesFile, main_tokens: tuple[str, ...]) -> dict[str, Account]:
        """The main account and those of the rules file; those without a token are left out."""
        tokens = {self.env.get("VOBIZ_AUTH_ID", ""): main_tokens}
        trunk: dict[str, tuple[str, ...]] = {}
        for account in file.accounts:
            tokens[account.auth_id] = self.secrets_named(
                account.token_env, "set the account's token, as the provider's console shows it"
            )
        for account in file.accounts:
            if account.trunk_secret_env:
                trunk[account.auth_id] = self.secrets_named(
                    account.trunk_secret_env, "set the secret of the account's trunk webhooks"
                )
        parents = {a.auth_id: a.parent for a in file.accounts if a.parent}
        for auth_id, parent in parents.items():
            if parent not in tokens:
                self.problems.append(
                    f"accounts: parent = {parent!r} of {auth_id}: no such account; "
                    "add it or leave parent out"
                )
        return {
            auth_id: Account(
                auth_id=auth_id,
                tokens=own,
                parent=parents.get(auth_id),
                parent_tokens=tokens.get(parents.get(auth_id, ""), ()),
                trunk_secrets=trunk.get(auth_id, ()),
            )
            for auth_id, own in tokens.items()
            if own
        }

    def endpoints(self, file: RulesFile) -> tuple[Endpoint, ...]:
        """The applications to be notified."""
        return tuple(
            Endpoint(
                url=told.url,
                secrets=self.secrets_named(told.secret_env, _SIGNS, SigningSecrets()),
                events=told.events,
                private=told.private,
                numbers=told.numbers,
            )
            for told in file.notify
        )

    def hand_on(self, told: AfterArchive) -> Endpoint:
        """Whom a rule tells that a recording is home."""
        return Endpoint(
            url=told.url or "",
            secrets=self.secrets_named(told.secret_env, _SIGNS, SigningSecrets())
            if told.secret_env
            else (),
            events=frozenset({RECORDING_ARCHIVED}),
            private=told.private,
            numbers=told.numbers,
            command=told.command,
            within=told.within,
        )

    def secrets_named(self, name: str, missing: str, kind: Kind = _TOKENS) -> tuple[str, ...]:
        """The secrets in a variable that the rules file names; none where that is a mistake."""
        if name not in self.env:
            self.problems.append(f"{name} is missing: {missing}")
            return ()
        return self.read(name, kind, self.env[name]) or ()
