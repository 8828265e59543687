"""What a service stores, why and until when: erasure, grants and records are derived from it."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from chassis.database import Connection
from contracts.classes import TENANT_CLASSES, DataClass

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NONE: Final[Mapping[str, DataClass]] = {}


class CyclicReferencesError(Exception):
    """Tables refer to each other in a circle, so no order erases them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: each column with its purpose, all of it with a class, a promise and an end.

    ``columns`` maps a column to its purpose; ``column_classes`` names the columns
    whose class is not the table's. ``promise`` is the policy's ("P1" to "P12").
    ``erase_where`` is a condition in SQL that leaves out rows which an erasure
    must not touch; the eraser role sees no rows but those of tables with a
    ``tenant_column``, unless ``eraser_reads``. The worker role sees a table of a
    service only if it is a ``job_table``. ``built_from`` names the state topics of
    other services from which it is built, and can be built again from nothing,
    unless ``rows_stay`` says why its rows have to be there meanwhile.
    """

    name: str
    data_class: DataClass
    promise: str
    purpose: str
    retention: str
    columns: Mapping[str, str] = field(hash=False)
    column_classes: Mapping[str, DataClass] = field(default_factory=lambda: _NONE, hash=False)
    tenant_column: str | None = None
    job_table: bool = False
    erase_where: str | None = None
    eraser_reads: bool = False
    # Only migrations write it.
    owner_writes_alone: bool = False
    # Nobody changes what was written.
    only_added_to: bool = False
    # Whether a receipt counts its rows: not those that are about the tenant, but of our own making.
    counted: bool = True
    built_from: tuple[str, ...] = ()
    rows_stay: str = ""

    def __post_init__(self) -> None:
        """Refuse what would leave a gap in the record of processing."""
        for name in (self.name, *self.columns):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{self.name}: {name!r} is not a plain lower-case name")
        said = (self.promise, self.purpose, self.retention, *self.columns.values())
        if not self.columns or not all(text.strip() for text in said):
            raise ValueError(f"{self.name}: every column needs a purpose, the table a promise too")
        if self.tenant_column is None and self.data_class in TENANT_CLASSES:
            raise ValueError(f"{self.name}: data of a tenant needs a tenant column")
        named = {*self.column_classes, *([self.tenant_column] if self.tenant_column else [])}
        if unknown := named - self.columns.keys():
            raise ValueError(f"{self.name}: no such columns: {', '.join(sorted(unknown))}")

    def class_of(self, column: str) -> DataClass:
        """The class of one column."""
        return self.column_classes.get(column, self.data_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTopic:
    """A topic that a service owns, as a store of data."""

    name: str
    data_class: DataClass
    purpose: str
    retention: str
    promise: str = "P12"


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A store outside the database: a mail queue, a log store, backups, another system.

    ``setting`` is the environment variable in which an operator says for how many days it
    remembers; without one nobody can look whether the declared ``retention`` is kept.
    """

    name: str
    purpose: str
    retention: str
    data_class: DataClass = DataClass.PLUMBING
    promise: str = "P12"
    setting: str | None = None


def usual_externals(data_class: DataClass) -> tuple[External, ...]:
    """What lies outside every service's database; backups hold what the database holds.

    ``data_class`` is the most telling class of it.
    """
    return (
        External(
            name="backups",
            purpose="to bring the database back after a loss",
            retention="14 days by default; what is sealed in them is unreadable once its key is"
            " destroyed",
            data_class=data_class,
            promise="P1",
            setting="KEEPWORD_BACKUP_RETENTION_DAYS",
        ),
        External(
            name="logs",
            purpose="operation; they name tenants by pseudonym only",
            retention="14 days by default",
            setting="KEEPWORD_LOG_RETENTION_DAYS",
        ),
        External(
            name="traces",
            purpose="operation; they name tenants by pseudonym only",
            retention="14 days by default",
            setting="KEEPWORD_TRACE_RETENTION_DAYS",
        ),
    )


@dataclass(frozen=True, slots=True)
class DataMap:
    """All that one service stores; the chassis's own tables are part of every map."""

    service: str
    tables: tuple[Table, ...] = ()
    topics: tuple[StoredTopic, ...] = ()
    externals: tuple[External, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that could not stand in a statement, and one declared twice."""
        if not _NAME.fullmatch(self.service):
            raise ValueError(f"{self.service!r} is not a plain lower-case name")
        for kind in (self.all_tables, self.topics, self.externals):
            names = [declared.name for declared in kind]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"declared twice: {', '.join(sorted(twice))}")

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """The plumbing and the service's own tables, with those of its migrations."""
        return (*PLUMBING, _version_table(self.service), *self.tables)

    def tables_of(self, classes: Collection[DataClass]) -> tuple[Table, ...]:
        """The service's own tables whose rows go with these classes of a tenant."""
        return tuple(
            table
            for table in self.tables
            if table.data_class in classes and table.tenant_column is not None
        )

    def hash(self) -> str:
        """SHA-256 of all that is declared, in hexadecimal; the order of declaration is nothing."""
        told = {
            "service": self.service,
            "tables": _told(self.all_tables),
            "topics": _told(self.topics),
            "externals": _told(self.externals),
        }
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _told(declared: Iterable[Table | StoredTopic | External]) -> list[dict[str, Any]]:
    by_name = sorted(declared, key=lambda one: one.name)
    return [
        {
            name.name: dict(value) if isinstance(value, Mapping) else value
            for name in dataclasses.fields(one)
            for value in (getattr(one, name.name),)
        }
        for one in by_name
    ]


async def undeclared(connection: Connection, data_map: DataMap) -> list[str]:
    """Compare the live database with the map, both ways; answer each difference in words.

    All schemas are looked at, and partitions count as their parent. Empty when
    nothing differs.
    """
    rows = await connection.fetch(
        """
        SELECT CASE space.nspname WHEN 'public' THEN '' ELSE space.nspname || '.' END
               || class.relname AS table_name,
               array_remove(array_agg(attribute.attname::text), NULL) AS columns
          FROM pg_class AS class
          JOIN pg_namespace AS space ON space.oid = class.relnamespace
          LEFT JOIN pg_attribute AS attribute
            ON attribute.attrelid = class.oid
           AND attribute.attnum > 0
           AND NOT attribute.attisdropped
         WHERE class.relkind IN ('r', 'p', 'f', 'm')
           AND NOT class.relispartition
           AND space.nspname <> 'information_schema'
           AND space.nspname !~ '^pg_'
         GROUP BY 1
        """
    )
    live = {row["table_name"]: set(row["columns"]) for row in rows}
    declared = {table.name: set(table.columns) for table in data_map.all_tables}
    differences = [f"table {name} is not declared" for name in live.keys() - declared.keys()]
    differences += [f"table {name} does not exist" for name in declared.keys() - live.keys()]
    for name in live.keys() & declared.keys():
        unknown, missing = live[name] - declared[name], declared[name] - live[name]
        differences += [f"column {name}.{column} is not declared" for column in unknown]
        differences += [f"column {name}.{column} does not exist" for column in missing]
    return sorted(differences)


async def erasure_order(connection: Connection, tables: Collection[Table]) -> list[Table]:
    """Put tables in an order in which each can be erased: who refers comes before who is meant.

    Read from the live foreign keys; equals come by name. Raises
    ``CyclicReferencesError`` for a circle, also for a table that refers to itself
    unless its rows then cascade or are cut loose.
    """
    by_name = {table.name: table for table in tables}
    rows = await connection.fetch(
        """
        SELECT DISTINCT referring.relname AS referring, meant.relname AS meant
          FROM pg_constraint AS reference
          JOIN pg_class AS referring
            ON referring.oid = coalesce(pg_partition_root(reference.conrelid), reference.conrelid)
          JOIN pg_class AS meant
            ON meant.oid = coalesce(pg_partition_root(reference.confrelid), reference.confrelid)
         WHERE reference.contype = 'f'
           AND referring.relname = ANY($1::text[])
           AND meant.relname = ANY($1::text[])
           AND referring.relnamespace = 'public'::regnamespace
           AND meant.relnamespace = 'public'::regnamespace
           AND NOT (referring.oid = meant.oid AND reference.confdeltype IN ('c', 'n', 'd'))
        """,
        list(by_name),
    )
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_name, ()))
    for row in rows:
        sorter.add(row["meant"], row["referring"])
    try:
        sorter.prepare()
    except CycleError as circle:
        raise CyclicReferencesError(" -> ".join(circle.args[1])) from None
    order: list[Table] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += [by_name[name] for name in ready]
        sorter.done(*ready)
    return order


def grants_sql(data_map: DataMap, service: str) -> list[str]:
    """The statements that give each role of a service what it needs and nothing else.

    Run them as the owner, in one transaction, after every migration: they first
    take everything away. The owner needs no grant. A table that the map does not
    name is open to nobody. ``service`` is the roles' prefix.
    """
    if not _NAME.fullmatch(service):
        raise ValueError(f"{service!r} is not a plain lower-case name")
    runtime, worker, eraser, backup = (
        f'"{service}_{kind}"' for kind in ("runtime", "worker", "eraser", "backup")
    )
    everyone = f"{runtime}, {worker}, {eraser}, {backup}"
    statements = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {everyone}",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {everyone}",
        f"GRANT USAGE ON SCHEMA public TO {everyone}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {runtime}, {worker}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {backup}",
        *(f"GRANT EXECUTE ON FUNCTION {function} TO {worker}" for function in PARTITION_FUNCTIONS),
    ]
    for table in data_map.all_tables:
        for kind, verbs in rights(table, service).items():
            statements.append(f'GRANT {", ".join(verbs)} ON "{table.name}" TO "{service}_{kind}"')
    return statements


def rights(table: Table, service: str) -> dict[str, tuple[str, ...]]:
    """Say what each kind of role of a service may do with a table; others may do nothing."""
    everything: tuple[str, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")
    of_the_worker = {each.name for each in (*PLUMBING, _version_table(service))}
    if table.only_added_to:
        everything = ("SELECT", "INSERT")
    written = ("SELECT",) if table.owner_writes_alone else everything
    found: dict[str, tuple[str, ...]] = {"runtime": written, "backup": ("SELECT",)}
    if table.job_table or table.name in of_the_worker:
        found["worker"] = written
    if _erasable(table):
        found["eraser"] = ("SELECT", "DELETE")
    elif table.eraser_reads:
        found["eraser"] = ("SELECT",)
    return found


def _erasable(table: Table) -> bool:
    # The guard and the record of what was erased must survive the eraser's mistakes.
    return table.tenant_column is not None and table.data_class is not DataClass.ERASURE_PROOF


def _version_table(service: str) -> Table:
    return Table(
        name=f"{service}_migrations",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="which of the service's migrations the database has",
        retention="as long as the database",
        columns={"version_num": "the last migration"},
        owner_writes_alone=True,
    )


# In the worker's hands, who owns no table, to make and drop the outbox's days and the audit's months.
PARTITION_FUNCTIONS: Final = (
    "outbox_make_partitions(date, integer)",
    "outbox_drop_partitions(date)",
    "audit_make_partitions(date, integer)",
    "audit_drop_partitions(date)",
)

_TENANT: Final = "whose data it is about, as the pseudonym that only the installer can resolve"

# What the plumbing holds of a tenant beside its messages to send and its key.
MARKS_OF_A_TENANT: Final = ("inbox", "followed_states", "dead_letter_versions", "dead_letters")

PLUMBING: Final = (
    Table(
        name="chassis_migrations",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="which migrations of the plumbing the database has",
        retention="as long as the database",
        columns={"version_num": "the last migration"},
        owner_writes_alone=True,
    ),
    Table(
        name="outbox",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="messages to send, and the engineers' record of those sent",
        retention="goes with the tenant once sent; else 150 days, erasure-proof rows 30 days",
        tenant_column="tenant_id",
        erase_where=f"data_class <> '{DataClass.ERASURE_PROOF}'",
        column_classes={"payload": DataClass.INSTALLATION},
        columns={
            "written_at": "which day's partition holds the row",
            "position": "order within a transaction",
            "epoch": "under which epoch of the database it was written",
            "xid": "order of transactions, so that the relay passes none over",
            "topic": "where to send it",
            "kind": "whether it is state, command, event or log",
            "record_key": "the record's key, by which the broker keeps order",
            "tenant_id": _TENANT,
            "ce_id": "the message's id, by which repeats are known",
            "type": "what the message is",
            "headers": "the record's headers",
            "payload": "the record's value; none is a tombstone",
            "data_class": "with which class of the tenant's data the row is erased",
        },
    ),
    Table(
        name="relay_cursor",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="how far the outbox has been sent",
        retention="as long as the database",
        eraser_reads=True,
        columns={
            "epoch": "the epoch it counts in",
            "xid": "the last transaction sent",
            "position": "the last row of it sent",
            "cluster_id": "the Kafka cluster it was sent to",
            "saved_at": "when this was noted",
        },
    ),
    Table(
        name="relay_epochs",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="in which database clusters the transaction ids of the outbox were counted",
        retention="as long as the database",
        columns={
            "epoch": "the epoch, by the time at which it was opened",
            "system_identifier": "the database cluster",
            "timeline": "its timeline, which a recovery changes",
            "database_oid": "the database in it",
            "opened_at": "when it was opened",
            "restated_at": "when all state had been written again after it",
            "restored": "whether it began with the restore of an older copy",
            "alive_at": "when it was last in use, by which an old copy is known as such",
        },
    ),
    Table(
        name="positions",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="how far each topic has been read",
        retention="as long as the database",
        columns={
            "consumer": "who reads",
            "topic": "what is read",
            "partition": "which part of it",
            "cluster_id": "the Kafka cluster the offset counts in",
            "next_offset": "the next record to read",
        },
    ),
    Table(
        name="inbox",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="which events were handled, so that a repeat is dropped",
        retention="goes with the tenant; else 150 days",
        tenant_column="tenant_id",
        columns={
            "consumer": "who handled it",
            "ce_id": "the event's id",
            "tenant_id": f"{_TENANT}; empty for what was said about an erasure itself",
            "received_at": "from when its age is counted",
        },
    ),
    Table(
        name="followed_states",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="the version of each tenant's state last handled, so that an older one is dropped",
        retention="goes with the tenant",
        tenant_column="tenant_id",
        columns={
            "consumer": "who follows",
            "topic": "which state topic",
            "tenant_id": _TENANT,
            "epoch": "the version's epoch",
            "n": "the version's number in its epoch",
        },
    ),
    Table(
        name="dead_letters",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="records whose handler gave up, for an engineer to mend and try again",
        retention="goes with the tenant; else 30 days",
        tenant_column="tenant_id",
        column_classes={"payload": DataClass.INSTALLATION},
        columns={
            "dead_letter_id": "names the dead letter",
            "consumer": "who read the record",
            "handler": "which handler gave up",
            "topic": "where the record came from",
            "partition": "which part of the topic",
            "record_offset": "where in the part",
            "tenant_id": _TENANT,
            "ce_id": "the message's id",
            "type": "what the message is",
            "purge_id": "the purge whose later commands are held back",
            "record_key": "the record's key, to try it again",
            "headers": "the record's headers, to try it again",
            "payload": "the record's value, to try it again",
            "reason": "why the handler gave up",
            "error_type": "the kind of error",
            "fingerprint": "groups dead letters of one cause",
            "attempts": "how often it was tried",
            "state": "whether somebody has dealt with it",
            "first_failed_at": "from when its age is counted",
            "number": "the order in which letters came",
            "kind": "whether it is state, command, event or log",
            "step": "which step of the purge a command is about",
            "outcome": "what became of it",
            "settled_at": "when that was",
        },
    ),
    Table(
        name="dead_letter_versions",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="mended bodies of dead letters; the original stays as it came",
        retention="goes with the dead letter",
        tenant_column="tenant_id",
        column_classes={"payload": DataClass.INSTALLATION},
        columns={
            "dead_letter_id": "which dead letter it is of",
            "version": "which version, counted from the original as 1",
            "tenant_id": _TENANT,
            "payload": "the body to try instead",
            "made_at": "when it was made",
        },
    ),
    Table(
        name="dead_letter_acts",
        data_class=DataClass.PLUMBING,
        promise="P12",
        purpose="who of our staff mended, tried again or put aside a dead letter, and why",
        retention="400 days",
        columns={
            "act_id": "names the act, and orders them",
            "dead_letter_id": "which dead letter it is about",
            "fingerprint": "the cause of that letter, which outlives it",
            "act": "what was done",
            "by_whom": "who of our staff did it",
            "reason": "why, in words that name nobody",
            "at": "when",
        },
    ),
    Table(
        name="staff_sign_ons",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="members of staff on their way to the identity provider, and back",
        retention="until they are back; else 10 minutes, taken away within the hour",
        columns={
            "state_hash": "the hash of what the provider's answer has to repeat",
            "browser_hash": "the hash of what the same browser has to show then",
            "return_to": "the page of ours that was wanted",
            "silent": "whether the provider was told to ask nothing",
            "began_at": "from when its age is counted",
        },
    ),
    Table(
        name="staff_sessions",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="which members of staff are signed on, so that nobody else is shown anything",
        retention="8 hours, or 30 minutes without a visit; taken away within the hour",
        columns={
            "session_hash": "the hash of what the browser holds",
            "subject": "the identity provider's name for the person",
            "name": "how pages call the person",
            "roles": "what the person is there for",
            "provider_session": "by which the provider ends it",
            "began_at": "from when its eight hours are counted",
            "seen_at": "from when its thirty minutes are counted",
        },
    ),
    Table(
        name="audit_entries",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="which member of staff did what, so that it can be found and not be denied",
        retention="400 days, whole months at a time",
        only_added_to=True,
        columns={
            "number": "the place in the chain",
            "at": "when",
            "subject": "the identity provider's name for the member of staff",
            "act": "what was asked for: a method and the form of an address; or a word of ours",
            "about": "the ids in that address, as pseudonyms that lead nowhere once the tenant is"
            " gone; of a grant its category, its end and a hash of the reason",
            "previous_hash": "binds it to the entry before",
            "hash": "covers the entry, so that a change shows",
        },
    ),
    Table(
        name="audit_ends",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="where the chain of the audit begins and ends",
        retention="as long as the database",
        columns={
            "id": "which end, or how far a syslog server was told",
            "number": "the last entry, or the last of those that are gone",
            "at": "when that was",
            "hash": "its hash, with which the next entry begins",
        },
    ),
    Table(
        name="audit_checkpoints",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="how far the audit had come when months of it went, so that the rest still verifies",
        retention="as long as the database; names nobody",
        only_added_to=True,
        columns={
            "number": "the last entry that is gone",
            "token": "its number, time and hash, signed",
        },
    ),
    Table(
        name="erased_tenants",
        data_class=DataClass.ERASURE_PROOF,
        promise="P1",
        purpose="the guard: whose data of which class is not to be written any more",
        retention="400 days, as the ledger from which a restored database is erased again",
        tenant_column="tenant_id",
        columns={
            "tenant_id": _TENANT,
            "data_class": "which class is erased",
            "ledger_number": "the ledger's entry that says so",
            "purge_id": "the purge it belongs to",
            "erased_at": "when the guard was set",
        },
    ),
    Table(
        name="erasures",
        data_class=DataClass.ERASURE_PROOF,
        promise="P1",
        purpose="erasures to carry out, and what became of them",
        retention="30 days after they were carried out",
        tenant_column="tenant_id",
        columns={
            "purge_id": "the purge it belongs to",
            "step": "which step of the purge",
            "tenant_id": _TENANT,
            "classes": "which classes to erase",
            "ledger_number": "the ledger's entry that orders it",
            "receipt_code": "by which the customer finds the receipt",
            "state": "how far it has come",
            "attempts": "how often it was tried",
            "claim_token": "which worker is at it",
            "claimed_until": "until when the worker may be",
            "counts": "how many rows of each class were erased",
            "queued_at": "when it was ordered",
            "erased_at": "when it was done",
            "traceparent": "the trace that the order belongs to",
            "restored_at": "when the restore began that brought back what is erased",
        },
    ),
    Table(
        name="tenant_keys",
        data_class=DataClass.PLUMBING,
        promise="P1",
        purpose="the tenant's data key, wrapped; destroying it makes every copy unreadable",
        retention="until the owner's last erasure of the tenant",
        tenant_column="tenant_id",
        columns={
            "tenant_id": _TENANT,
            "wrapped_key": "the data key, encrypted under a key that lies elsewhere",
            "kek_id": "under which key it is encrypted",
            "made_at": "when it was made",
        },
    ),
    Table(
        name="ledger_reader",
        data_class=DataClass.PLUMBING,
        promise="P1",
        purpose="how far this database has applied the erasure ledger",
        retention="as long as the database",
        columns={
            "id": "there is one row",
            "applied_number": "the last entry applied",
            "applied_hash": "its hash, to which the next one is chained",
            "cluster_id": "the Kafka cluster whose head was seen",
            "head_number": "the head's number",
        },
    ),
    Table(
        name="replays",
        data_class=DataClass.PLUMBING,
        promise="P7",
        purpose="which member of the staff let this service hear again what, and why",
        retention="400 days",
        columns={
            "replay_id": "names the replay, and marks its messages",
            "source": "whether they came from an outbox or a topic, or their owner said them anew",
            "types": "which types of messages",
            "tenant_id": "about whom alone, as a pseudonym that leads nowhere once the tenant is gone",
            "since_at": "said from then on",
            "until_at": "said before then",
            "forced": "whether they were handled although they had been",
            "by_whom": "which member of the staff decided it",
            "reason": "why, in that person's words",
            "state": "whether it is under way, paused or done",
            "planned": "how many messages it is about",
            "sent": "how many of them were said again",
            "progress": "where it goes on",
            "began_at": "when it was decided",
            "changed_at": "when it last went on; from then its age is counted",
        },
    ),
)
