"""What a source's YAML file says: from where scans come, and whose they are."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from monitor.intake.limits import DEFAULT_LIMITS
from registry.errors import SourceError
from registry.yaml_files import read_specification

_STRICT = ConfigDict(extra="forbid", frozen=True)
_MIB = 1 << 20
_MOVE = "move to "
_LONGEST_PASSWORD = 1024
_WHAT = "a source; see docs/intake.md"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("give an absolute path: several processes use it")
    return path


SourceName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
#: Also a segment of a path of the API.
Site: TypeAlias = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f/\\]{1,64}$")]
AbsolutePath: TypeAlias = Annotated[Path, AfterValidator(_absolute)]


class OrthancSource(BaseModel):
    """An Orthanc server whose feed of changes is followed."""

    model_config = _STRICT

    name: SourceName
    kind: Literal["orthanc"]
    #: of its REST API
    url: str
    #: whose scans it has
    site: Site
    username: str | None = None
    #: a file of mode 0600 that holds the password and nothing else
    password_file: AbsolutePath | None = None
    #: PEM file of who signed its certificate, where that is not a public authority
    authority: AbsolutePath | None = None
    #: between two looks at the feed, while nothing new is there
    every_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5
    #: for one answer to begin, and between two pieces of it
    answer_seconds: Annotated[float, Field(ge=1, le=600)] = 30

    @field_validator("url")
    @classmethod
    def _names_a_server(cls, url: str) -> str:
        # Neither the address nor the rest is repeated: it may hold a password.
        unusable = "give the address of the REST API: https://orthanc.example:8042"
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError(unusable) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(unusable)
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise ValueError("no credentials in the address: give username and password_file")
        if parts.query or parts.fragment:
            raise ValueError("give the address without a query or a fragment")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file: give both, or neither")
        if self.authority is not None and not self.encrypted:
            raise ValueError("authority: only an https address has a certificate to verify")
        return self

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("https:")

    @property
    def of_sites(self) -> tuple[str, ...]:
        return (self.site,)

    @property
    def place(self) -> str:
        """What a position in the feed belongs to."""
        return self.url

    def password(self) -> str | None:
        """Read the password.

        Raises
        ------
        SourceError
            If others may read the file, or it cannot be used.
        """
        if self.password_file is None:
            return None
        way_out = f"source {self.name}: password_file {self.password_file}"
        try:
            with self.password_file.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise SourceError(
                        f"{way_out} has mode {mode:04o}, open to other users: run "
                        f"`chmod 600 {self.password_file}`"
                    )
                content = file.read(_LONGEST_PASSWORD + 1)
        except OSError as error:
            raise SourceError(f"{way_out} cannot be read: {error.strerror}") from error
        try:
            password = content.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            password = ""
        if not password or len(content) > _LONGEST_PASSWORD:
            raise SourceError(f"{way_out} must hold one line of UTF-8: the password") from None
        return password

    def verification(self) -> ssl.SSLContext:
        """Return what verifies the server's certificate: this machine's authorities and its own.

        Raises
        ------
        SourceError
            If the authority's file cannot be used.
        """
        context = ssl.create_default_context()
        if self.authority is not None:
            try:
                context.load_verify_locations(self.authority)
            except (OSError, ssl.SSLError) as error:
                raise SourceError(
                    f"source {self.name}: authority {self.authority} cannot be used "
                    f"({error.strerror or type(error).__name__}): give a PEM file"
                ) from error
        return context


class FolderSource(BaseModel):
    """A folder into which others put files."""

    model_config = _STRICT

    name: SourceName
    kind: Literal["folder"]
    path: AbsolutePath
    #: whose scans it has
    site: Site
    #: how long a file must not have changed before it counts as whole
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = 10
    #: what becomes of a file that was taken: "keep", "remove", or "move to /ANOTHER/FOLDER"
    afterwards: str
    #: between two looks
    every_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5

    @field_validator("afterwards")
    @classmethod
    def _is_known(cls, afterwards: str) -> str:
        if afterwards in {"keep", "remove"}:
            return afterwards
        if not afterwards.startswith(_MOVE):
            raise ValueError("say `keep`, `remove` or `move to /ANOTHER/FOLDER`")
        return f"{_MOVE}{_absolute(Path(afterwards.removeprefix(_MOVE).strip()))}"

    @model_validator(mode="after")
    def _does_not_take_again(self) -> Self:
        if self.destination is not None and self.destination.is_relative_to(self.path):
            raise ValueError(f"afterwards: a folder below {self.path} would be read again")
        return self

    @property
    def destination(self) -> Path | None:
        """Where files are moved to, None where they are not."""
        if not self.afterwards.startswith(_MOVE):
            return None
        return Path(self.afterwards.removeprefix(_MOVE))

    @property
    def of_sites(self) -> tuple[str, ...]:
        return (self.site,)

    @property
    def place(self) -> str:
        """What the record of known files belongs to."""
        return str(self.path)


class DicomwebSource(BaseModel):
    """Sites whose scans may be stored over DICOMweb, and how much of anything at once."""

    model_config = _STRICT

    name: SourceName
    kind: Literal["dicomweb"]
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    #: of one request, all parts together
    largest_request_bytes: Annotated[int, Field(ge=_MIB, le=1 << 44)] = 4 << 30
    #: of one request
    most_parts: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    #: of one part; what is larger is refused and the others are taken
    largest_part_bytes: Annotated[int, Field(ge=1024, le=DEFAULT_LIMITS.file_bytes)] = (
        DEFAULT_LIMITS.file_bytes
    )
    #: between two pieces of a request
    idle_seconds: Annotated[float, Field(gt=0, le=600)] = 30

    @property
    def of_sites(self) -> tuple[str, ...]:
        return self.sites

    @property
    def place(self) -> str:
        """What its counts belong to."""
        return "dicomweb"


Source: TypeAlias = OrthancSource | FolderSource | DicomwebSource
KINDS: dict[str, type[OrthancSource] | type[FolderSource] | type[DicomwebSource]] = {
    "orthanc": OrthancSource,
    "folder": FolderSource,
    "dicomweb": DicomwebSource,
}


class _AnySource(BaseModel):
    """What every kind has: read first, so that errors name the keys of that kind alone."""

    kind: Literal["orthanc", "folder", "dicomweb"]


def parse_source(text: str, *, source: str) -> Source:
    """Read a source's file.

    Raises
    ------
    BadInputError
        Naming the file, the line and the key.
    """
    kind = read_specification(text, _AnySource, source=source, what=_WHAT).kind
    return read_specification(text, KINDS[kind], source=source, what=_WHAT)
