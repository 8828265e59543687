"""A purge's plan, as its row has it."""

from typing import Any
from uuid import UUID

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


def values_of(tenant_id: UUID, plan: Plan) -> tuple[Any, ...]:
    """Give what stands in the columns ``PLAN``, in their order."""
    return (
        plan.purge_id,
        tenant_id,
        plan.scope,
        plan.clock,
        plan.clock_started_at,
        plan.rule_version,
        plan.deadline,
        plan.erase_by,
        plan.start_at,
        plan.phase,
        plan.classes,
        plan.held,
    )
