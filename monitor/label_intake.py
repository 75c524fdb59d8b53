"""Taking labels in: labels, and the measurements that they allow, in one transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from monitor import labels
from monitor.evaluating import ask_for_measurement
from monitor.intake.pseudonym_keys import PseudonymKeys, revision
from monitor.intake.remembered import RememberedSurrogates
from monitor.labelling import mapping as mappings
from monitor.labelling.fhir import read_fhir
from monitor.labelling.influence import require_site
from monitor.labelling.mapping import LabelMapping, MappingInForce
from monitor.labelling.provenance import Provenance
from monitor.labelling.recognising import Form, read_file, recognised
from monitor.labelling.statements import Reading
from monitor.labelling.structured_reports import read_report
from monitor.labelling.tabular import read_csv, read_rows
from monitor.labelling.values import TaskValues, ValuesOf, champions_values
from monitor.labelling.worklists import state_worklist
from monitor.labels import LabelImport
from monitor.monitors import all_monitors
from monitor.requests.resolving import ask_for_decisions
from registry import ledger
from registry.bundle_store import BundleStore
from registry.clock import Clock
from registry.database import Database
from registry.errors import ConflictError, LabelError
from registry.identities import Identity, Role


class LabelIntake:
    """Takes labels in, from whatever they come in."""

    def __init__(
        self,
        database: Database,
        keys: PseudonymKeys,
        bundles: Callable[[], BundleStore],
        clock: Clock,
    ) -> None:
        self._database = database
        self._keys = keys
        self._bundles = bundles
        self._clock = clock

    def add(
        self, path: Path, *, site: str, by: Identity, provenance: Provenance | None = None
    ) -> LabelImport:
        """Take a file in, whole or not at all; what it is is seen from its content.

        Parameters
        ----------
        provenance : of what a report states; a table says it in each row

        Raises
        ------
        LabelError
            Naming the file and the place.
        """
        by.require(Role.OPERATOR, "import labels", site=site)
        return self._taken(
            lambda: read_file(path), file=path.name, site=site, by=by, provenance=provenance
        )

    def add_content(
        self,
        content: bytes,
        *,
        name: str,
        site: str,
        by: Identity,
        provenance: Provenance | None = None,
    ) -> LabelImport:
        """Take in what came otherwise than in a file; as `add` does.

        Parameters
        ----------
        name : what errors call it
        """
        by.require(Role.OPERATOR, "import labels", site=site)
        return self._taken(lambda: content, file=name, site=site, by=by, provenance=provenance)

    def add_rows(
        self,
        rows: Callable[[], Sequence[Mapping[str, object]]],
        *,
        content: bytes,
        site: str,
        by: Identity,
    ) -> LabelImport:
        """Take rows in that have the columns of a CSV file, all or none.

        Parameters
        ----------
        rows : reads them out of `content`

        Raises
        ------
        LabelError
            Naming the row, from 0, and the column.
        """
        by.require(Role.OPERATOR, "import labels", site=site)
        digest = hashlib.sha256(content).hexdigest()
        with _Recorded(self, form=Form.ROWS, digest=digest, site=site, by=by):
            placed = [
                (f"labels[{number}]", f"labels[{number}]", row)
                for number, row in enumerate(rows())
            ]
            naming, mapping, values_of = self._reading()
            statements = read_rows(placed, site=site, key=naming, values_of=values_of)
            return self._attached(
                Reading(statements=tuple(statements)),
                naming,
                mapping,
                form=Form.ROWS,
                source="the request",
                site=site,
                by=by,
            )

    def apply_mapping(self, specification: LabelMapping, *, by: Identity) -> MappingInForce:
        """Say what codes of reports mean from now on.

        Raises
        ------
        LabelError, ConflictError
            As `monitor.labelling.mapping.apply_mapping` does.
        """
        by.require(Role.OPERATOR, "apply a mapping of labels")
        with self._database.transaction() as session:
            return mappings.apply_mapping(
                session,
                specification,
                values_of_champions=champions_values(session, self._bundles),
                actor=by.name,
                at=self._clock.now(),
            )

    def state_worklist(
        self, *, site: str, ordered_by: str | None, since: datetime, by: Identity
    ) -> int:
        """State who orders a site's worklist; return how many labels that changed.

        Raises
        ------
        LabelError
            As `monitor.labelling.worklists.state_worklist` does.
        """
        by.require(Role.OPERATOR, "state who orders a worklist", site=site)
        with self._database.transaction() as session:
            changed = state_worklist(
                session,
                site=site,
                ordered_by=ordered_by,
                since=since,
                actor=by.name,
                at=self._clock.now(),
            )
            self._ask_for_measurements(session, tuple(row.scan for row in changed))
        return len(changed)

    def record_refusal(
        self,
        error: LabelError,
        *,
        form: Form | None,
        digest: str | None,
        site: str,
        by: Identity,
    ) -> None:
        """Keep that labels were refused, and why; nothing of what they said."""
        with self._database.transaction() as session:
            try:
                require_site(session, site)
                subject = site
            except LabelError:
                # Whatever was typed there is not known to be a site's name.
                subject = "labels"
            ledger.append(
                session,
                at=self._clock.now(),
                actor=by.name,
                kind="labels.refused",
                subject=subject,
                facts={
                    "problem": error.problem,
                    "place": error.place,
                    "form": None if form is None else form.value,
                    "content": digest,
                },
            )

    def _taken(
        self,
        content: Callable[[], bytes],
        *,
        file: str,
        site: str,
        by: Identity,
        provenance: Provenance | None,
    ) -> LabelImport:
        with _Recorded(self, form=None, digest=None, site=site, by=by) as recorded:
            taken = content()
            recorded.digest = hashlib.sha256(taken).hexdigest()
            recorded.form = form = recognised(taken, file=file)
            naming, mapping, values_of = self._reading()
            reading = _read(
                taken,
                form,
                file=file,
                site=site,
                naming=naming,
                mapping=mapping,
                values_of=values_of,
                provenance=provenance,
            )
            return self._attached(
                reading, naming, mapping, form=form, source=file, site=site, by=by
            )

    def _reading(self) -> tuple[RememberedSurrogates, MappingInForce | None, ValuesOf]:
        """Return what labels are read with: keys, and what codes and values mean."""
        self._keys.reload()
        naming = self._keys.current()
        with self._database.reading() as session:
            mapping = mappings.mapping_in_force(session)

        def values_of(task: str) -> TaskValues:
            mapped = mapping.values_of(task) if mapping is not None else None
            if mapped is None:
                with self._database.reading() as session:
                    return champions_values(session, self._bundles)(task)
            return mapped

        known: dict[str, TaskValues] = {}

        def remembered(task: str) -> TaskValues:
            if task not in known:
                known[task] = values_of(task)
            return known[task]

        return naming, mapping, remembered

    def _attached(
        self,
        reading: Reading,
        naming: RememberedSurrogates,
        mapping: MappingInForce | None,
        *,
        form: Form,
        source: str,
        site: str,
        by: Identity,
    ) -> LabelImport:
        counts = Counter(one.provenance.value for one in reading.statements)
        with self._database.transaction() as session:
            if revision(session) != naming.revision:
                raise ConflictError("the keys were replaced meanwhile: import it again")
            report = labels.attach(
                session,
                reading.statements,
                site=site,
                actor=by.name,
                at=self._clock.now(),
                source=source,
                facts={
                    "form": form.value,
                    "mapping": None if mapping is None else mapping.digest,
                    "provenance": dict(sorted(counts.items())),
                },
                passed_over=reading.passed_over,
            )
            self._ask_for_measurements(session, report.scans)
        return report

    def _ask_for_measurements(self, session: Session, scans: tuple[int, ...]) -> None:
        if scans:
            for monitor in all_monitors(session):
                ask_for_measurement(session, monitor, scans)
            ask_for_decisions(session, scans)


class _Recorded:
    """Keeps in the ledger that labels were refused within it, and lets the refusal pass."""

    def __init__(
        self,
        intake: LabelIntake,
        *,
        form: Form | None,
        digest: str | None,
        site: str,
        by: Identity,
    ) -> None:
        self._intake, self._site, self._by = intake, site, by
        self.form, self.digest = form, digest

    def __enter__(self) -> _Recorded:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, LabelError):
            self._intake.record_refusal(
                error, form=self.form, digest=self.digest, site=self._site, by=self._by
            )


def _read(
    content: bytes,
    form: Form,
    *,
    file: str,
    site: str,
    naming: RememberedSurrogates,
    mapping: MappingInForce | None,
    values_of: ValuesOf,
    provenance: Provenance | None,
) -> Reading:
    if form is Form.TABLE:
        if provenance is not None:
            raise LabelError(
                f"{file}: a table says the provenance in each row: leave --provenance out"
            )
        statements = read_csv(content, file=file, site=site, key=naming, values_of=values_of)
        return Reading(statements=tuple(statements))
    if mapping is None:
        raise LabelError(
            f"{file}: nothing says what the codes of a report mean: `driftward label mapping apply "
            "FILE.yaml` first; see docs/labels.md",
            problem="not_mapped",
        )
    if form is Form.STRUCTURED_REPORT:
        return read_report(
            content,
            file=file,
            site=site,
            key=naming,
            mapping=mapping,
            provenance=provenance or Provenance.READER,
        )
    return read_fhir(
        content,
        file=file,
        site=site,
        key=naming,
        mapping=mapping,
        provenance=provenance or Provenance.REPORT,
    )
