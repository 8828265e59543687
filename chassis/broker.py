"""Knows how this service reaches Kafka, and waits for it."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, ProducerClosed, SaslAuthenticationFailed
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import SASLScram512

from chassis.settings import ServiceSettings

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_SECONDS = 10.0


def _quiet_logger() -> logging.Logger:
    """Return FastStream's logger without its lines for every batch, and its reminder that topics are made by others."""
    logger = logging.getLogger("faststream")
    logger.setLevel(logging.ERROR)
    return logger


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where Kafka is, and as whom we speak to it."""

    bootstrap_servers: str
    client_id: str
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    request_timeout_ms: int = 20_000

    @classmethod
    def of(cls, settings: ServiceSettings) -> "KafkaAccess":
        """Take the access from a service's settings."""
        password = settings.kafka_password
        return cls(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            client_id=f"keepword-{settings.service}",
            username=settings.kafka_username,
            password=password.get_secret_value() if password else None,
            ca_file=str(settings.kafka_ca_file) if settings.kafka_ca_file else None,
        )

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
        }
        if self.username:
            options |= {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
                "ssl_context": self._tls(),
            }
        return options

    def producer(self) -> AIOKafkaProducer:
        """Return a producer that keeps the order of a partition and asks all replicas."""
        return AIOKafkaProducer(
            **self.client_options(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=131_072,
            request_timeout_ms=self.request_timeout_ms,
        )

    @asynccontextmanager
    async def producing(self) -> AsyncIterator[AIOKafkaProducer]:
        """Run a producer; what is still on its way when something fails is given up."""
        producer = self.producer()
        await producer.start()
        try:
            yield producer
        except BaseException:
            # Closing waits for what is on its way; what is given up would hold it for ever, and
            # the client has no public word for that.
            producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - see above
            with suppress(Exception):  # it may miss what was given up; why is more telling
                await producer.stop()
            raise
        await producer.stop()

    def consuming_broker(self) -> KafkaBroker:
        """Return FastStream's broker as all our consumers use it.

        The acknowledgement is chosen here, once: the default lets the client commit on a timer,
        whatever the handler did. It only reads; the relay alone produces.
        """
        security = None
        if self.username:
            security = SASLScram512(
                self.username, self.password or "", use_ssl=True, ssl_context=self._tls()
            )
        return KafkaBroker(
            self.bootstrap_servers,
            client_id=self.client_id,
            security=security,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            consumer_only=True,
            allow_auto_create_topics=False,
            apply_types=False,
            graceful_timeout=20.0,
            # While no broker answers, the default would ask ten times a second.
            retry_backoff_ms=500,
            logger=_quiet_logger(),
        )

    async def cluster_id(self) -> str:
        """Ask Kafka for its cluster's id; raises a KafkaError when it does not answer."""
        admin = AIOKafkaAdminClient(**self.client_options(), request_timeout_ms=10_000)
        try:
            await admin.start()
            answer: dict[str, Any] = await admin.describe_cluster()
            return str(answer["cluster_id"])
        finally:
            await admin.close()

    async def topics(self) -> set[str]:
        """List the topics that are there and that we may know of; raises a KafkaError."""
        admin = AIOKafkaAdminClient(**self.client_options(), request_timeout_ms=10_000)
        try:
            await admin.start()
            return set(await admin.list_topics())
        finally:
            await admin.close()

    async def wait(self, *, pause_seconds: float = 0.5) -> str:
        """Return the cluster's id as soon as Kafka answers; until then say why not, ever less often."""
        while True:
            try:
                return await self.cluster_id()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning(
                    "kafka away, waiting for it",
                    error=type(error).__name__,
                    hint=await self._why_not(),
                )
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def wait_for_topics(self, wanted: Collection[str], *, pause_seconds: float = 0.5) -> None:
        """Return when these topics are there; until then name those that are not, ever less often."""
        while True:
            try:
                missing = sorted(set(wanted) - await self.topics())
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("kafka away, waiting for it", error=type(error).__name__)
            else:
                if not missing:
                    return
                log.warning(
                    "topics missing, waiting for them",
                    topics=missing,
                    hint="make them with `keepword topics apply` or the chart's strimzi.enabled;"
                    " a topic that this user may not read or write looks missing too",
                )
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _why_not(self) -> str:
        """Ask one server why it lets nobody in: the client says "unable to bootstrap" to everything."""
        options = self.client_options()
        host, _, port = options.pop("bootstrap_servers").split(",")[0].rpartition(":")
        try:
            connection = await create_conn(host, int(port), **options, request_timeout_ms=5_000)
        except SaslAuthenticationFailed:
            return (
                "it refuses the user or the password; see KEEPWORD_KAFKA_USERNAME and"
                " KEEPWORD_KAFKA_PASSWORD, and whether the user is made"
            )
        except ssl.SSLError:
            return "its certificate is not believed: see KEEPWORD_KAFKA_CA_FILE"
        except (KafkaError, OSError, TimeoutError, ValueError):
            return "nobody answers at KEEPWORD_KAFKA_BOOTSTRAP_SERVERS"
        connection.close()
        return "its first server answers; is one of the others away?"
