"""What notifier stores of whom, why and until when."""

from typing import Final

from chassis.data_map import DataMap, External, StoredTopic, Table, usual_externals
from contracts.classes import DataClass
from contracts.topics import NOTIFIER_CENSUSES, NOTIFIER_ERASURES

_TENANT: Final = "whose data it is, as the pseudonym that only the installer can resolve"

DATA_MAP: Final = DataMap(
    service="notifier",
    tables=(
        Table(
            name="contacts",
            data_class=DataClass.CONTACTS,
            promise="P3",
            purpose="whom to write to about a licence and about the erasure of its data",
            retention="6 months after the end of the last licence at the latest",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "contact_id": "names the contact",
                "name": "how to address the person, sealed under the tenant's key",
                "address": "where to write to, sealed under the tenant's key",
                "address_index": "a keyed hash of the address, so that nobody is kept twice",
            },
        ),
        Table(
            name="deliveries",
            data_class=DataClass.CONTACTS,
            promise="P3",
            purpose="one message to one contact each, and what became of it",
            retention="goes with the contact",
            counted=False,
            tenant_column="tenant_id",
            job_table=True,
            columns={
                "delivery_id": "names the delivery",
                "purge_id": "the purge whose receipt it is",
                "tenant_id": _TENANT,
                "contact_id": "to whom it goes",
                "kind": "what is sent",
                "state": "how far it has come",
                "attempts": "how often it was tried",
                "doubts": "how many attempts ended without anybody knowing how",
                "claim_token": "which worker is at it",
                "claimed_until": "until when the worker may be",
                "next_attempt_at": "when it may be tried again",
                "message_id": "the message's own id, the same each time it is sent",
                "status_code": "the mail server's last reply, its number alone",
                "planned_at": "from when its patience is counted",
                "accepted_at": "when the mail server took it",
            },
        ),
        Table(
            name="moves",
            data_class=DataClass.CONTACTS,
            promise="P3",
            purpose="whose people move to the tenant that goes on for theirs",
            retention="goes with the tenant's contacts",
            counted=False,
            tenant_column="tenant_id",
            job_table=True,
            columns={
                "purge_id": "the purge that waits for the move",
                "tenant_id": _TENANT,
                "merged_into": "to whom they move, as a pseudonym as well",
                "state": "whether they have moved, or will not",
                "noted_at": "from when its patience is counted",
            },
        ),
        Table(
            name="tenants",
            data_class=DataClass.CONTACTS,
            promise="P3",
            purpose="whether people of the tenant may be kept, and of which app they are",
            retention="goes with the tenant's contacts",
            counted=False,
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "addon_key": "which of the vendor's apps it is",
                "contacts": "whether the contacts are live or on their way out",
            },
        ),
        Table(
            name="receipts",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="what the ledger says of a purge, for the mails that repeat it",
            retention="30 days",
            job_table=True,
            columns={
                "purge_id": "the purge",
                "receipt_code": "by which anyone who has it finds the receipt",
                "steps": "which owner erased how many records of which class, and when",
                "noted_at": "from when its age is counted",
            },
        ),
    ),
    topics=(
        StoredTopic(
            name=NOTIFIER_ERASURES.name,
            data_class=NOTIFIER_ERASURES.erases_as,
            purpose="says that tickets and contacts were erased: ids, counts and times",
            retention="30 days",
            promise="P3",
        ),
        StoredTopic(
            name=NOTIFIER_CENSUSES.name,
            data_class=NOTIFIER_CENSUSES.erases_as,
            purpose="tells purger of which tenants data is held, as digests, and as a list on doubt",
            retention="1 day",
            promise="P3",
        ),
    ),
    externals=(
        *usual_externals(DataClass.CONTACTS),
        External(
            name="jira service management",
            data_class=DataClass.TICKETS,
            promise="P4",
            purpose="support tickets, with contacts and screenshots",
            retention="6 months after the end at the latest; not connected yet, so by hand",
        ),
        External(
            name="mail queue",
            data_class=DataClass.CONTACTS,
            promise="P3",
            purpose="receipts that the mail server took and has not delivered yet",
            retention="5 days by default",
            setting="KEEPWORD_MAIL_QUEUE_DAYS",
        ),
    ),
)
