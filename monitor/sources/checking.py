"""Looking whether a source can be used as it is specified, from this machine, now."""

from __future__ import annotations

import os

from monitor.sources.orthanc_server import OrthancServer
from monitor.sources.settings import DicomwebSource, FolderSource, OrthancSource, Source
from registry.errors import SourceError


def require_usable(source: Source) -> None:
    """Check what this machine has of a source: its password, its folder.

    Raises
    ------
    SourceError
        Naming what is missing.
    """
    match source:
        case OrthancSource():
            source.password()
            if source.encrypted:
                source.verification()
        case FolderSource():
            _require_folder(source)
        case DicomwebSource():
            pass


def examine_source(source: Source) -> str:
    """Ask a source whether it can be read, and say what it is.

    Raises
    ------
    SourceError
        If it cannot.
    """
    require_usable(source)
    match source:
        case OrthancSource():
            server = OrthancServer(source)
            try:
                said = f"Orthanc {server.version()} at {source.url}"
                server.last_change()
            finally:
                server.close()
            return said if source.encrypted else f"{said}, not encrypted"
        case FolderSource():
            return f"folder {source.path}, afterwards: {source.afterwards}"
        case DicomwebSource():
            return f"DICOMweb for {', '.join(source.sites)}"


def _require_folder(source: FolderSource) -> None:
    if not source.path.is_dir():
        raise SourceError(
            f"source {source.name}: there is no folder {source.path}: make it, or mount what it "
            "is on"
        )
    wanted = os.R_OK | os.X_OK | (0 if source.afterwards == "keep" else os.W_OK)
    if not os.access(source.path, wanted):
        raise SourceError(
            f"source {source.name}: this user may not "
            f"{'read' if source.afterwards == 'keep' else 'read and change'} {source.path}: give "
            "it the right to, or say `afterwards: keep`"
        )
    if source.destination is None:
        return
    if not source.destination.is_dir() or not os.access(source.destination, os.W_OK | os.X_OK):
        raise SourceError(
            f"source {source.name}: this user cannot write to a folder {source.destination}: "
            "make it, and give it the right to"
        )
    if source.destination.stat().st_dev != source.path.stat().st_dev:
        raise SourceError(
            f"source {source.name}: {source.destination} is on another file system than "
            f"{source.path}: files are moved within one"
        )
