"""What tests on a real cluster ask for: a namespace of their own, and a page for what they found."""

import json
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cluster import RESTRICTED, Cluster, Figures

PAGE = Path(__file__).parents[2] / "docs" / "cluster-test.md"
HEAD = """\
# What a real cluster said

Written by `make test-cluster` on {today}, by whose run all of this was found so. Kafka (one node, TLS and SCRAM) and PostgreSQL
ran outside the cluster, as [deploy](../deploy/README.md#on-a-real-cluster) tells. Times are of that machine and its other load.

| what | found |
|---|---|
"""

# Who runs a part of it leaves the page alone.
_OF_EACH_FILE = {"Server-side dry run", "Topics are missing"}
_figures = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin a page without figures."""
    config.stash[_figures] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here: nobody runs it against a cluster by accident."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("cluster")
            item.add_marker(pytest.mark.timeout(600))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page, where all was run and is well."""
    figures = session.config.stash[_figures]
    if exitstatus == 0 and {what.partition(",")[0] for what in figures} >= _OF_EACH_FILE:
        rows = "".join(f"| {what} | {found} |\n" for what, found in figures.items())
        PAGE.write_text(HEAD.format(today=f"{datetime.now(UTC):%d %B %Y}") + rows, "utf-8")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """What was found, in the order in which it was."""
    return pytestconfig.stash[_figures]


@pytest.fixture(scope="session")
async def cluster(figures: Figures) -> AsyncIterator[Cluster]:
    """A namespace that is made now and goes with its content; pods in it have to be `restricted`."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster; see deploy/README.md, On a real cluster")
    made = Cluster(f"keepword-test-{secrets.token_hex(3)}")
    await made.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": made.namespace, "labels": RESTRICTED},
        }
    )
    # Where only an API server runs nobody else makes it; elsewhere somebody does at this moment.
    await made.kubectl("create", "serviceaccount", "default", may_fail=True)
    version = json.loads((await made.kubectl("get", "--raw=/version")).output)
    figures["Kubernetes"] = f"{version['gitVersion']}, {version['platform']}"
    yield made
    await made.kubectl("delete", "namespace", made.namespace, "--wait=false")
