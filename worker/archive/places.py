"""Where an archive is: a directory, or the address of a bucket with what its client needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

# The scheme of a bucket's address, and how the names of its cloud's own variables begin.
CLOUDS = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """A bucket and the prefix in it, as `s3://bucket/prefix`. `options`: those of
    ENDTAPE_ARCHIVE_OPTIONS. `variables`: the cloud's own, which hold the credentials.
    """

    url: str
    options: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.url

    @property
    def cloud(self) -> str:
        """s3, gs or az."""
        return self.url.partition("://")[0]

    @property
    def secrets(self) -> set[str]:
        """The values of the variables that must never be shown."""
        return {
            value
            for name, value in self.variables
            if any(word in name for word in ("SECRET", "TOKEN", "KEY", "PASSWORD"))
        }

    @property
    def name(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def prefix(self) -> str:
        """What stands before each name in the bucket, without slashes at its ends."""
        return self.url.partition("://")[2].partition("/")[2].strip("/")


Place = Path | Bucket


def parse(text: str) -> Place:
    """The place that a text names. Raises ValueError for an address that is none of a bucket."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    parts = urlsplit(text)
    fit = scheme in CLOUDS and rest.strip("/") and parts.netloc and not parts.query
    if not fit or "@" in parts.netloc or any(part in {".", ".."} for part in rest.split("/")):
        raise ValueError("must be a directory, or a bucket: s3://NAME/PREFIX, gs://… or az://…")
    return Bucket(url=text.rstrip("/"))


def with_client(
    place: Bucket, environ: Mapping[str, str], options: tuple[tuple[str, str], ...]
) -> Bucket:
    """The bucket with what its client needs. `environ`: where the cloud's own variables are."""
    variables = sorted(
        (name, value) for name, value in environ.items() if name.startswith(CLOUDS[place.cloud])
    )
    return replace(place, variables=tuple(variables), options=options)
