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
    REPLAYS,
)

_TENANT: Final = "whose data it is, as the pseudonym that only the installer can resolve"

DATA_MAP: Final = DataMap(
    service="config",
    tables=(
        Table(
            name="datasources",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="the systems from which the customer's app reads, as the customer entered them",
            retention="until the customer removes it; at the latest 6 months after the end",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "datasource_id": "names the datasource",
                "name": "what the customer calls it",
                "kind": "whether it is a database or a REST service",
                "url": "where it is, without credentials",
                "options": "how to talk to it",
                "username": "as whom to log in there",
                "credentials": "with what to log in there, sealed under the tenant's key",
                "created_at": "when it was entered",
                "updated_at": "when it was last changed",
                "version": "how often it was changed, so that no change is lost",
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
                "moved_up_to": "the last datasource that has moved",
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
        StoredTopic(
            name=REPLAYS["config"].name,
            data_class=REPLAYS["config"].erases_as,
            purpose="what others have said, once more for this service alone: ids, classes and times",
            retention="1 day",
        ),
    ),
    externals=usual_externals(DataClass.CONTENT),
)
