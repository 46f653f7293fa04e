"""All settings, from the environment, `.env` and the rules file. Everything that is wrong is
reported at once.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from worker import wire
from worker.calls import rules_file
from worker.calls.rules import Rules
from worker.calls.rules_file import RulesFile, gone
from worker.errors import SettingsError
from worker.ledger import redis_url, sentinel_url
from worker.vobiz.account import Account
from worker.vobiz.addresses import HostList, Unfit

KNOWN = {
    "VOBIZ_AUTH_ID",
    "VOBIZ_AUTH_TOKEN",
    "VOBIZ_API_URL",
    "VOBIZ_MEDIA_HOSTS",
    "VOBIZ_REDIRECT_HOSTS",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "PORT",
    "HOST",
    "ENDTAPE_PUBLIC_URL",
    "ENDTAPE_CALLBACK_TOKEN",
    "ENDTAPE_SIGNATURES",
    "ENDTAPE_API_KEY",
    "ENDTAPE_APP_KEY",
    "ENDTAPE_ARCHIVE",
    "ENDTAPE_SPOOL",
    "ENDTAPE_CONFIG",
    "ENDTAPE_RECONCILE_S",
    "ENDTAPE_API_RATE",
    "ENDTAPE_STOP_RATE",
    "ENDTAPE_MAX_MEDIA_BYTES",
    "ENDTAPE_HISTORY",
    "ENDTAPE_LOG",
    "ENDTAPE_APPENDONLY",
}
# What only a start can change, by the field that holds it.
AT_START = {
    "redis_url": "REDIS_URL",
    "broker_url": "CELERY_BROKER_URL",
    "port": "PORT",
    "host": "HOST",
    "log": "ENDTAPE_LOG",
    "unsaved": "ENDTAPE_APPENDONLY",
}
_BUCKETS = ("s3://", "gs://", "az://")
_MAKE_ONE = "`make run` makes one and adds it to .env; without it, set 16 or more random characters of A-Z a-z 0-9"
# an editor leaves a moment without a file, or with an empty one, before the new one is there
_GONE_FOR_S = 0.5
_REDIS, _RABBIT = ("redis", "rediss", "unix", "sentinel"), ("amqp", "amqps")
_RABBIT_WORDS = {
    "heartbeat": re.compile(r"[0-9]{1,4}"),
    "connect_timeout": re.compile(r"[0-9]{1,4}"),
    "login_method": re.compile(r"[A-Z-]{1,20}"),
}
_NOTHING = re.compile(r"(?!)")
_PASSWORDS = re.compile(r"password=([^&]*)")
_PATH_SAFE = re.compile(r"[A-Za-z0-9._~-]+")
logging.getLogger("dotenv.main").setLevel(
    logging.ERROR
)  # `unread` says it once, and names the file


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Every setting, checked. Secrets never show in its repr."""

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
    api_keys: tuple[str, ...] = field(repr=False)
    app_key: str | None = field(repr=False)
    archive: Path
    spool: Path
    config: Path | None
    rules: Rules
    reconcile_s: float
    api_rate: float
    stop_rate: float
    max_media_bytes: int
    history: timedelta
    log: str
    unsaved: bool  # Redis may keep no append-only file
    warnings: tuple[str, ...] = ()  # what was given and has no effect
    restart: tuple[
        str, ...
    ] = ()  # what was changed since the start of this process, and takes effect at the next

    def secrets(self) -> set[str]:
        """Every value that must never be shown."""
        found = {self.callback_token, *self.api_keys, self.app_key or ""}
        for account in self.accounts.values():
            found |= {*account.tokens, *account.parent_tokens, *account.trunk_secrets}
        for url in (
            self.redis_url,
            self.broker_url,
            *self.broker_url.split(";"),
        ):  # of RabbitMQ there may be several
            parts = urlsplit(url)
            for spelled in (parts.password or "", *_PASSWORDS.findall(parts.query)):
                found |= {
                    spelled,
                    unquote(spelled),
                    quote(unquote(spelled), safe=""),
                }  # Celery is given the last
        return found - {""}

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        without_rules: bool = False,
        had_rules: bool = False,
    ) -> Settings:
        """Reads `.env` in `folder` (the environment wins) and the rules file, which `without_rules`
        leaves out.

        `had_rules`: there was a file before, so that there is none now is a mistake. Raises
        SettingsError with all problems.
        """
        place = folder or Path.cwd()
        return _Reader(
            environment(place, environ), place, without_rules=without_rules, had_rules=had_rules
        ).settings()

    def again(self) -> Settings:
        """The settings as they stand now; what only a start can change stays, and is named in
        `restart`. Raises SettingsError.
        """
        found = Settings.from_env(had_rules=self.rules.from_file)
        stay = {name: getattr(self, name) for name in AT_START}
        if found.public_url == _base(found.host, found.port):
            stay["public_url"] = _base(
                self.host, self.port
            )  # nobody set it: it follows what is listened on
        changed = tuple(
            variable for name, variable in AT_START.items() if getattr(found, name) != stay[name]
        )
        return replace(found, **stay, restart=changed)


def environment(folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is set: by `.env`, and above it by `environ`, this process's own where it is None. Empty
    means not set.

    Raises SettingsError where `.env` cannot be read.
    """
    given = [dotenv(folder / ".env"), os.environ if environ is None else environ]
    return {name: value.strip() for some in given for name, value in some.items() if value.strip()}


def dotenv(place: Path) -> dict[str, str]:
    """What the file says, nothing where there is none. Raises SettingsError where it cannot be
    read.
    """
    try:
        # Editors of Windows begin a file with a mark of three bytes, which would belong to the
        # first name.
        return {
            k: v for k, v in dotenv_values(place, encoding="utf-8-sig").items() if v is not None
        }
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            [
                f"{place} cannot be read ({error}); it must be a text file in UTF-8 that this user may read"
            ]
        ) from None


def unread(place: Path) -> list[str]:
    """A line for each line of the file that sets nothing and is no comment. What stands there may
    be a secret.
    """
    if not place.is_file():  # a pipe can be read only once
        return []
    lines = parse_stream(io.StringIO(place.read_text(encoding="utf-8-sig")))
    return [
        f"{place.name}: line {found.original.line} has no effect; it must be NAME=VALUE, or begin with #"
        for found in lines
        if found.error or (found.key and found.value is None)
    ]


def _base(host: str, port: int) -> str:
    return f"http://{host}:{port}"


def nearest(name: str) -> str:
    """The setting whose name is most like this one."""
    bare = name.partition("_")[2]
    for known in sorted(KNOWN):
        if bare in {
            known,
            known.removeprefix("ENDTAPE_"),
            known.removeprefix("VOBIZ_"),
        }:  # ENDTAPE_PORT, ENDTAPE_AUTH_ID
            return known
    words = set(name.split("_"))
    return max(
        sorted(KNOWN),
        key=lambda known: (
            len(words & set(known.split("_"))),
            difflib.SequenceMatcher(None, name, known).ratio(),
        ),
    )


def _comes_back(place: Path) -> bool:
    """Whether the file is there, now or in a moment."""
    until = time.monotonic() + _GONE_FOR_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if place.stat().st_size:
                return True
        time.sleep(0.02)
    return place.exists()  # empty, so on purpose


class _Reader:
    def __init__(
        self, env: Mapping[str, str], folder: Path, *, without_rules: bool, had_rules: bool
    ) -> None:
        self.env, self.without_rules, self.had_rules = env, without_rules, had_rules
        self.folder = folder
        self.problems: list[str] = []
        self.rules_broken = False

    def wrong(
        self, name: str, fix: str, *, secret: bool = False, missing: str | None = None
    ) -> None:
        """`fix` says what is accepted; `missing` what to do where nothing was given, if that is
        something else.
        """
        if name not in self.env:
            self.problems.append(f"{name} is missing: {missing or fix}")
            return
        shown = "(secret)" if secret else repr(self.env[name])[:120]
        self.problems.append(f"{name} = {shown}: {fix}")

    def settings(self) -> Settings:
        config, found = self.rules_file()
        host, port = self.env.get("HOST") or "127.0.0.1", self.whole("PORT", 8000, 1, 65535)
        redis_url = self.servers("REDIS_URL", _REDIS)
        if not redis_url:
            self.wrong(
                "REDIS_URL", "name a Redis 6.2 or newer, or use `make run`, which starts one"
            )
        settings = Settings(
            accounts=self.accounts(found),
            warnings=tuple(self.without_effect(found)),
            api_url=self.url(
                "VOBIZ_API_URL", "https://api.vobiz.ai/api/v1", ("https", "http")
            ).rstrip("/"),
            media_hosts=self.hosts("VOBIZ_MEDIA_HOSTS", "vobiz.ai,*.vobiz.ai"),
            redirect_hosts=self.hosts("VOBIZ_REDIRECT_HOSTS", ""),
            redis_url=redis_url,
            broker_url=self.servers("CELERY_BROKER_URL", (*_REDIS, *_RABBIT)) or redis_url,
            port=port,
            host=host,
            public_url=self.url("ENDTAPE_PUBLIC_URL", _base(host, port), ("https", "http")).rstrip(
                "/"
            ),
            callback_token=self.callback_token(),
            signatures_required=self.choice(
                "ENDTAPE_SIGNATURES", "required", ("required", "optional")
            )
            == "required",
            api_keys=self.secrets("ENDTAPE_API_KEY"),
            app_key=self.app_key(),
            archive=self.archive(),
            spool=self.path("ENDTAPE_SPOOL", "data/spool"),
            config=config,
            rules=found.rules,
            reconcile_s=self.number("ENDTAPE_RECONCILE_S", 60, 1),
            api_rate=self.number("ENDTAPE_API_RATE", 5, 0.1),
            stop_rate=self.number("ENDTAPE_STOP_RATE", 50, 0.1),
            max_media_bytes=self.whole("ENDTAPE_MAX_MEDIA_BYTES", 2147483648, 1, 2**50),
            history=self.history(),
            log=self.choice("ENDTAPE_LOG", "text", ("text", "json")),
            unsaved=self.choice("ENDTAPE_APPENDONLY", "required", ("required", "optional"))
            == "optional",
        )
        if self.problems:
            # A misspelled name is often why another is missing. Broken rules may name it, so then
            # nobody knows.
            raise SettingsError([*self.problems, *([] if self.rules_broken else settings.warnings)])
        return settings

    # The rules file and accounts
    # ----------------------------------------------------------------------------------

    def rules_file(self) -> tuple[Path | None, RulesFile]:
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
            self.wrong("ENDTAPE_CONFIG", f"cannot be read: {error}")
        except SettingsError as error:
            self.problems += error.problems
        self.rules_broken = True
        return place, RulesFile(rules=Rules())

    def without_effect(self, found: RulesFile) -> list[str]:
        """A line for each line of `.env` that sets nothing, and each name that looks like a setting
        and is none. Where the rules are left out nobody knows which secrets they name.
        """
        ours = "ENDTAPE_" if self.without_rules else ("ENDTAPE_", "VOBIZ_")
        strange = sorted(
            name
            for name in self.env
            if name.startswith(ours) and name not in KNOWN | self.named_secrets(found)
        )
        return [
            *unread(self.folder / ".env"),
            *(
                f"{name} is no setting of this release and has no effect; the nearest is {nearest(name)}"
                for name in strange
            ),
        ]

    @staticmethod
    def named_secrets(found: RulesFile) -> set[str]:
        return {name for a in found.accounts for name in (a.token_env, a.trunk_secret_env) if name}

    def accounts(self, found: RulesFile) -> dict[str, Account]:
        main_id = self.env.get("VOBIZ_AUTH_ID", "")
        if not wire.identifier(main_id):
            self.wrong("VOBIZ_AUTH_ID", "must be the id of the main account, like MA_7QK2XWPD")
        tokens = {main_id: self.tokens("VOBIZ_AUTH_TOKEN")}
        tokens |= {a.auth_id: self.tokens(a.token_env) for a in found.accounts}
        trunk = {
            a.auth_id: self.tokens(a.trunk_secret_env, "the secret of the account's trunk webhooks")
            for a in found.accounts
            if a.trunk_secret_env
        }
        parents = {a.auth_id: a.parent for a in found.accounts if a.parent}
        for account, parent in parents.items():
            if parent not in tokens:
                self.problems.append(
                    f"accounts: parent = {parent!r} of {account}: no such account; add it or leave parent out"
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

    def tokens(
        self, name: str, what: str = "the account's token, as the provider's console shows it"
    ) -> tuple[str, ...]:
        found = tuple(t.strip() for t in self.env.get(name, "").split(",") if t.strip())
        if (
            not found
            or len(found) > 2
            or any(not t.isprintable() or not t.isascii() for t in found)
        ):
            self.wrong(
                name,
                "must be a secret of plain characters, or two with a comma between, newest first",
                secret=True,
                missing=f"set {what}",
            )
            return ()
        return found

    # Single values
    # ------------------------------------------------------------------------------------------------

    def callback_token(self) -> str:
        token = self.env.get("ENDTAPE_CALLBACK_TOKEN", "")
        if len(token) < 16 or not _PATH_SAFE.fullmatch(token):
            self.wrong(
                "ENDTAPE_CALLBACK_TOKEN",
                "must have 16 characters or more of A-Z a-z 0-9 . _ ~ - (it stands in a URL)",
                secret=True,
                missing=_MAKE_ONE,
            )
        return token

    def secrets(self, name: str) -> tuple[str, ...]:
        found = tuple(t.strip() for t in self.env.get(name, "").split(",") if t.strip())
        if not found or len(found) > 2 or any(len(t) < 16 or not t.isascii() for t in found):
            self.wrong(
                name,
                "must have 16 characters or more, or be two such with a comma between",
                secret=True,
                missing=_MAKE_ONE,
            )
        return found

    def app_key(self) -> str | None:
        key = self.env.get("ENDTAPE_APP_KEY") or None
        if key is not None and (len(key) < 16 or not key.isascii()):
            self.wrong(
                "ENDTAPE_APP_KEY", "must have 16 characters or more, or be left out", secret=True
            )
        return key

    def archive(self) -> Path:
        value = self.env.get("ENDTAPE_ARCHIVE", "")
        if value.startswith(_BUCKETS) or "://" in value:
            self.wrong("ENDTAPE_ARCHIVE", "must be a directory; buckets are not supported yet")
        return self.path("ENDTAPE_ARCHIVE", "recordings")

    def path(self, name: str, default: str) -> Path:
        return self.folder / (self.env.get(name) or default)

    def history(self) -> timedelta:
        value = self.env.get("ENDTAPE_HISTORY") or "30d"
        found = rules_file.duration(value)
        if found is None:
            self.wrong("ENDTAPE_HISTORY", 'must be a duration like "30d"')
        return found or timedelta(days=30)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.env.get(name) or default
        if value not in allowed:
            self.wrong(name, f"must be one of: {', '.join(allowed)}")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.env.get(name) or str(default)
        if not value.isascii() or not value.isdigit() or not low <= int(value[:30]) <= high:
            self.wrong(name, f"must be a whole number from {low} to {high}")
            return default
        return int(value)

    def number(self, name: str, default: float, low: float) -> float:
        found = wire.number(self.env.get(name) or default)
        if found is None or not low <= found <= 1e6:
            self.wrong(name, f"must be a number, at least {low:g}")
            return default
        return found

    def servers(self, name: str, schemes: tuple[str, ...]) -> str:
        """The address of a store or a broker; of RabbitMQ several, with semicolons between."""
        value = self.env.get(name) or ""
        if value.startswith(sentinel_url.SCHEME):
            try:
                sentinel_url.parse(value)
            except ValueError:  # its text may show a part of the password
                self.wrong(name, f"must be {sentinel_url.FORM}", secret=True)
            return value
        several = value.startswith(tuple(f"{s}://" for s in _RABBIT))
        if value.startswith(redis_url.SCHEMES):
            try:
                redis_url.parse(value)
            except ValueError as error:
                self.wrong(name, f"{error}", secret=True)
            return value
        for one in value.split(";") if several else [value]:
            self.url(
                name,
                "",
                _RABBIT if several and ";" in value else schemes,
                credentials=True,
                value=one,
            )
            if strange := [
                word
                for word, said in parse_qsl(one.partition("?")[2], keep_blank_values=True)
                if not _RABBIT_WORDS.get(word, _NOTHING).fullmatch(said)
            ]:
                self.wrong(
                    name,
                    f"{', '.join(strange)[:80]}: RabbitMQ's client does not take this; known: {', '.join(_RABBIT_WORDS)}",
                    secret=True,
                )
        return value

    def url(
        self,
        name: str,
        default: str,
        schemes: tuple[str, ...],
        *,
        credentials: bool = False,
        value: str | None = None,
    ) -> str:
        value = (self.env.get(name) or default) if value is None else value
        if not value:
            return value
        try:
            parts = urlsplit(value)
            fine = (
                parts.scheme in schemes
                and (bool(parts.hostname) or parts.scheme == "unix")
                and not parts.fragment
            )
            _ = parts.port
        except ValueError:
            fine = False
        if not fine or (not credentials and (parts.username or parts.query)):
            self.wrong(
                name,
                f"must be a URL that begins with {' or '.join(s + '://' for s in schemes)}",
                secret=credentials or "@" in value,
            )
        return value

    def hosts(self, name: str, default: str) -> tuple[str, ...]:
        entries = tuple(h.strip() for h in (self.env.get(name) or default).split(",") if h.strip())
        try:
            HostList(entries)
        except Unfit as error:
            self.wrong(
                name, f"must be hosts with commas between (host, host:port or *.suffix): {error}"
            )
        return entries
