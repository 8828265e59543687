"""What the installer stores: tenants, their installations, and purges that were accepted."""

from typing import Final

from chassis.data_map import DataMap, External, StoredTopic, Table
from contracts.classes import DataClass
from contracts.topics import INSTALLER_ERASURES, INSTALLER_TENANTS

_TENANT: Final = "whose data it is about, as the pseudonym that only this database can resolve"

DATA_MAP: Final = DataMap(
    service="installer",
    tables=(
        Table(
            name="tenants",
            # It outlives each single class: the last of them takes it along.
            data_class=DataClass.PLUMBING,
            promise="P1",
            purpose="the state of each tenant, which the other services follow",
            retention="until every class of the tenant's data is erased, 6 months after the end",
            tenant_column="tenant_id",
            column_classes={"licence_numbers": DataClass.INSTALLATION},
            columns={
                "tenant_id": _TENANT,
                "version_epoch": "orders the states that were said, over a restore too",
                "version_n": "orders the states that were said",
                "status": "whether the app is installed, and how far a purge has come",
                "classes": "which classes of data are live, purging or erased",
                "platform": "on what the app runs",
                "addon_key": "which of the vendor's apps",
                "product_type": "in which product of Atlassian",
                "created_at": "no clock starts before it",
                "departed_at": "when the tenant left, from when the promise is counted",
                "departed_how": "how it is known that it left",
                "subscription_status": "whether the customer pays",
                "subscription_ended_at": "from when the promise is counted as well",
                "licence_numbers": "by which people are found; emptied when a purge begins",
                "purge_id": "the purge that passed the point of no return",
            },
        ),
        Table(
            name="installations",
            data_class=DataClass.INSTALLATION,
            promise="P1",
            purpose="licence validation, contract administration, talking to the instance",
            retention="erased with the tenant, at the latest 6 months after the end",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "live": "whether the tenant is found by these names",
                "addon_key": "which of the vendor's apps (AddOnKey)",
                "product_type": "in which product of Atlassian (ProductType)",
                "client_key": "Atlassian's name of the instance (ClientKey)",
                "base_url": "where the instance is reached (BaseUrl)",
                "service_entitlement_number": "licence validation (ServiceEntitlementNumber)",
                "shared_secret": "signs what we and the instance say (SharedSecret), encrypted",
                "oauth_client_id": "acting for a user of the instance (OauthClientId)",
            },
        ),
        Table(
            name="accepted_purges",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="purges past the point of no return, by which receipts find their tenant",
            retention="until every class of the tenant's data is erased",
            tenant_column="tenant_id",
            columns={
                "purge_id": "the purge",
                "tenant_id": _TENANT,
                "classes": "which classes of data it takes",
                "accepted_at": "when it was accepted",
            },
        ),
    ),
    topics=(
        StoredTopic(
            name=INSTALLER_TENANTS.name,
            data_class=INSTALLER_TENANTS.erases_as,
            purpose="tells the other services the state of each tenant",
            retention="compacted within 5 days; a tombstone when every class is erased",
            promise="P1",
        ),
        StoredTopic(
            name=INSTALLER_ERASURES.name,
            data_class=INSTALLER_ERASURES.erases_as,
            purpose="what the installer answers when a purge asks it; ids and counts only",
            retention="30 days",
            promise="P1",
        ),
    ),
    externals=(
        External(
            name="backups",
            purpose="to bring the database back after a loss",
            retention="14 days; secrets in them are unreadable once their key is destroyed",
            data_class=DataClass.INSTALLATION,
            promise="P1",
        ),
        External(
            name="logs",
            purpose="operation; they name tenants by pseudonym only",
            retention="14 days",
        ),
    ),
)
