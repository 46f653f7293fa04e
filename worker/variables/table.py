"""Every setting: its name, the values it takes, its default, and what it means.

`worker.settings` reads the settings by this table and `worker.in_force` shows them by it. A test
holds the documented table to it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from worker.variables.kinds import (
    RABBIT,
    Archive,
    Bytes,
    Choice,
    Duration,
    File,
    Identifier,
    Keys,
    Kind,
    Number,
    OneKey,
    Options,
    PathToken,
    SignerName,
    Tokens,
    Whether,
    Whole,
)
from worker.variables.urls import CatalogUrl, Host, Hosts, ServerUrl, WebUrl

_REDIS = ("redis", "rediss", "unix", "sentinel")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting.

    `field`: the attribute of Settings that holds its value. `default`: the text that is read where
    nothing is set; None: there is no such text, and the setting is either required (then `missing`
    says what to do) or another setting or an empty value takes its place. `documented`: the default
    as the documents write it, where that is another text. `at_start`: a reload does not change it.
    """

    name: str
    field: str
    kind: Kind
    default: str | None = None
    documented: str | None = None
    missing: str | None = None
    at_start: bool = False
    meaning: str


_MAKE_ONE = (
    "`make run` makes one and adds it to .env; "
    "without it, set 16 or more random characters of A-Z a-z 0-9"
)
SETTINGS = (
    Setting(
        name="VOBIZ_AUTH_ID",
        field="accounts",
        kind=Identifier(),
        missing="must be the id of the main account, like MA_7QK2XWPD",
        meaning="the main account; two tokens with a comma between while one is rotated",
    ),
    Setting(
        name="VOBIZ_AUTH_TOKEN",
        field="accounts",
        kind=Tokens(),
        missing="set the account's token, as the provider's console shows it",
        meaning="the main account; two tokens with a comma between while one is rotated",
    ),
    Setting(
        name="VOBIZ_API_URL",
        field="api_url",
        kind=WebUrl(),
        default="https://api.vobiz.ai/api/v1",
        meaning="REST base",
    ),
    Setting(
        name="VOBIZ_MEDIA_HOSTS",
        field="media_hosts",
        kind=Hosts(),
        default="vobiz.ai,*.vobiz.ai",
        meaning="hosts that may get a media request with credentials",
    ),
    Setting(
        name="VOBIZ_REDIRECT_HOSTS",
        field="redirect_hosts",
        kind=Hosts(),
        default="",
        documented="empty",
        meaning="further hosts a media request may be redirected to, without credentials",
    ),
    Setting(
        name="REDIS_URL",
        field="redis_url",
        kind=ServerUrl(_REDIS),
        documented="embedded",
        missing="name a Redis 6.2 or newer, or use `make run`, which starts one",
        at_start=True,
        meaning="state and broker; Redis 6.2 or newer, or Valkey; `redis://`, `rediss://` "
        "(docs/operations.md), `unix://`, or `sentinel://host,host,host/name`",
    ),
    Setting(
        name="CELERY_BROKER_URL",
        field="broker_url",
        kind=ServerUrl((*_REDIS, *RABBIT)),
        documented="REDIS_URL",
        at_start=True,
        meaning="another broker: Redis in any of these forms, or RabbitMQ (`amqp://`)",
    ),
    Setting(
        name="PORT",
        field="port",
        kind=Whole(1, 65535),
        default="8000",
        at_start=True,
        meaning="where `web` listens",
    ),
    Setting(
        name="HOST",
        field="host",
        kind=Host(),
        default="127.0.0.1",
        at_start=True,
        meaning="where `web` listens",
    ),
    Setting(
        name="ENDTAPE_PUBLIC_URL",
        field="public_url",
        kind=WebUrl(),
        documented="http://HOST:PORT",
        meaning="the base that the provider calls and signs",
    ),
    Setting(
        name="ENDTAPE_CALLBACK_TOKEN",
        field="callback_token",
        kind=PathToken(),
        missing=_MAKE_ONE,
        meaning="unguessable path segment, 16 characters or more",
    ),
    Setting(
        name="ENDTAPE_SIGNATURES",
        field="signatures_required",
        kind=Whether(("required", "optional"), yes="required"),
        default="required",
        meaning="or `optional`: an unsigned callback passes on its token and proves nothing",
    ),
    Setting(
        name="ENDTAPE_API_KEY",
        field="api_keys",
        kind=Keys(),
        missing=_MAKE_ONE,
        meaning="bearer key of `/v1`; two with a comma between while rotating; or several "
        "`NAME:KEY`, and the name is who did it in history and receipts",
    ),
    Setting(
        name="ENDTAPE_APP_KEY",
        field="app_key",
        kind=OneKey(),
        documented="none",
        meaning="a lesser key for applications and agents: starts, stops, hand-offs, events and "
        "the calls they name",
    ),
    Setting(
        name="ENDTAPE_VIEW_KEY",
        field="view_keys",
        kind=Keys(),
        documented="none",
        meaning="a key that only reads: `GET` of `/v1` without audio; or several `NAME:KEY`",
    ),
    Setting(
        name="ENDTAPE_CONSOLE_NUMBERS",
        field="shows_numbers",
        kind=Whether(("masked", "shown"), yes="shown"),
        default="masked",
        meaning="or `shown`: the console shows telephone numbers whole until somebody hides them",
    ),
    Setting(
        name="ENDTAPE_ARCHIVE",
        field="archive",
        kind=Archive(),
        default="recordings",
        documented="./recordings",
        meaning="a directory, or a bucket: `s3://NAME/PREFIX`, `gs://…`, `az://…`; its credentials "
        "and endpoint come from the cloud's own variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`)",
    ),
    Setting(
        name="ENDTAPE_ARCHIVE_FALLBACK",
        field="fallback",
        kind=Archive(),
        documented="none",
        meaning="a second archive, used while the first refuses; what it holds is moved when the "
        "first is back",
    ),
    Setting(
        name="ENDTAPE_ARCHIVE_OPTIONS",
        field="archive_options",
        kind=Options(),
        documented="none",
        meaning="`KEY=VALUE` pairs for the buckets, with commas between: `server_side_encryption`, "
        "`sse_kms_key_id`, `checksum_algorithm` (`sha256` for `s3://`, or `none`), `storage_class`",
    ),
    Setting(
        name="ENDTAPE_SPOOL",
        field="spool",
        kind=File(),
        default="data/spool",
        documented="./data/spool",
        meaning="downloads in progress, those that were cut off and can go on, and files that "
        "wait for the archive",
    ),
    Setting(
        name="ENDTAPE_SPOOL_MAX",
        field="spool_max",
        kind=Bytes(),
        default="10GB",
        meaning="so much may wait there for the archive; above it fetches wait, stops go on; not "
        "below `ENDTAPE_MAX_MEDIA_BYTES`",
    ),
    Setting(
        name="ENDTAPE_SIGNING_KEY",
        field="signing_key",
        kind=File(),
        default="data/signing_key",
        documented="./data/signing_key",
        meaning="the Ed25519 key in OpenSSH's format that signs receipts, made on the first run; "
        "all machines share one; a public key here means that the SSH agent has the private half",
    ),
    Setting(
        name="ENDTAPE_SIGNER",
        field="signer",
        kind=SignerName(),
        documented="endtape@ + host of ENDTAPE_PUBLIC_URL",
        meaning="the name under which receipts are signed",
    ),
    Setting(
        name="ENDTAPE_CATALOG",
        field="catalog",
        kind=CatalogUrl(),
        default="sqlite:///data/catalog.db",
        at_start=True,
        meaning="the index of finished recordings: SQLite for one machine, "
        "`postgresql+psycopg://…` (extra `postgresql`) for several; `endtape index` rebuilds it",
    ),
    Setting(
        name="ENDTAPE_CONFIG",
        field="config",
        kind=File(),
        documented="endtape.toml if present",
        meaning="rules and further accounts",
    ),
    Setting(
        name="ENDTAPE_RECONCILE_S",
        field="reconcile_s",
        kind=Number(1),
        default="60",
        meaning="seconds between two surveys of the provider's lists; they take at most a third "
        "of `ENDTAPE_API_RATE`",
    ),
    Setting(
        name="ENDTAPE_API_RATE",
        field="api_rate",
        kind=Number(0.1),
        default="5",
        meaning="requests a second per account other than stops",
    ),
    Setting(
        name="ENDTAPE_STOP_RATE",
        field="stop_rate",
        kind=Number(0.1),
        default="50",
        meaning="stops a second per account; halved by a 429, recovering over 20 s",
    ),
    Setting(
        name="ENDTAPE_MAX_MEDIA_BYTES",
        field="max_media_bytes",
        kind=Whole(1, 2**50),
        default="2147483648",
        meaning="a larger file is refused",
    ),
    Setting(
        name="ENDTAPE_HISTORY",
        field="history",
        kind=Duration(),
        default="30d",
        meaning="how long a finished call stays in Redis",
    ),
    Setting(
        name="ENDTAPE_APPENDONLY",
        field="allow_no_aof",
        kind=Whether(("required", "optional"), yes="optional"),
        default="required",
        at_start=True,
        meaning="or `optional`: start, with a warning, on a Redis without an append-only file "
        "(a managed one that replicates instead)",
    ),
    Setting(
        name="ENDTAPE_LOG",
        field="log",
        kind=Choice(("text", "json")),
        default="text",
        at_start=True,
        meaning="or `json`, to standard error",
    ),
)
KNOWN = frozenset(setting.name for setting in SETTINGS)
AT_START = {setting.field: setting.name for setting in SETTINGS if setting.at_start}
NAMES = {setting.field: setting.name for setting in SETTINGS if setting.field != "accounts"}
SHOWN = {setting.field: setting.kind for setting in SETTINGS if setting.field != "accounts"}


def nearest(name: str) -> str:
    """The setting whose name is most like this one."""
    bare = name.partition("_")[2]
    for known in sorted(KNOWN):  # ENDTAPE_PORT, ENDTAPE_AUTH_ID
        if bare in {known, known.removeprefix("ENDTAPE_"), known.removeprefix("VOBIZ_")}:
            return known
    words = set(name.split("_"))
    return max(
        sorted(KNOWN),
        key=lambda known: (
            len(words & set(known.split("_"))),
            difflib.SequenceMatcher(None, name, known).ratio(),
        ),
    )
