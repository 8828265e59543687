"""Who erases a purge's tickets, and what a person's word on it has to be."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

from contracts.classes import DataClass
from contracts.tenants import ClassState

EVIDENCE_KEPT: Final = timedelta(days=400)
"""How long a person's word that tickets are gone is kept: as long as the ledger's topic."""

FIRST_PAUSE_OF_DESK: Final = timedelta(seconds=5)
"""A desk is asked again sooner than mail is sent again: it is no nuisance to anybody."""

MOST_TICKETS_A_TURN: Final = 200
"""So many tickets of one purge are erased before others have their turn."""


class WhatGoes(StrEnum):
    """What an erasure takes of a ticket."""

    TICKET = "ticket"
    PERSONAL_DATA = "personal-data"
    """Its people, texts, comments and attachments; the ticket itself stays, as a number."""


class TicketsGo(StrEnum):
    """Who erases the tickets of a purge."""

    BY_JOB = "open"
    BY_HAND = "by-hand"


LICENCES_UNKNOWN: Final = "licences are not known"
HISTORY_STAYS: Final = "history of tickets"
"""Why the tickets of a purge take a person."""


def licences_may_be_kept(classes: Mapping[DataClass, ClassState]) -> bool:
    """Whether a tenant's state says by which licence numbers its tickets are found.

    From the point of no return on it says none, and those that were said last
    are what its erasure goes by.
    """
    return all(state is ClassState.LIVE for state in classes.values())


def who_erases_tickets(
    licence_numbers: Sequence[str] | None, *, has_desk: bool, goes_on: bool
) -> TicketsGo | None:
    """Say who looks for a tenant's tickets; None where there is nothing to look for.

    Numbers that were never heard (None) are no proof that there are no tickets:
    then a person looks. Where another tenant goes on for this one, the licence
    and its tickets are that one's.
    """
    if not has_desk or goes_on:
        return None
    if licence_numbers is None:
        return TicketsGo.BY_HAND
    return TicketsGo.BY_JOB if licence_numbers else None


def history_stays(what_goes: WhatGoes, tickets: int) -> bool:
    """Whether what a desk keeps of former texts is left, which no program can reach."""
    return what_goes is WhatGoes.PERSONAL_DATA and tickets > 0


MOST_EVIDENCE: Final = 300
_AN_ADDRESS: Final = "@"


def complaint_about_evidence(evidence: str) -> str | None:
    """Say why a text is no evidence of an erasure; None where it may be kept.

    Nobody can tell a name from other words, so this finds the plainest mistake alone.
    """
    if not evidence.strip() or len(evidence) > MOST_EVIDENCE:
        return f"Say with --evidence how you know it, in at most {MOST_EVIDENCE} characters."
    if not evidence.isprintable():
        return "The evidence has to be one line of text."
    if _AN_ADDRESS in evidence:
        return "The evidence names an address. It is kept, so it must name nobody."
    return None
