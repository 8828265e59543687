"""A release on a node: it is installed, called, replaced, cut off and put back, and loses nothing.

The tests follow one release through its life, in this order.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
CONSUMERS = ("config", "purger", "notifier")
AWAY_SECONDS = 60
MOST_LINES_A_SECOND = 5


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


async def test_a_rolling_upgrade_of_the_installer_loses_no_install(
    release: Cluster, customers: Customers, outside: Outside, values: str, figures: Figures
) -> None:
    before = await outside.ask("installer", "SELECT count(*) FROM tenants")
    old = {pod["metadata"]["name"] for pod in await release.pods("installer")}
    enough = asyncio.Event()
    load = asyncio.create_task(customers.install_steadily("upgrade", 50, enough))
    try:
        said = await release.helm(
            # Migrations come before and are another matter: this is about pods that are replaced.
            *("upgrade", "keepword", ".", "--values", values, "--no-hooks"),
            *("--wait", "--timeout=400s", "--set", "installer.podAnnotations.revision=second"),
        )
    finally:
        enough.set()
        answers = await load

    assert answers == Counter({TAKEN: answers.total()})
    assert (
        await outside.ask("installer", "SELECT count(*) FROM tenants") - before == answers.total()
    )
    assert not old & {pod["metadata"]["name"] for pod in await release.pods("installer")}
    figures["Rolling upgrade of installer under 50 signed installs/s"] = (
        f"{said.seconds:.0f} s, {answers.total()} of {answers.total()} taken and stored"
    )


async def test_a_roll_of_the_consumers_loses_and_doubles_no_effect(
    release: Cluster, customers: Customers, outside: Outside, figures: Figures
) -> None:
    planned = await outside.ask("purger", "SELECT count(DISTINCT tenant_id) FROM purges")
    enough = asyncio.Event()
    load = asyncio.create_task(customers.install_steadily("roll", 10, enough, and_leave=True))
    try:
        await release.kubectl(
            "rollout", "restart", *(f"deployment/keepword-{each}" for each in CONSUMERS)
        )
        await release.rolled_out(*CONSUMERS)
    finally:
        enough.set()
        answers = await load
    assert answers == Counter({TAKEN: answers.total()})
    left = answers.total() // 2

    async def all_planned() -> bool:
        found = await outside.ask("purger", "SELECT count(DISTINCT tenant_id) FROM purges")
        return bool(found == planned + left) and await outside.agree()

    caught_up = await until(all_planned, "every uninstall has its purge, and all know all tenants")
    # Each tenant that left has as many plans as the one that left before, and each of them once.
    by_tenant = await outside.ask(
        "purger",
        "SELECT array_agg(DISTINCT n) FROM (SELECT count(*) AS n FROM purges GROUP BY tenant_id) t",
    )
    assert len(by_tenant) == 1
    assert await outside.dead_letters() == 0
    figures["Roll of config, purger and notifier under 10 installs and 10 uninstalls/s"] = (
        f"{left} tenants came and left: {left} known to each service, {left} with their purge planned"
        f" once, 0 dead letters; caught up {caught_up:.0f} s after the last"
    )


async def test_a_broker_that_is_away_for_a_minute_restarts_nobody(
    release: Cluster, customers: Customers, outside: Outside, figures: Figures
) -> None:
    # A pod that ends while nobody can hear that it leaves its group is waited for by the others.
    await until(release.settled, "no pod is on its way out")
    restarts = await release.restarts()
    names = {pod["metadata"]["name"] for pod in await release.pods()}
    enough = asyncio.Event()
    outside.kafka.stop()
    load = asyncio.create_task(customers.install_steadily("dark", 5, enough))
    with_reason = asyncio.create_task(_unready_while(release, enough))
    # What is measured is a minute without a broker; nothing is waited for that could come sooner.
    await asyncio.sleep(AWAY_SECONDS)
    enough.set()
    answers, unready = await load, await with_reason
    outside.kafka.restart()

    caught_up = await until(outside.agree, "all services know all tenants")
    lines = [len(await release.logs(name, f"--since={AWAY_SECONDS}s")) for name in sorted(names)]
    assert max(lines) < MOST_LINES_A_SECOND * AWAY_SECONDS
    assert answers == Counter({TAKEN: answers.total()})
    assert await release.restarts() == restarts
    assert {pod["metadata"]["name"] for pod in await release.pods()} == names
    assert unready == set()
    figures[f"Broker stopped for {AWAY_SECONDS} s"] = (
        f"0 restarts, every pod stayed ready and logged {max(lines)} lines at most, {answers.total()} of {answers.total()} installs taken"
        f" meanwhile, known to all services {caught_up:.0f} s after it came back"
    )


async def test_an_image_that_is_not_there_is_rolled_back(
    release: Cluster, customers: Customers, values: str, figures: Figures
) -> None:
    pods = {pod["metadata"]["name"] for pod in await release.pods()}
    enough = asyncio.Event()
    load = asyncio.create_task(customers.install_steadily("bad-image", 5, enough))
    try:
        said = await release.helm(
            *("upgrade", "keepword", ".", "--values", values, "--no-hooks", "--atomic"),
            *("--timeout=45s", "--set", "image.tag=is-not-there"),
            may_fail=True,
        )
    finally:
        enough.set()
        answers = await load
    assert said.status != 0
    history = json.loads((await release.helm("history", "keepword", "--output=json")).output)
    assert [each["status"] for each in history[-2:]] == ["failed", "deployed"]
    assert answers == Counter({TAKEN: answers.total()})
    await release.rolled_out(*SERVICES)
    assert {pod["metadata"]["name"] for pod in await release.pods()} >= pods
    figures["Upgrade to an image that is not there"] = (
        f"rolled back by itself after {said.seconds:.0f} s; the pods before never left,"
        f" {answers.total()} of {answers.total()} installs taken meanwhile"
    )


async def test_the_release_before_works_on_the_schema_after(
    release: Cluster, customers: Customers, outside: Outside, values: str, figures: Figures
) -> None:
    for service in SERVICES:
        await outside.ask(service, "ALTER TABLE tenants ADD COLUMN of_the_next_release text")
        await outside.ask(service, f"UPDATE {service}_migrations SET version_num = '9000'")
    await release.helm(
        *("upgrade", "keepword", ".", "--values", values, "--wait", "--timeout=400s"),
        *("--set", "defaults.podAnnotations.revision=next"),
    )
    back = await release.helm("rollback", "keepword", "--wait", "--timeout=400s")

    assert await customers.call("after-going-back", EventType.INSTALLED) == TAKEN
    took = await until(outside.agree, "all services know the new tenant")
    await release.helm("test", "keepword", "--timeout=180s")
    figures["One release back on the newer schema"] = (
        f"`helm rollback` in {back.seconds:.0f} s, no command for the databases; an install is known"
        f" to all services after {took:.1f} s"
    )


async def test_a_missing_secret_is_named_and_no_container_starts(
    release: Cluster, figures: Figures
) -> None:
    pod = await _pod_of_config(release, "no-secret")
    _variable(pod, "KEEPWORD_KAFKA_PASSWORD")["valueFrom"]["secretKeyRef"]["name"] = "nowhere"
    await release.apply(pod)

    async def told() -> bool:
        return "waiting" in (await _state(release, "no-secret"))

    await until(told, "the kubelet says what is missing")
    waiting = (await _state(release, "no-secret"))["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"] == 'secret "nowhere" not found'
    figures["A Secret is missing"] = f"`{waiting['message']}`, and no container starts"


async def test_a_wrong_password_of_kafka_is_named_and_waited_for(
    release: Cluster, figures: Figures
) -> None:
    pod = await _pod_of_config(release, "wrong-password")
    variable = _variable(pod, "KEEPWORD_KAFKA_PASSWORD")
    variable.pop("valueFrom")
    variable["value"] = "not-the-password"
    await release.apply(pod)
    lines = await _warnings(release, "wrong-password", "kafka away, waiting for it", 4)

    assert "KEEPWORD_KAFKA_PASSWORD" in lines[-1]["hint"]
    assert "redacted" not in lines[-1]["hint"]
    assert "not-the-password" not in str(lines)
    assert await _restarts_of(release, "wrong-password") == 0
    figures["A wrong password of Kafka"] = _told(lines)


async def test_a_schema_that_is_too_new_is_named_and_restarts_grow_rare(
    release: Cluster, outside: Outside, figures: Figures
) -> None:
    version = await outside.ask("config", "SELECT version_num FROM config_migrations")
    await outside.ask("config", "UPDATE config_migrations SET version_num = '9000'")
    await outside.ask("config", "COMMENT ON TABLE config_migrations IS '8999'")
    try:
        await release.apply(await _pod_of_config(release, "too-new"))

        async def held_back() -> bool:
            waiting = (await _state(release, "too-new")).get("waiting", {})
            restarts = await _restarts_of(release, "too-new")
            return restarts >= 2 and waiting.get("reason") == "CrashLoopBackOff"

        took = await until(held_back, "the kubelet starts it ever more seldom", within_seconds=240)
        status = await _status(release, "too-new")
        ended = (status["lastState"] or status["state"])["terminated"]
        assert ended["exitCode"] == 2
        # What `kubectl describe` shows: the last line, which is the only one that matters.
        told = json.loads(ended["message"].strip().splitlines()[-1])
        assert told["event"] == "cannot start"
        assert "start the newer release again" in told["reason"]
        figures["A schema that is too new"] = (
            f"`{told['reason']}`, status 2; `CrashLoopBackOff` after {took:.0f} s and three starts"
        )
    finally:
        await outside.ask("config", "COMMENT ON TABLE config_migrations IS NULL")
        await outside.ask("config", "UPDATE config_migrations SET version_num = $1", version)


async def test_a_missing_topic_is_named_and_waited_for(
    release: Cluster, outside: Outside, figures: Figures
) -> None:
    pod = await _pod_of_config(release, "no-topic")
    # To a user that may not see them, topics look missing: nobody else loses one meanwhile.
    _variable(pod, "KEEPWORD_KAFKA_USERNAME")["value"] = "purger"
    _variable(pod, "KEEPWORD_KAFKA_PASSWORD")["valueFrom"]["secretKeyRef"]["name"] = "purger"
    await release.apply(pod)
    lines = await _warnings(release, "no-topic", "topics missing, waiting for them", 4)

    assert "keepword topics apply" in lines[-1]["hint"]
    assert any(topic.startswith("config.") for topic in lines[-1]["topics"])
    assert await _restarts_of(release, "no-topic") == 0
    figures["Topics are missing"] = _told(lines)


async def _unready_while(release: Cluster, enough: asyncio.Event) -> set[str]:
    """Name the pods that were not ready at some time before it was enough."""
    found: set[str] = set()
    while not enough.is_set():
        for pod in await release.pods():
            ready = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
            if ready.get("Ready") != "True":
                found.add(pod["metadata"]["name"])
        await asyncio.sleep(2)
    return found


async def _pod_of_config(release: Cluster, name: str) -> Any:
    """Give a pod as config's are, which no Service and no policy selects."""
    deployment = await release.get("deployment", "keepword-config")
    spec = deployment["spec"]["template"]["spec"]
    # Nobody calls it, so at its end it waits for nobody.
    [container] = spec["containers"]
    container.pop("lifecycle")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bad-input"}},
        "spec": {**spec, "terminationGracePeriodSeconds": 1},
    }


def _variable(pod: Any, name: str) -> Any:
    [found] = [each for each in pod["spec"]["containers"][0]["env"] if each["name"] == name]
    return found


async def _status(release: Cluster, pod: str) -> Any:
    statuses = (await release.get("pod", pod))["status"].get("containerStatuses")
    return statuses[0] if statuses else {"state": {}, "lastState": {}, "restartCount": 0}


async def _state(release: Cluster, pod: str) -> Any:
    state = (await _status(release, pod))["state"]
    # It is on its way, and has nothing to say yet.
    return {} if state.get("waiting", {}).get("reason") == "ContainerCreating" else state


async def _restarts_of(release: Cluster, pod: str) -> int:
    return int((await _status(release, pod))["restartCount"])


async def _warnings(release: Cluster, pod: str, event: str, times: int) -> list[dict[str, Any]]:
    """Return a pod's lines of this kind once it has said so many, each later than the one before."""

    async def said() -> bool:
        return len(await lines()) >= times

    async def lines() -> list[dict[str, Any]]:
        return [line for line in await release.logs(pod) if line["event"] == event]

    took = await until(said, f"it has said {times} times: {event}")
    # 0.5, 1, 2 seconds lie between them, and more.
    assert took > 3
    return await lines()


def _told(lines: list[dict[str, Any]]) -> str:
    return f"`{lines[-1]['event']}`: `{lines[-1]['hint']}`; 0 restarts, ever fewer lines"
