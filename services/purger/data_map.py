"""What purger stores: pseudonyms, dates, evidence, and who released the brake."""

from typing import Final

from chassis.data_map import DataMap, External, StoredTopic, Table
from contracts.classes import DataClass

_TENANT: Final = "whose purge it is, as the pseudonym that only the installer can resolve"

DATA_MAP: Final = DataMap(
    "purger",
    tables=(
        Table(
            name="tenants",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="what decides when a tenant's data must go",
            retention="until the installer sets the tenant's tombstone",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "epoch": "the version's epoch",
                "n": "the version's number in its epoch",
                "state": "the tenant's state as the installer told it, without licence numbers",
            },
        ),
        Table(
            name="purges",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="when what has to be erased, and how far that has come",
            retention="30 days after it was closed or withdrawn and the tenant is gone",
            tenant_column="tenant_id",
            columns={
                "purge_id": "names the purge",
                "tenant_id": _TENANT,
                "scope": "which classes of data go",
                "clock": "what began the six months",
                "clock_started_at": "when they began",
                "rule_version": "by which rule the dates were reckoned",
                "deadline": "when everything must be gone, copies as well",
                "erase_by": "when it must be erased, so that copies run out in time",
                "start_at": "when it begins",
                "phase": "how far it has come",
                "changed_at": "since when it has been there",
                "asked_at": "when the installer was first asked, for the brake",
                "ask_again_at": "when to ask again, or not before when to ask",
                "times_asked": "how often it was asked for, so that asking grows rarer",
                "let_through_at": "when two people let it pass the brake",
                "receipt_code": "by which the customer finds the receipt",
            },
        ),
        Table(
            name="steps",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="what each owner of data answered",
            retention="goes with its purge",
            columns={
                "purge_id": "the purge it belongs to",
                "step": "which owner's part it is",
                "ledger_number": "the ledger's entry that orders it",
                "ask_again_at": "when to ask again",
                "times_asked": "how often it was asked for, so that asking grows rarer",
                "counts": "how many rows of each class were erased",
                "data_map_hash": "by which data map the owner looked",
                "erased_at": "when the owner saw that nothing was left",
            },
        ),
        Table(
            name="purge_states",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="the version of what was last said of a tenant's purges",
            retention="30 days after the tenant is gone",
            tenant_column="tenant_id",
            columns={
                "tenant_id": _TENANT,
                "epoch": "the version's epoch",
                "n": "the version's number in its epoch",
                "forgotten_at": "when the tombstone was set",
            },
        ),
        Table(
            name="ledger",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
            purpose="the proof of every erasure, and the list by which restored data goes again",
            retention="as long as the service: the chain holds pseudonyms, dates and counts only",
            columns={
                "number": "the entry's place in the chain",
                "purge_id": "the purge it belongs to",
                "part": "which part of the purge it records, each once",
                "receipt_code": "by which the customer finds the receipt",
                "entry": "the sealed entry, as it was hashed",
            },
        ),
        Table(
            name="ledger_head",
            data_class=DataClass.PLUMBING,
            promise="P1",
            purpose="the last entry, locked by whoever appends",
            retention="as long as the service",
            columns={
                "id": "there is one row",
                "number": "the last entry's number",
                "hash": "the last entry's hash",
            },
        ),
        Table(
            name="ledger_publication",
            data_class=DataClass.PLUMBING,
            promise="P1",
            purpose="how far the ledger has been said, in which Kafka cluster",
            retention="as long as the service",
            columns={
                "id": "there is one row",
                "cluster_id": "the Kafka cluster it was said in",
                "number": "the last entry said",
                "hash": "its hash",
                "head_said_at": "when the ledger's length was last said",
            },
        ),
        Table(
            name="brake",
            data_class=DataClass.PLUMBING,
            promise="P1",
            purpose="whether purges are held back until two people have looked",
            retention="as long as the service",
            columns={
                "id": "there is one row",
                "engaged_at": "since when purges are held back",
                "reason": "why",
                "swept_at": "business time of the last sweep, to see a clock that jumps",
                "swept_wall_at": "wall time of the last sweep",
            },
        ),
        Table(
            name="brake_releases",
            data_class=DataClass.PLUMBING,
            promise="P7",
            purpose="which members of staff let held purges through",
            retention="as long as the service, as evidence of a decision",
            columns={
                "engaged_at": "which holding was released",
                "person": "the name without case and needless spaces, so that two are two",
                "name": "the name as it was given",
                "released_at": "when",
            },
        ),
    ),
    topics=(
        StoredTopic(
            name="purger.purges.v1",
            data_class=DataClass.ERASURE_PROOF,
            purpose="tells others what is planned for a tenant",
            retention="compacted: 5 days after it was replaced; tombstones 14 days",
            promise="P1",
        ),
        StoredTopic(
            name="purger.commands.v1",
            data_class=DataClass.ERASURE_PROOF,
            purpose="tells the owners of data what to erase",
            retention="30 days",
            promise="P1",
        ),
        StoredTopic(
            name="purger.ledger.v1",
            data_class=DataClass.ERASURE_PROOF,
            purpose="the ledger, for services that were restored",
            retention="400 days",
            promise="P1",
        ),
    ),
    externals=(
        External(
            name="database backups",
            purpose="to get purger's database back after a loss",
            retention="KEEPWORD_BACKUP_RETENTION_DAYS",
            data_class=DataClass.ERASURE_PROOF,
            promise="P1",
        ),
    ),
)
