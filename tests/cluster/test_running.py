"""A release on a node is installed, says that it is ready, and is called by customers.

The tests follow one release through its life, in this order.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from connect.lifecycle import EventType
from contracts.topics import SERVICES
from tests.support.cluster import Cluster, Figures, until
from tests.support.customers import (
    TAKEN,
    Customers,
    beside_installer,
    calling,
    pod_of_customers,
)
from tests.support.outside import Outside, running_outside

IMAGE = os.environ.get("IMAGE") or "localhost/keepword:latest"


@pytest.fixture(scope="module")
async def outside(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Outside]:
    """Kafka and PostgreSQL at HOST_ADDRESS, with the Secrets of them in the cluster."""
    host = os.environ.get("HOST_ADDRESS")
    if not host:
        pytest.skip(
            "HOST_ADDRESS does not say at which address of this machine the cluster's pods reach it"
        )
    async with running_outside(tmp_path_factory.mktemp("outside"), host) as running:
        await cluster.apply(*running.secrets())
        yield running


@pytest.fixture(scope="module")
def values(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file with the release's values."""
    path: Path = tmp_path_factory.mktemp("values") / "values.yaml"
    path.write_text(yaml.safe_dump(outside.values(IMAGE)), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
async def release(
    cluster: Cluster, outside: Outside, values: str, figures: Figures
) -> AsyncIterator[Cluster]:
    """The chart, installed."""
    said = await cluster.helm(
        "install", "keepword", ".", "--values", values, "--wait", "--timeout=400s"
    )
    nodes = (await cluster.get("nodes"))["items"]
    about = nodes[0]["status"]["nodeInfo"]
    version = (await cluster.helm("version", "--short")).output.strip()
    figures["Nodes"] = f"{len(nodes)}, {about['containerRuntimeVersion']}, {about['osImage']}"
    figures["Helm"] = version.partition("+")[0]
    figures["`helm install --wait`, with four migrations and five pods"] = f"{said.seconds:.0f} s"
    yield cluster
    await cluster.helm("uninstall", "keepword", "--no-hooks", may_fail=True)


@pytest.fixture(scope="module")
async def customers(release: Cluster, outside: Outside) -> AsyncIterator[Customers]:
    """Who calls: from a pod of their own, by the Service."""
    await release.apply(pod_of_customers(IMAGE))
    patch = json.dumps(beside_installer(IMAGE, outside))
    await release.kubectl("patch", "deployment", "keepword-installer", "--patch", patch)
    await release.kubectl("wait", "pod/customers", "--for=condition=Ready", "--timeout=120s")
    await release.rolled_out("installer")
    async with calling(release, outside) as present:
        yield present


async def test_every_service_says_that_it_is_ready(release: Cluster, figures: Figures) -> None:
    said = await release.helm("test", "keepword", "--timeout=180s")
    assert said.output.count("Succeeded") == len(SERVICES)
    figures["`helm test`"] = f"{len(SERVICES)} of {len(SERVICES)} succeeded, {said.seconds:.0f} s"


async def test_a_signed_install_reaches_every_service_and_its_end_is_planned(
    customers: Customers, outside: Outside, figures: Figures
) -> None:
    assert await customers.call("acme", EventType.INSTALLED) == TAKEN

    async def known() -> bool:
        return await outside.tenants() == dict.fromkeys(SERVICES, 1)

    heard = await until(known, "every service knows the tenant")
    assert await customers.call("acme", EventType.UNINSTALLED) == TAKEN

    async def planned() -> bool:
        return bool(await outside.ask("purger", "SELECT count(*) FROM purges"))

    thought = await until(planned, "the purge is planned")
    figures["Signed install through the Service"] = (
        f"taken; known to all four services after {heard:.1f} s; uninstalled, its purge planned"
        f" after {thought:.1f} s"
    )
