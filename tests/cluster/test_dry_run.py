"""A real API server would take all that the chart renders, and every pod as `restricted`."""

import pytest
import yaml

from tests.support.chart import VALUES, Manifest, pods, template
from tests.support.cluster import Cluster, Figures

MODES = ("hook", "job", "none")

everywhere = pytest.mark.parametrize("way", VALUES)


def rendered_for(cluster: Cluster, way: str, mode: str = "hook") -> list[Manifest]:
    """Render the chart for the namespace, without a priority class that the cluster may not have."""
    sets = ("strimzi.namespace=", "defaults.priorityClassName=", f"migrations.mode={mode}")
    documents = yaml.safe_load_all(template(way, sets=sets, namespace=cluster.namespace))
    return [each for each in documents if each is not None]


@pytest.fixture(scope="module")
async def known(cluster: Cluster) -> set[str]:
    """What the API server knows, each kind behind its group and version, operators' included."""
    listed = (await cluster.kubectl("api-resources", "--no-headers")).output.splitlines()
    # Name, sometimes short names, then version, whether in a namespace, kind.
    return {"/".join((line.split()[-3], line.split()[-1])) for line in listed}


@everywhere
async def test_nothing_is_refused_and_nothing_warned_of(
    cluster: Cluster, known: set[str], figures: Figures, way: str
) -> None:
    found = rendered_for(cluster, way)
    missing = {_kind(each) for each in found} - known
    asked = [each for each in found if _kind(each) not in missing]

    said = await cluster.dry_run(*asked)

    assert said.warnings == []
    assert len(said.output.splitlines()) == len(asked)
    assert {_kind(each) for each in asked} >= {"apps/v1/Deployment", "batch/v1/Job", "v1/Service"}
    unknown = f"; no definition there of {', '.join(sorted(missing))}" if missing else ""
    figures[f"Server-side dry run, strict, values `{way}`"] = (
        f"{len(asked)} of {len(found)} objects, 0 refused, 0 warnings{unknown}"
    )


@everywhere
async def test_every_pod_template_is_taken_as_a_restricted_pod(
    cluster: Cluster, figures: Figures, way: str
) -> None:
    made = {
        f"{mode}-{owner.lower().replace('/', '-')}": pod
        for mode in MODES
        for owner, pod in pods(rendered_for(cluster, way, mode))
    }
    said = await cluster.dry_run(*(as_pod(name, pod) for name, pod in made.items()))

    assert said.warnings == []
    assert len(said.output.splitlines()) == len(made)
    figures[f"Every pod template as a Pod under `restricted`, values `{way}`"] = (
        f"{len(made)} pods in three modes of migration, 0 refused, 0 warnings"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"securityContext": {"runAsUser": 0}}, "violates PodSecurity"),
        ({"hostNetwork": True}, "violates PodSecurity"),
        ({"livenesProbe": {}}, "field not declared in schema"),
    ],
)
async def test_what_must_not_pass_does_not(cluster: Cluster, wrong: Manifest, said: str) -> None:
    owner, pod = next(iter(pods(rendered_for(cluster, "dev"))))
    bad = as_pod(f"bad-{owner.lower().replace('/', '-')}", pod)
    bad["spec"] = {**bad["spec"], **wrong}
    refused = await cluster.dry_run(bad, may_fail=True)
    assert refused.status != 0
    assert said in refused.errors


def _kind(manifest: Manifest) -> str:
    return f"{manifest['apiVersion']}/{manifest['kind']}"


def as_pod(name: str, template: Manifest) -> Manifest:
    """Make a Pod of a pod's template: only Pods are refused, Deployments are warned of."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": template["metadata"].get("labels", {})},
        "spec": template["spec"],
    }
