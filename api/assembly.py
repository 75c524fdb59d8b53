"""Assembly: every object of an installation is built here, once, and job handlers are bound.

What an object is made of is imported where it is built: a command loads what it uses.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from api.settings import Home, Settings, training_environment

# Declared here, whatever a command loads besides: what verifies or migrates the
# database goes by the tables that are declared.
from monitor import tables as _monitor_tables  # noqa: F401
from monitor.assembling import tables as _unit_tables  # noqa: F401
from monitor.labelling import tables as _label_tables  # noqa: F401
from monitor.requests import tables as _request_tables  # noqa: F401
from monitor.sources import tables as _source_tables  # noqa: F401
from registry import crash_points
from registry import outbox as _outbox_table  # noqa: F401
from registry import runtimes as _runtime_tables  # noqa: F401
from registry import serving as _serving_tables  # noqa: F401
from registry import versions as _version_tables  # noqa: F401
from registry.access import attempts as _attempt_table  # noqa: F401
from registry.access import sessions as _session_table  # noqa: F401
from registry.access import signing_in
from registry.access import tokens as _token_table  # noqa: F401
from registry.clock import Clock, SystemClock
from registry.database import Database
from registry.errors import HomeError
from registry.identities import Identity
from registry.jobs import JobQueue
from retrain import tables as _retrain_tables  # noqa: F401

if TYPE_CHECKING:
    from monitor.assembling.assembler import Assembler
    from monitor.embedding.embedding import Embedder
    from monitor.episodes.attributing import Attributor
    from monitor.evaluating import Evaluator
    from monitor.following.follower import Follower
    from monitor.intake.keeping import QuarantineKeeper, QuarantineRetention
    from monitor.intake.pseudonym_keys import PseudonymKeys
    from monitor.intake.quarantine import Quarantine
    from monitor.intake.vault import Vault
    from monitor.label_intake import LabelIntake
    from monitor.references import ProfileStore
    from monitor.scans import ScanIntake
    from monitor.sources.following import Followers
    from registry.bundle_store import BundleStore
    from registry.jobs import Claim
    from registry.ledger.checkpoint_keys import SigningKey
    from registry.ledger.checkpointing import Checkpointer
    from registry.tracking import Tracking
    from registry.worker import JobHandler, Worker
    from retrain.backtesting.question import Question
    from retrain.backtesting.replay import TellMoment
    from retrain.backtesting.report import Backtest
    from retrain.executors.executor import Executor
    from retrain.training import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxDeliverer:
    """Does the job `deliver outbox`."""

    database: Database
    tracking: Tracking

    def handle(self, claim: Claim) -> None:
        from registry import outbox

        outbox.deliver(self.database, self.tracking, claim=claim)


class Driftward:
    """One installation, its parts built at their first use."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.home = Home(root=settings.home)
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def open(cls, settings: Settings, *, clock: Clock | None = None) -> Driftward:
        """Open an installation that `init` made.

        Raises
        ------
        HomeError
            If there is none.
        NewerSchemaError
            If a newer Driftward wrote it.
        """
        driftward = cls(settings, clock=clock)
        if settings.crash_at is not None:
            crash_points.arm(
                settings.crash_at,
                after=settings.crash_after,
                by=signal.SIGKILL if settings.crash_by == "kill" else signal.SIGSTOP,
            )
        if settings.database_url is None and not driftward.home.database.exists():
            raise HomeError(
                f"{settings.home} is not a Driftward home: `driftward init --home {settings.home}` "
                "makes one, and `driftward demo` shows one at work"
            )
        stored = driftward.database.require_known_schema()
        if settings.database_url is not None and stored is None:
            raise HomeError(
                f"the database of {settings.home} is empty: `driftward init --home "
                f"{settings.home}` makes its tables and the home's keys"
            )
        if settings.database_url is not None and not driftward.home.pseudonym_key.exists():
            raise HomeError(
                f"{settings.home} is not the home of the database that DRIFTWARD_DATABASE_URL "
                f"names: it has no {driftward.home.pseudonym_key}; name that home with --home"
            )
        driftward.database.migrate()
        return driftward

    @cached_property
    def threads(self) -> int:
        return self.settings.threads or len(os.sched_getaffinity(0))

    @cached_property
    def database(self) -> Database:
        url = self.settings.database_url or f"sqlite:///{self.home.database.resolve()}"
        return Database(url)

    @cached_property
    def tracking(self) -> Tracking:
        from registry.tracking import Tracking

        folder = self.home.mlflow.resolve()
        uri = self.settings.mlflow_uri or f"sqlite:///{folder / 'mlflow.db'}"
        folder.mkdir(parents=True, exist_ok=True)
        return Tracking(uri, folder / "artifacts")

    @cached_property
    def bundles(self) -> BundleStore:
        from registry.bundle_store import BundleStore

        return BundleStore(self.tracking, self.home.work / "bundles")

    @cached_property
    def vault(self) -> Vault:
        from monitor.intake.vault import Vault

        return Vault(self.home.vault)

    @cached_property
    def quarantine(self) -> Quarantine:
        from monitor.intake.quarantine import Quarantine

        return Quarantine.open(self.home.quarantine, key=self.home.quarantine_key)

    @cached_property
    def intake(self) -> ScanIntake:
        return self.new_intake()

    def new_intake(self) -> ScanIntake:
        """Return an intake for one who takes scans in by themselves."""
        from monitor.intake.burned_in_text import require_engine
        from monitor.intake.sealing import Sealer
        from monitor.intake.study_time import StudyTime
        from monitor.scans import ScanIntake

        if self.settings.text_recognition:
            require_engine()
        public = self.settings.reidentification_key
        return ScanIntake(
            self.database,
            self.vault,
            self.quarantine,
            self.pseudonym_keys,
            self.clock,
            sealer=None if public is None else Sealer.from_file(public),
            study_time=StudyTime(self.settings.study_time),
            recognises_text=self.settings.text_recognition,
        )

    @cached_property
    def pseudonym_keys(self) -> PseudonymKeys:
        from monitor.intake.pseudonym_keys import PseudonymKeys

        return PseudonymKeys(self.database, self.home.pseudonym_key)

    @cached_property
    def quarantine_keeper(self) -> QuarantineKeeper:
        from monitor.intake.keeping import QuarantineKeeper

        return QuarantineKeeper(self.database, self.quarantine, self.intake, self.clock)

    @cached_property
    def quarantine_retention(self) -> QuarantineRetention:
        from monitor.intake.keeping import QuarantineRetention

        return QuarantineRetention(
            self.database,
            lambda: self.quarantine,
            self.clock,
            keep_for=timedelta(days=self.settings.quarantine_days),
        )

    @cached_property
    def followers(self) -> Followers:
        """What follows sources; each has an intake of its own."""
        from monitor.intake.keys import load_key
        from monitor.sources.following import Followers

        key = load_key(self.home.pseudonym_key)
        return Followers(
            database=self.database,
            clock=self.clock,
            intake=self.new_intake,
            key=key,
        )

    @cached_property
    def label_intake(self) -> LabelIntake:
        from monitor.label_intake import LabelIntake

        return LabelIntake(self.database, self.pseudonym_keys, lambda: self.bundles, self.clock)

    @cached_property
    def profiles(self) -> ProfileStore:
        from monitor.references import ProfileStore

        return ProfileStore(self.home.profiles.resolve())

    @cached_property
    def embedder(self) -> Embedder:
        from monitor.embedding.embedding import Embedder
        from retrain.shadow.reading import in_shadow

        return Embedder(
            self.database,
            self.bundles,
            self.vault,
            self.clock,
            device=self.settings.device,
            threads=self.threads,
            shadows=in_shadow,
        )

    @cached_property
    def assembler(self) -> Assembler:
        from monitor.assembling.assembler import Assembler

        return Assembler(self.database, self.vault, self.clock)

    @cached_property
    def evaluator(self) -> Evaluator:
        from monitor.evaluating import Evaluator

        return Evaluator(
            self.database, self.profiles, self.embedder, self.attributor, self.clock
        )

    @cached_property
    def attributor(self) -> Attributor:
        from monitor.episodes.attributing import Attributor

        return Attributor(self.profiles, self.embedder)

    @cached_property
    def follower(self) -> Follower:
        from monitor.following.follower import Follower

        return Follower(self.database, self.profiles, self.clock, attributor=self.attributor)

    @cached_property
    def trainer(self) -> Trainer:
        from retrain.training import Trainer

        return Trainer(
            self.database,
            self.bundles,
            self.tracking,
            self.embedder,
            self.clock,
            work=self.home.work.resolve(),
            threads=self.threads,
            executor=self.executor,
        )

    @cached_property
    def checkpointer(self) -> Checkpointer:
        from registry.ledger.checkpointing import Checkpointer

        return Checkpointer(
            self.database,
            self.clock,
            key=self.checkpoint_key,
            folder=self.settings.checkpoint_folder,
        )

    def checkpoint_key(self) -> SigningKey:
        """Load the private key of checkpoints.

        Raises
        ------
        CheckpointKeyError
        """
        from registry.ledger.checkpoint_keys import load_signing_key

        chosen = self.settings.checkpoint_key
        return load_signing_key(
            self.home.checkpoint_key if chosen is None else chosen.get_secret_value()
        )

    @cached_property
    def executor(self) -> Executor:
        """Where candidates are trained."""
        from retrain.executors.local import LocalExecutor
        from retrain.executors.ray_cluster import RayExecutor

        address = self.settings.ray_address
        if address is None:
            return LocalExecutor(training_environment())
        return RayExecutor(address, training_environment(), gpus=self.settings.ray_gpus)

    def backtest(self, question: Question, *, tell: TellMoment | None = None) -> Backtest:
        """Replay a plan on a monitor's past; nothing here changes."""
        from retrain.backtesting.backtest import backtest

        return backtest(
            self.database,
            question,
            profiles=self.home.profiles.resolve(),
            work=self.home.work,
            open_bundle=self.bundles.open,
            embed=self.embedder.embeddings,
            tell=tell,
        )

    @cached_property
    def handlers(self) -> Mapping[str, JobHandler]:
        """What does each kind of job."""
        from monitor.assembling.assembler import ASSEMBLE
        from monitor.evaluating import DECIDE, EVALUATE, MEASURE, PerformanceMeter
        from monitor.following.follower import FOLLOW
        from monitor.intake.keeping import PURGE
        from monitor.silence.watch import WATCH_ARRIVALS, SilenceWatcher
        from registry.ledger.checkpointing import CHECKPOINT
        from retrain.deciding import Decider
        from retrain.promotion import DELIVER_OUTBOX, RENEW_REFERENCE
        from retrain.readers import BundleReader
        from retrain.renewal import ReferenceRenewer
        from retrain.runs import TRAIN, VALIDATE
        from retrain.scheduling import EMBED
        from retrain.shadow.ending import END_SHADOW, ShadowEnder
        from retrain.stage_entering import ENTER_STAGE, StageEnterer
        from retrain.validating import Validator
        from retrain.watching.looking import WATCH, Watcher

        return {
            ASSEMBLE: self.assembler.handle,
            EMBED: self.embedder.handle,
            EVALUATE: self.evaluator.handle,
            FOLLOW: self.follower.handle,
            MEASURE: PerformanceMeter(self.database, self.clock).handle,
            WATCH_ARRIVALS: SilenceWatcher(self.database, self.clock).handle,
            DECIDE: Decider(self.database, self.clock).handle,
            TRAIN: self.trainer.handle,
            VALIDATE: Validator(
                self.database,
                BundleReader(self.bundles, self.embedder),
                self.tracking,
                self.clock,
            ).handle,
            RENEW_REFERENCE: ReferenceRenewer(
                self.database, self.profiles, self.embedder, self.clock
            ).handle,
            END_SHADOW: ShadowEnder(self.database, self.clock).handle,
            WATCH: Watcher(self.database, self.clock).handle,
            ENTER_STAGE: StageEnterer(self.database, self.clock).handle,
            PURGE: self.quarantine_retention.handle,
            CHECKPOINT: self.checkpointer.handle,
            DELIVER_OUTBOX: OutboxDeliverer(
                database=self.database, tracking=self.tracking
            ).handle,
        }

    def worker(self) -> Worker:
        """Return a worker that does every kind of job."""
        from registry.worker import Worker

        return Worker(JobQueue(self.database), self.handlers)

    def whoever_runs_this(self) -> Identity:
        """Return whose token the environment holds, or else the operating system user's identity.

        Raises
        ------
        NotSignedInError
            If the token may not be used.
        NotPermittedError
            If no identity is bound to the user.
        """
        token = self.settings.shown_token()
        if token is None:
            return self.local_user()
        return signing_in.by_token(self.database, token, at=self.clock.now()).identity

    def local_user(self) -> Identity:
        """Return the identity of the operating system's user.

        Raises
        ------
        NotPermittedError
            If there is none, or it was disabled.
        """
        return signing_in.by_operating_system(self.database, at=self.clock.now())
