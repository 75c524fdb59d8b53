"""Stored bundles: from a version in the database to its files, verified."""

from __future__ import annotations

from pathlib import Path

from registry.bundles.bundle import Bundle, read_bundle
from registry.errors import IntegrityError
from registry.tracking import Tracking
from registry.versions import VersionRow, ref


class BundleStore:
    """Opens the bundle of a version; each is fetched and verified once a process."""

    def __init__(self, tracking: Tracking, cache: Path) -> None:
        self._tracking = tracking
        self._cache = cache
        self._opened: dict[str, Bundle] = {}

    def open(self, version: VersionRow) -> Bundle:
        """Return a version's bundle.

        Raises
        ------
        IntegrityError
            If the stored files are no longer those that were registered.
        NotFoundError
            If they are gone.
        """
        known = self._opened.get(version.bundle_digest)
        if known is not None:
            return known
        directory = self._tracking.fetch(version.artifact_uri, self._cache)
        bundle = read_bundle(directory)
        if bundle.digest != version.bundle_digest:
            raise IntegrityError(
                f"the stored files of {ref(version)} have digest {bundle.digest[:12]}, not "
                f"{version.bundle_digest[:12]} as registered: it is not used; restore the files"
            )
        self._opened[version.bundle_digest] = bundle
        return bundle
