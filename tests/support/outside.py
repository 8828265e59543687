"""What lies outside a cluster under test: Kafka, PostgreSQL, and the secrets by which pods reach them."""

import base64
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench.key_host import key_host
from chassis.clock import SystemClock
from contracts.topics import ALL_TOPICS, SERVICES, acls
from deploy.first_secrets import PASSWORDS, make_secrets
from devstack.atlassian import Atlassian, new_atlassian
from devstack.kafka import RunningKafka, Security, create_topics, grant, start_kafka
from devstack.postgres import Roles, RunningPostgres, provision, start_postgres
from tests.support.chart import Manifest

APP_KEY = "com.example.reports"
MAIL_DOMAIN = "apps.example.com"
# Where installer finds the keys of install tokens, by a container beside it.
KEYS_PORT = 8099
CA_SECRET = "kafka-ca"


@dataclass(frozen=True)
class Outside:
    """Servers on an address of this machine that pods reach."""

    kafka: RunningKafka
    postgres: RunningPostgres
    databases: Mapping[str, Roles]
    passwords: Mapping[str, str]
    files: Path
    atlassian: Atlassian
    # Where the keys of its signer are served.
    keys_port: int

    def public_url(self, service: str) -> str:
        """Where the world would call a service."""
        return f"https://{service}.{MAIL_DOMAIN}"

    async def ask(self, service: str, statement: str, *given: Any) -> Any:
        """Ask a service's database for one value."""
        connection = await asyncpg.connect(self.postgres.superuser_url(service))
        try:
            return await connection.fetchval(statement, *given)
        finally:
            await connection.close()

    async def tenants(self) -> dict[str, int]:
        """Count the tenants that each service knows."""
        return {
            service: await self.ask(service, "SELECT count(*) FROM tenants") for service in SERVICES
        }

    async def agree(self) -> bool:
        """Whether all services know the same number of tenants."""
        return len(set((await self.tenants()).values())) == 1

    async def dead_letters(self) -> int:
        """Count the messages that a service has given up."""
        return sum(
            [await self.ask(service, "SELECT count(*) FROM dead_letters") for service in SERVICES]
        )

    def secrets(self) -> Iterator[Manifest]:
        """Give the Secrets that the chart's values name."""
        yield secret(CA_SECRET, {"ca.crt": self.kafka.ca_file.read_bytes()})
        for service, roles in self.databases.items():
            urls = {
                "database-url": roles.runtime_url,
                "worker-database-url": roles.worker_url,
                "eraser-database-url": roles.eraser_url,
            }
            yield secret(f"{service}-db", {name: url.encode() for name, url in urls.items()})
            yield secret(f"{service}-owner", {"owner-database-url": roles.owner_url.encode()})
            yield secret(service, {"password": self.passwords[service].encode()})
            files = sorted((self.files / service).iterdir())
            yield secret(f"{service}-files", {each.name: each.read_bytes() for each in files})

    def values(self, image: str) -> dict[str, Any]:
        """Give the chart's values for an image, as one would write them for these servers."""
        repository, _, tag = image.rpartition(":")
        common: dict[str, dict[str, Any]] = {
            service: {
                "publicUrl": self.public_url(service),
                "database": {"existingSecret": f"{service}-db"},
                "migration": {"existingSecret": f"{service}-owner"},
                "files": {"existingSecret": f"{service}-files"},
            }
            for service in SERVICES
        }
        own: dict[str, dict[str, Any]] = {
            "installer": {
                "settings": {
                    "APPS": f'[{{"key": "{APP_KEY}", "name": "Example Reports"}}]',
                    "INSTALL_KEYS_URL": f"http://127.0.0.1:{KEYS_PORT}",
                },
                "extraEgress": [{"ports": [{"protocol": "TCP", "port": self.keys_port}]}],
            },
            "notifier": {
                "settings": {
                    "SMTP_HOST": self.postgres.host,
                    "SMTP_PORT": "587",
                    "MAIL_FROM": f"privacy@{MAIL_DOMAIN}",
                    "TICKETS": "none",
                }
            },
        }
        return {
            "image": {"repository": repository, "tag": tag},
            "kafka": {
                "bootstrapServers": self.kafka.bootstrap_servers,
                "caSecret": {"name": CA_SECRET},
            },
            "networkPolicy": {
                "kafkaPort": urlsplit(f"//{self.kafka.bootstrap_servers}").port,
                "postgresPort": self.postgres.port,
            },
            **{service: {**common[service], **own.get(service, {})} for service in SERVICES},
        }


@asynccontextmanager
async def running_outside(folder: Path, host: str) -> AsyncIterator[Outside]:
    """Run the servers at an address, with users, topics, permissions, databases and keys."""
    make_secrets(folder / "files", mail_domain=MAIL_DOMAIN, now=SystemClock().now())
    (folder / "files" / PASSWORDS).unlink()
    passwords = {service: os.urandom(16).hex() for service in SERVICES}
    kafka = start_kafka(folder / "kafka", host=host, secured=Security(passwords))
    postgres = start_postgres(folder / "postgres", host=host)
    await create_topics(ALL_TOPICS, **kafka.client_options())
    await grant(acls(), **kafka.client_options())
    databases = await provision(postgres.superuser_url(), SERVICES, folder=folder)
    try:
        async with new_atlassian() as atlassian, key_host(atlassian, host=host) as keys:
            yield Outside(
                kafka,
                postgres,
                databases,
                passwords,
                folder / "files",
                atlassian,
                keys_port=urlsplit(keys).port or 0,
            )
    finally:
        kafka.kill()
        postgres.kill()


def secret(name: str, content: Mapping[str, bytes]) -> Manifest:
    """Make a Secret."""
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
