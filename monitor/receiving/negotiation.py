"""What an association request asks for, and what of it is granted (PS3.8 section 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from monitor.imaging.stored_samples import DECODED_SYNTAXES
from monitor.intake.image_pixels import NATIVE_SYNTAXES
from monitor.intake.writing import IMPLEMENTATION, IMPLEMENTATION_VERSION
from monitor.receiving.pdus import LONGEST_DATA_PDU, ProtocolError

VERIFICATION = "1.2.840.10008.1.1"
#: Every storage class of the standard, those of later editions and retired ones among them.
_STORAGE_PREFIXES = (
    "1.2.840.10008.5.1.4.1.1.",
    "1.2.840.10008.5.1.4.34.7",
    "1.2.840.10008.5.1.4.34.10",
)
_TRANSFER_SYNTAXES = frozenset(NATIVE_SYNTAXES) | DECODED_SYNTAXES
_APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")

_ACCEPTED = 0x00
_NO_ABSTRACT_SYNTAX = 0x03
_NO_TRANSFER_SYNTAX = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A presentation context that was granted."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An association request."""

    calling_title: str
    called_title: str
    primitive: A_ASSOCIATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The answer to a request, and what may be sent under it."""

    contexts: Mapping[int, Context]
    answer: bytes


def read_request(body: bytes) -> Request:
    """Return the request in the body of an A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(b"\x01\0" + len(body).to_bytes(4, "big") + body)
        primitive = pdu.to_primitive()
        return Request(
            calling_title=pdu.calling_ae_title.strip(),
            called_title=pdu.called_ae_title.strip(),
            primitive=primitive,
        )
    except Exception as error:  # noqa: BLE001 - the codec raises anything on damaged data
        raise ProtocolError(
            f"an association request that cannot be read ({type(error).__name__})"
        ) from None


def grant(request: Request) -> Grant:
    """Grant every context of storage or verification whose image we could decode.

    Of the transfer syntaxes that a context proposes, the first that is decoded
    is granted: senders put first what they hold.
    """
    contexts: dict[int, Context] = {}
    results: list[PresentationContext] = []
    for proposed in request.primitive.presentation_context_definition_list:
        result = PresentationContext()
        result.context_id = proposed.context_id
        result.abstract_syntax = proposed.abstract_syntax
        offered = [str(syntax) for syntax in proposed.transfer_syntax]
        usable = [syntax for syntax in offered if syntax in _TRANSFER_SYNTAXES]
        abstract = str(proposed.abstract_syntax)
        if abstract != VERIFICATION and not abstract.startswith(_STORAGE_PREFIXES):
            result.result = _NO_ABSTRACT_SYNTAX
        elif not usable:
            result.result = _NO_TRANSFER_SYNTAX
        elif proposed.context_id is not None:
            result.result = _ACCEPTED
            contexts[proposed.context_id] = Context(
                abstract_syntax=abstract, transfer_syntax=usable[0]
            )
        result.transfer_syntax = [UID((usable or offered)[0])]
        results.append(result)
    return Grant(contexts=contexts, answer=_answer(request, results))


def _answer(request: Request, results: list[PresentationContext]) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = request.primitive.calling_ae_title
    primitive.called_ae_title = request.primitive.called_ae_title
    primitive.result, primitive.result_source = 0x00, 0x01
    primitive.presentation_context_definition_results_list = results
    longest = MaximumLengthNotification()
    longest.maximum_length_received = LONGEST_DATA_PDU
    software = ImplementationClassUIDNotification()
    software.implementation_class_uid = UID(IMPLEMENTATION)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION
    primitive.user_information = [longest, software, version, *_roles(request)]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    encoded: bytes = pdu.encode()
    return encoded


def _roles(request: Request) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """Answer proposals of roles: the sender is the user of the service, we its provider."""
    answers = []
    for item in request.primitive.user_information:
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation):
            role = SCP_SCU_RoleSelectionNegotiation()
            role.sop_class_uid = item.sop_class_uid
            role.scu_role, role.scp_role = bool(item.scu_role), False
            answers.append(role)
    return answers
