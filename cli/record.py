"""The record of processing (GDPR Article 30), made of the services' data maps."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from chassis.data_map import DataMap, External, StoredTopic, Table
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.topics import SERVICES

EACH: Final = "each"
"""Whose a store is that every service has alike."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipient(_Said):
    """Somebody else who gets to see data."""

    name: str
    place: str
    purpose: str
    safeguard: str


class Controller(_Said):
    """Who answers for the data; only a person can say."""

    name: str
    address: str
    contact: str
    data_location: str
    recipients: tuple[Recipient, ...] = ()


class StoreKind(StrEnum):
    """Where something is kept."""

    TABLE = "table"
    TOPIC = "topic"
    OUTSIDE = "outside"


class Column(_Said):
    """One column, and its class where that is not the table's."""

    name: str
    purpose: str
    data_class: DataClass | None = None


class Store(_Said):
    """One place in which a service, or each of them, keeps something."""

    service: str
    kind: StoreKind
    name: str
    data_class: DataClass
    promise: str
    purpose: str
    retention: str
    columns: tuple[Column, ...] = ()


class Activity(_Said):
    """All processing of one class of data: what it is, about whom, and when it goes."""

    data_class: DataClass
    data: str
    people: str
    until: str
    stores: tuple[Store, ...]


class Record(_Said):
    """The whole record; ``data_maps`` holds the hash of each service's map."""

    controller: Controller
    activities: tuple[Activity, ...]
    measures: tuple[str, ...]
    data_maps: dict[str, str]


_ACTIVITIES: Final[Mapping[DataClass, tuple[str, str, str]]] = {
    DataClass.INSTALLATION: (
        "how Atlassian and the instance are reached, with which secret, under which licence",
        "customers, through their instance; no person is named",
        "at the latest 6 months after the customer left",
    ),
    DataClass.CONTENT: (
        "what customers create in the app",
        "whoever the customer writes about, and the customer's own staff",
        "at the latest 6 months after the customer left",
    ),
    DataClass.ERRORS: (
        "errors in users' browsers; none are taken yet",
        "users of the app, by an anonymous number",
        "90 days, at the latest 6 months after the customer left",
    ),
    DataClass.TICKETS: (
        "support tickets with screenshots",
        "whoever asks for support",
        "at the latest 6 months after the last licence's end",
    ),
    DataClass.CONTACTS: (
        "names and addresses, and what was mailed to them",
        "purchase and technical contacts of a licence",
        "6 months after the last licence's end at the latest",
    ),
    DataClass.ERASURE_PROOF: (
        "that something was erased: pseudonyms, counts, times, hashes",
        "nobody by name; only the installer can resolve the pseudonym of a tenant, until it is gone",
        "by age, as each store says",
    ),
    DataClass.PLUMBING: (
        (
            "what is no single class's: a tenant's state and licences, which outlive each class and"
            " go with the last; messages under way; decisions of members of staff"
        ),
        "nobody by name, except members of staff who decided something",
        "with the tenant, or by age, as each store says",
    ),
}

_MEASURES: Final = (
    (
        "Five database roles for each service, each with what it needs; row-level security, forced,"
        " where customers' content and contacts lie."
    ),
    (
        "Secrets, credentials, names and addresses are sealed with AES-256-GCM under a key of each"
        " tenant and owner. Destroying the key makes every copy unreadable."
    ),
    (
        "Key-encryption keys lie outside the databases and change; the old one is destroyed after"
        " the longest retention of backups."
    ),
    (
        "Between services only pseudonyms, licence numbers, states, dates and counts travel. No"
        " secret, client key, host or person is on the bus, in a log, a metric or a trace."
    ),
    (
        "An erasure keeps writers out before it begins, and looks again after it with a role that"
        " proves that it can see."
    ),
    "A signed, chained ledger of erasures is applied before a restored service opens its doors.",
    (
        "Connections from outside use TLS; Kafka authenticates each service and lets it read and"
        " write only its own topics."
    ),
)


def load_controller(path: Path) -> Controller:
    """Read who answers for the data; raises OSError, or ValueError that says what is wrong."""
    return Controller.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def data_map_of(service: str) -> DataMap:
    """Find a service's data map by the service's name."""
    found: DataMap = import_module(f"services.{service}.data_map").DATA_MAP
    return found


def make_record(controller: Controller, maps: Sequence[DataMap]) -> Record:
    """Say what these services keep of whom, why and until when; every store is in it once."""
    stores = _in_common([list(_stores_of(each)) for each in maps])
    return Record(
        controller=controller,
        activities=tuple(
            Activity(
                data_class=data_class,
                data=data,
                people=people,
                until=until,
                stores=tuple(store for store in stores if store.data_class is data_class),
            )
            for data_class, (data, people, until) in _ACTIVITIES.items()
        ),
        measures=_MEASURES,
        data_maps={each.service: each.hash() for each in maps},
    )


def record_of_all(controller: Controller) -> Record:
    """Make the record of the four services."""
    return make_record(controller, [data_map_of(service) for service in SERVICES])


def _stores_of(data_map: DataMap) -> Iterable[Store]:
    for table in data_map.all_tables:
        yield _store(data_map.service, StoreKind.TABLE, table, _columns(table))
    for topic in data_map.topics:
        yield _store(data_map.service, StoreKind.TOPIC, topic)
    for external in data_map.externals:
        yield _store(data_map.service, StoreKind.OUTSIDE, external)


def _store(
    service: str,
    kind: StoreKind,
    declared: Table | StoredTopic | External,
    columns: tuple[Column, ...] = (),
) -> Store:
    return Store(
        service=service,
        kind=kind,
        name=declared.name,
        data_class=declared.data_class,
        promise=declared.promise,
        purpose=declared.purpose,
        retention=declared.retention,
        columns=columns,
    )


def _columns(table: Table) -> tuple[Column, ...]:
    return tuple(
        Column(
            name=name,
            purpose=purpose,
            data_class=None if table.class_of(name) is table.data_class else table.class_of(name),
        )
        for name, purpose in table.columns.items()
    )


def _in_common(by_service: Sequence[Sequence[Store]]) -> list[Store]:
    """Name once, as each service's, what all of them declare alike."""
    anybodys = [
        [store.model_copy(update={"service": EACH}) for store in stores] for stores in by_service
    ]
    shared = [store for store in anybodys[0] if all(store in others for others in anybodys[1:])]
    own = [
        store
        for stores, anonymous in zip(by_service, anybodys, strict=True)
        for store, alike in zip(stores, anonymous, strict=True)
        if alike not in shared
    ]
    return [*own, *shared]


# -- how it is shown ----------------------------------------------------------------------------


def as_json(record: Record) -> str:
    """Write the record for programs."""
    return record.model_dump_json(indent=2, exclude_none=True) + "\n"


def as_markdown(record: Record) -> str:
    """Write the record for whoever reads this repository."""
    return _render("privacy-record.md", record)


def as_html(record: Record) -> str:
    """Write the record as one page that fetches nothing."""
    return _render("privacy-record.html", record)


def retention_table(record: Record) -> str:
    """Write in Markdown how long each store remembers: the table that anybody may see."""
    return _render("privacy-table.md", record)


def _render(page: str, record: Record) -> str:
    environment = Environment(
        loader=PackageLoader("cli", "pages"),
        autoescape=page.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(page).render(record=record)


def _cell(text: str) -> str:
    """Let a text stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def stores_of_customers(record: Record) -> str:
    """Give what customers' own screen shows: each store of theirs, what it is for and until when."""
    stores = [
        {
            "data_class": activity.data_class.value,
            "service": store.service,
            "name": store.name,
            "purpose": store.purpose,
            "retention": store.retention,
        }
        for activity in record.activities
        if activity.data_class in TENANT_CLASSES
        for store in activity.stores
        if store.kind is not StoreKind.TOPIC
    ]
    return json.dumps(stores, indent=1, ensure_ascii=False) + "\n"
