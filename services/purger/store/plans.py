"""A purge's plan, as its row has it."""

import asyncpg

from contracts.classes import DataClass
from contracts.purges import Plan

PLAN = """
    purge_id, tenant_id, scope, clock, clock_started_at, rule_version, deadline, erase_by,
    start_at, phase, classes, held
"""


def plan_of(row: asyncpg.Record) -> Plan:
    """Read the plan out of a row with the columns ``PLAN``."""
    return Plan.model_validate({name: row[name] for name in Plan.model_fields})


def part_of(row: asyncpg.Record) -> tuple[DataClass, ...] | None:
    """Read which classes a purge is of; None where it is of all that its scope has."""
    return None if row["classes"] is None else tuple(DataClass(name) for name in row["classes"])
