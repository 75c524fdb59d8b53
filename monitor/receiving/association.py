"""One connection, from its request to its release (PS3.8 section 9.2, as the acceptor)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

import structlog

from monitor.intake.image_pixels import is_native
from monitor.intake.writing import ElementWriter, file_of
from monitor.receiving import commands, pdus
from monitor.receiving.admission import Admission, PendingBytes
from monitor.receiving.commands import Command, CommandField, Status
from monitor.receiving.committer import Committer
from monitor.receiving.counters import Counted, CounterRow
from monitor.receiving.negotiation import VERIFICATION, Context, grant, read_request
from monitor.receiving.pdus import PduType, ProtocolError, data_values, read_pdu
from monitor.receiving.settings import ReceiverSettings
from monitor.scans import Fate, Outcome, ScanIntake
from registry import crash_points

log = structlog.get_logger(__name__)

_LAST_WORD_SECONDS = 2.0
# A-ASSOCIATE-RJ (PS3.8 table 9-21).
_PERMANENT, _TRANSIENT = 1, 2
_BY_USER, _BY_PRESENTATION = 1, 3
_CALLING_TITLE, _CALLED_TITLE, _LOCAL_LIMIT = 3, 7, 2

_COUNTED = {
    Outcome.ADDED: Counted.ADDED,
    Outcome.KNOWN: Counted.KNOWN,
    Outcome.QUARANTINED: Counted.QUARANTINED,
    Outcome.FOLLOWED: Counted.FOLLOWED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the associations of one process share."""

    settings: ReceiverSettings
    admission: Admission
    pending: PendingBytes
    #: of what is compressed, which waits longer: it must not fill the room of the others
    pending_compressed: PendingBytes
    intake: ScanIntake
    committer: Committer
    counters: CounterRow
    preparing: Executor
    #: likewise, of what is compressed: it waits for the decoder, and holds nobody else up
    decoding: Executor


@dataclass(slots=True, eq=False)
class _Incoming:
    """The message that is being read; its identity is what holds pending bytes."""

    command: Command | None = None
    context: int = 0
    command_set: bytearray = field(default_factory=bytearray)
    fragments: list[memoryview] = field(default_factory=list)
    size: int = 0
    too_large: bool = False


class Association:
    """A connection that is, or may become, an association."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        surroundings: Surroundings,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._around = surroundings
        self._limits = surroundings.settings.limits
        self._contexts: Mapping[int, Context] = {}
        self._site = ""
        self._established = False
        self._idle_since: float | None = time.monotonic()
        peer = writer.get_extra_info("peername")
        self.address: str = peer[0] if peer else ""
        self._log = log.bind(address=self.address)

    @property
    def idle_since(self) -> float | None:
        return self._idle_since

    def close_now(self) -> None:
        """Abort, and close the connection."""
        if not self._writer.is_closing():
            if self._established:
                self._around.counters.add(Counted.ABORTED_ASSOCIATIONS)
                self._writer.write(pdus.abort())
            self._writer.close()

    async def serve(self) -> None:
        """Serve the connection until it ends, whoever ends it."""
        around = self._around
        around.counters.add(Counted.CONNECTIONS)
        if not around.settings.knows_address(self.address):
            self._log.warning("a connection from an address of no peer was closed")
            self._writer.close()
            return
        around.admission.connected(self)
        try:
            if await self._associate():
                await self._receive()
        except ProtocolError as error:
            self._say_aborted(str(error))
            self._abort()
        except TimeoutError:
            self._say_aborted("nothing came in time")
            self._abort()
        except OSError:
            pass  # the peer has gone; whatever was not acknowledged, it sends again
        except Exception as error:  # noqa: BLE001 - one association must not end the others
            self._log.error("association aborted", why=type(error).__name__)
            self._abort()
        finally:
            around.admission.left(self)
            self._established = False
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._limits.pdu_seconds):
                    await self._writer.wait_closed()

    async def _associate(self) -> bool:
        """Answer the request, and say whether it was granted."""
        async with asyncio.timeout(self._limits.request_seconds):
            pdu = await read_pdu(self._reader)
        if pdu is None:
            return False
        if pdu.type is not PduType.ASSOCIATE_RQ:
            raise ProtocolError("the first PDU is no association request")
        request = read_request(pdu.body)
        settings = self._around.settings
        self._log = self._log.bind(title=request.calling_title)
        if not settings.any_called_title and request.called_title != settings.title.strip():
            return await self._reject(_PERMANENT, _BY_USER, _CALLED_TITLE, "called title")
        peer = settings.sender(request.calling_title, self.address)
        if peer is None:
            return await self._reject(_PERMANENT, _BY_USER, _CALLING_TITLE, "calling title")
        if not self._around.admission.associate(self):
            return await self._reject(
                _TRANSIENT, _BY_PRESENTATION, _LOCAL_LIMIT, "too many associations"
            )
        granted = grant(request)
        self._contexts, self._site = granted.contexts, settings.site_of(peer)
        self._established = True
        self._around.counters.add(Counted.ASSOCIATIONS)
        await self._send(granted.answer)
        return True

    async def _reject(self, result: int, source: int, reason: int, why: str) -> bool:
        self._around.counters.add(Counted.REJECTED_ASSOCIATIONS)
        self._log.warning("association rejected", why=why)
        await self._send(pdus.reject(result=result, source=source, reason=reason))
        await self._until_closed()
        return False

    async def _until_closed(self) -> None:
        """Leave the closing to the peer for a moment: it may still be reading (PS3.8, Sta13)."""
        self._around.admission.left(self)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                while await self._reader.read(1 << 12):
                    pass

    async def _receive(self) -> None:
        """Answer messages until the association is released or the peer has gone."""
        while True:
            self._idle_since = time.monotonic()
            async with asyncio.timeout(self._limits.idle_seconds):
                pdu = await read_pdu(self._reader)
            if pdu is None or pdu.type is PduType.ABORT:
                return
            if pdu.type is PduType.RELEASE_RQ:
                await self._send(pdus.release_reply())
                await self._until_closed()
                return
            if pdu.type is not PduType.DATA:
                raise ProtocolError("a PDU that has no place in an association")
            self._idle_since = None
            incoming = _Incoming()
            try:
                async with asyncio.timeout(self._limits.message_seconds):
                    await self._read_message(incoming, pdu.body)
                await self._answer(incoming)
            finally:
                await self._pending(incoming).give_back(incoming)

    def _pending(self, incoming: _Incoming) -> PendingBytes:
        context = self._contexts.get(incoming.context)
        if context is None or is_native(context.transfer_syntax):
            return self._around.pending
        return self._around.pending_compressed

    async def _read_message(self, incoming: _Incoming, body: bytes) -> None:
        while not await self._add(incoming, body):
            async with asyncio.timeout(self._limits.pdu_seconds):
                pdu = await read_pdu(self._reader)
            if pdu is None or pdu.type is not PduType.DATA:
                raise ProtocolError("a message was cut short")
            body = pdu.body

    async def _add(self, incoming: _Incoming, body: bytes) -> bool:
        """Add a P-DATA-TF to a message, and say whether it is whole."""
        # A fragment keeps its whole PDU in memory, so the PDU is what is counted.
        if incoming.command is not None and not incoming.too_large:
            await self._pending(incoming).take(incoming, len(body))
        whole = False
        for value in data_values(body):
            if whole:
                raise ProtocolError("a message begins in the PDU that another ends in")
            if value.context not in self._contexts:
                raise ProtocolError("a message under a context that was not granted")
            if value.is_command:
                whole = self._add_command(incoming, value)
            elif incoming.command is None or value.context != incoming.context:
                raise ProtocolError("a data set without its command")
            else:
                incoming.size += len(value.fragment)
                if incoming.size > self._limits.instance_bytes:
                    # Read to its end and thrown away, so that it can be answered.
                    incoming.too_large = True
                    incoming.fragments.clear()
                    await self._pending(incoming).give_back(incoming)
                else:
                    incoming.fragments.append(value.fragment)
                whole = value.is_last
        return whole

    @staticmethod
    def _add_command(incoming: _Incoming, value: pdus.DataValue) -> bool:
        if incoming.command is not None:
            raise ProtocolError("a command within a data set")
        incoming.command_set += value.fragment
        if len(incoming.command_set) > commands.LONGEST_COMMAND:
            raise ProtocolError("a command set of absurd length")
        if not value.is_last:
            return False
        incoming.command = commands.read_command(bytes(incoming.command_set))
        incoming.context = value.context
        return not incoming.command.has_data_set

    async def _answer(self, incoming: _Incoming) -> None:
        command = incoming.command
        if command is None:
            raise ProtocolError("a message without a command")
        if command.field == CommandField.ECHO:
            status, comment = Status.SUCCESS, ""
        elif command.field != CommandField.STORE:
            status, comment = Status.UNRECOGNIZED_OPERATION, ""
        elif self._contexts[incoming.context].abstract_syntax == VERIFICATION:
            raise ProtocolError("an instance under the context of verification")
        else:
            status, comment = await self._store(incoming)
        answer = commands.response(command, status, comment=comment)
        await self._send(pdus.command_pdu(incoming.context, answer))
        if status is Status.SUCCESS and command.field == CommandField.STORE:
            crash_points.reach("receive: acknowledged")

    async def _store(self, incoming: _Incoming) -> tuple[Status, str]:
        counters = self._around.counters
        counters.add(Counted.RECEIVED)
        counters.add(Counted.BYTES, incoming.size)
        if incoming.too_large:
            counters.add(Counted.TOO_LARGE)
            return Status.CANNOT_UNDERSTAND, f"larger than {self._limits.instance_bytes} bytes"
        began = time.perf_counter()
        crash_points.reach("receive: data set complete")
        context = self._contexts[incoming.context]
        content = _as_file(context, incoming.fragments)
        incoming.fragments.clear()
        try:
            fate = await self._stored(content, context)
        except Exception as error:  # noqa: BLE001 - the sender keeps it and tries again
            counters.add(Counted.OUT_OF_RESOURCES)
            # The text of a foreign error may quote its input, so only its type is said.
            self._log.error(
                "not stored, the sender is told to try again", why=type(error).__name__
            )
            return Status.OUT_OF_RESOURCES, "cannot be stored now: send it again later"
        counters.add(_COUNTED[fate.outcome])
        counters.observe(time.perf_counter() - began)
        return Status.SUCCESS, "" if fate.reason is None else f"quarantined: {fate.reason}"

    async def _stored(self, content: bytes, context: Context) -> Fate:
        around = self._around
        native = is_native(context.transfer_syntax)
        arrival = await asyncio.get_running_loop().run_in_executor(
            around.preparing if native else around.decoding,
            lambda: around.intake.prepare(content, site=self._site),
        )
        crash_points.reach("receive: de-identified")
        return await asyncio.wrap_future(around.committer.submit(arrival))

    async def _send(self, content: bytes) -> None:
        self._writer.write(content)
        async with asyncio.timeout(self._limits.pdu_seconds):
            await self._writer.drain()

    def _say_aborted(self, why: str) -> None:
        # Whoever never asked for an association is counted, not told of: a port scan
        # would fill the log.
        say = self._log.warning if self._established else self._log.info
        say("association aborted", why=why)

    def _abort(self) -> None:
        if self._established:
            self._around.counters.add(Counted.ABORTED_ASSOCIATIONS)
        if not self._writer.is_closing():
            self._writer.write(pdus.abort())


def _as_file(context: Context, fragments: list[memoryview]) -> bytes:
    """Return a data set as the file that it would be (PS3.10 section 7), in memory only."""
    meta = ElementWriter()
    meta.put_text("MediaStorageSOPClassUID", context.abstract_syntax)
    meta.put_text("TransferSyntaxUID", context.transfer_syntax)
    return b"".join((file_of(meta, ElementWriter()), *fragments))
