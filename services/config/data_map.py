"""What config stores of whom, why and until when."""

from typing import Final

from chassis.data_map import DataMap, StoredTopic, Table, usual_externals
from contracts.classes import DataClass
from contracts.topics import (
    CONFIG_CENSUSES,
    CONFIG_ERASURES,
    CONFIG_REQUESTS,
    INSTALLER_TENANTS,
    PURGER_PURGES,
)

_TENANT: Final = "whose data it is, as the pseudonym that only the installer can resolve"

_AS_LONG_AS_WANTED: Final = "until the customer removes it; at the latest 6 months after the end"

DATA_MAP: Final = DataMap(
    service="config",
    tables=(
        Table(
            name="things",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="the datasources, queries, converters and templates of the customer's app",
            retention=_AS_LONG_AS_WANTED,
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "thing_id": "names the thing",
                "kind": "whether it is a datasource, a query, a converter or a template",
                "name": "what the customer calls it",
                "tags": "by which words the customer finds it",
                "body": "what it says: addresses, options and users of datasources without what"
                " is secret; texts of queries, converters and templates; parameters; spaces",
                "credentials": "with what to log in there, sealed under the tenant's key",
                "position": "where the customer put it among others",
                "created_at": "when it was entered",
                "updated_at": "when it was last changed",
                "version": "how often it was changed, so that no change is lost",
            },
        ),
        Table(
            name="thing_references",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="what refers to what, so that nothing is removed that is in use",
            retention="goes with the thing that refers",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "thing_id": "which thing refers",
                "field": "as what",
                "target_id": "to which other thing",
            },
        ),
        Table(
            name="thing_versions",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="what things were before they were changed, to compare and bring back",
            retention=f"the latest 50 of each thing; {_AS_LONG_AS_WANTED}",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "thing_id": "of which thing",
                "version": "which version of it",
                "name": "what it was called",
                "tags": "by which words it was found",
                "body": "what it said, without what is secret",
                "made_at": "when it became so",
            },
        ),
        Table(
            name="tenant_totals",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="how many things a tenant keeps, as there is a limit",
            retention="goes with the tenant's content",
            counted=False,
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "things": "how many there are",
                "changed_at": "when that last changed",
            },
        ),
        Table(
            name="idempotency_keys",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="which requests created something, so that a repeat creates nothing",
            retention="one day",
            counted=False,
            tenant_column="tenant_id",
            job_table=True,
            columns={
                "tenant_id": _TENANT,
                "key": "the key that the caller made up, as a keyed hash",
                "fingerprint": "the body that came with it, as a keyed hash",
                "thing_id": "what was created",
                "made_at": "from when the day is counted",
            },
        ),
        Table(
            name="export_tickets",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="by which a browser may fetch the tenant's export once",
            retention="until it is used; a minute, and at most an hour until that is noticed",
            counted=False,
            tenant_column="tenant_id",
            job_table=True,
            columns={
                "tenant_id": _TENANT,
                "ticket": "the ticket, as a keyed hash",
                "ends_at": "until when it holds",
            },
        ),
        Table(
            name="tenants",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="whether the tenant may use what it keeps here",
            retention="goes with the tenant's content",
            counted=False,
            tenant_column="tenant_id",
            built_from=(INSTALLER_TENANTS.name,),
            columns={
                "tenant_id": _TENANT,
                "status": "whether the app is installed",
                "platform": "what the app runs on, as Forge keeps its content elsewhere",
                "content": "whether the content is live or on its way out",
            },
        ),
        Table(
            name="moves",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="whose content moves to the tenant that goes on for its own",
            retention="goes with the tenant's content",
            counted=False,
            tenant_column="tenant_id",
            job_table=True,
            columns={
                "purge_id": "the purge that waits for the move",
                "tenant_id": _TENANT,
                "merged_into": "to whom it moves, as a pseudonym as well",
                "state": "whether it has moved, or will not",
                "noted_at": "from when its patience is counted",
                "moved_up_to": "the last thing that has moved",
                "rows_moved": "how many rows have moved",
            },
        ),
        Table(
            name="purge_states",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="shows the customer what will be erased and when",
            retention="until purger sets the tombstone of the tenant's purges",
            tenant_column="tenant_id",
            built_from=(PURGER_PURGES.name,),
            columns={
                "tenant_id": _TENANT,
                "state": "purges, wishes and holds as purger told them: ids, classes and times",
            },
        ),
        Table(
            name="erasure_requests",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="shows the customer that it asked for early erasure, or no longer does",
            retention="until purger sets the tombstone of the tenant's purges",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "wish_id": "names the request",
                "asked_at": "when it was made",
                "heard": "whether purger has named it since",
                "withdrawn_at": "when it was withdrawn",
            },
        ),
    ),
    topics=(
        StoredTopic(
            name=CONFIG_ERASURES.name,
            data_class=CONFIG_ERASURES.erases_as,
            purpose="says that content was erased: ids, counts and times",
            retention="30 days",
            promise="P2",
        ),
        StoredTopic(
            name=CONFIG_CENSUSES.name,
            data_class=CONFIG_CENSUSES.erases_as,
            purpose="tells purger of which tenants data is held, as digests, and as a list on doubt",
            retention="1 day",
            promise="P2",
        ),
        StoredTopic(
            name=CONFIG_REQUESTS.name,
            data_class=CONFIG_REQUESTS.erases_as,
            purpose="says that a customer asks for early erasure, or no longer does: ids and times",
            retention="30 days",
            promise="P1",
        ),
    ),
    externals=usual_externals(DataClass.CONTENT),
)
