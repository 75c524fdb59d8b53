"""Tables of what is stated about labels: what codes mean, and who orders a worklist."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from registry.database import Base
from registry.ledger import Sealed


class LabelMappingRow(Sealed, Base):
    """What codes of reports mean, from when it was applied until the next one."""

    __tablename__ = "label_mappings"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    digest: Mapped[str]
    specification: Mapped[dict[str, Any]]
    applied_at: Mapped[datetime]


class WorklistRow(Sealed, Base):
    """Who orders the worklist of a site, from a time until that of the next statement."""

    __tablename__ = "worklist_statements"

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    #: a model, or a product that is none here; None where no AI does
    ordered_by: Mapped[str | None]
    since: Mapped[datetime]
    stated_at: Mapped[datetime]
