"""The chart renders the same each time, and what it renders is what Kubernetes takes and we promise."""

from datetime import timedelta
from typing import Any

import kubernetes_validate
import pytest

from chassis.shutdown import STOP_WITHIN
from contracts.topics import SERVICES
from tests.support.chart import (
    VALUES,
    Manifest,
    helm,
    of_kind,
    pods,
    refusal,
    rendered,
    selects,
    template,
)

LONG_RELEASE = "a-release-whose-name-has-just-40-letters"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
OPERATORS = (
    "barmancloud.cnpg.io/v1",
    "gateway.networking.k8s.io/v1",
    "kafka.strimzi.io/v1",
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "postgresql.cnpg.io/v1",
)
MODES = ("hook", "job", "none")

everywhere = pytest.mark.parametrize("way", VALUES)


@everywhere
def test_helm_finds_nothing_to_say_about_it(way: str) -> None:
    chosen = [part for file in VALUES[way] for part in ("--values", file)]
    done = helm("lint", "--strict", ".", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr


@everywhere
def test_it_renders_the_same_twice(way: str) -> None:
    assert template(way) == template(way)


@everywhere
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_of_kubernetes_own_is_of_its_shape(way: str, version: str) -> None:
    checked = 0
    for each in rendered(way):
        if each["apiVersion"] not in OPERATORS:
            kubernetes_validate.validate(each, version, strict=True)
            checked += 1
    assert checked > 20


def test_an_object_with_a_misspelt_field_would_be_found() -> None:
    [deployment, *_] = of_kind(rendered("dev"), "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_names_stay_short_and_are_given_once(way: str, mode: str) -> None:
    assert len(LONG_RELEASE) == 40
    found = rendered(way, release=LONG_RELEASE, sets=(f"migrations.mode={mode}",))
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    assert [name for _, name in names if len(name) > 63] == []


@everywhere
def test_no_secret_is_made_and_none_is_in_an_object(way: str) -> None:
    assert of_kind(rendered(way), "Secret") == []
    for _, pod in pods(rendered(way)):
        for variable in _variables(pod):
            if variable["name"].endswith(("_PASSWORD", "DATABASE_URL")):
                assert "secretKeyRef" in variable["valueFrom"]


@everywhere
def test_what_selects_pods_never_changes(way: str) -> None:
    for each in of_kind(rendered(way), "Deployment"):
        labels = each["spec"]["selector"]["matchLabels"]
        assert set(labels) == {
            f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")
        }
        assert selects(each["spec"]["selector"], each["spec"]["template"]["metadata"]["labels"])


@everywhere
def test_each_service_selects_pods_that_are_there(way: str) -> None:
    found = dict(pods(rendered(way)))
    for each in of_kind(rendered(way), "Service", "PodDisruptionBudget"):
        selector = each["spec"]["selector"]
        selector = selector if "matchLabels" in selector else {"matchLabels": selector}
        chosen = [
            name for name, pod in found.items() if selects(selector, pod["metadata"]["labels"])
        ]
        assert chosen == [f"Deployment/{each['metadata']['name']}"]


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_every_pod_is_admitted_where_restricted_is_enforced(way: str, mode: str) -> None:
    found = dict(pods(rendered(way, sets=(f"migrations.mode={mode}",))))
    assert len(found) == (8 if mode == "none" else 12)
    for pod in found.values():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert {next(iter(set(volume) - {"name"})) for volume in spec.get("volumes", [])} <= {
            "secret",
            "emptyDir",
            "persistentVolumeClaim",
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


@everywhere
def test_a_pod_has_time_to_end_what_it_began(way: str) -> None:
    for each in of_kind(rendered(way), "Deployment"):
        spec = each["spec"]["template"]["spec"]
        pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = timedelta(seconds=pause) + STOP_WITHIN
        assert timedelta(seconds=spec["terminationGracePeriodSeconds"]) >= needed + timedelta(
            seconds=5
        )


@everywhere
def test_who_describes_a_pod_that_ended_sees_its_last_line(way: str) -> None:
    for each in of_kind(rendered(way), "Deployment", "Job"):
        [container] = each["spec"]["template"]["spec"]["containers"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@everywhere
def test_probes_ask_what_tells_alive_from_ready(way: str) -> None:
    for each in of_kind(rendered(way), "Deployment"):
        container = each["spec"]["template"]["spec"]["containers"][0]
        paths = {
            kind: container[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        }
        assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] == 120
        assert "initialDelaySeconds" not in container["livenessProbe"]


def test_who_scales_a_service_alone_sets_its_replicas() -> None:
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind(rendered("everything"), "ScaledObject", "HorizontalPodAutoscaler")
    }
    deployments = of_kind(rendered("everything"), "Deployment")
    assert scaled == {each["metadata"]["name"] for each in deployments}
    assert [each for each in deployments if "replicas" in each["spec"]] == []
    assert all("replicas" in each["spec"] for each in of_kind(rendered("prod"), "Deployment"))


def test_scaling_by_lag_never_ends_at_nothing() -> None:
    for each in of_kind(rendered("everything"), "ScaledObject"):
        assert each["spec"]["minReplicaCount"] >= 1
        assert each["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_what_holds_data_outlives_the_release() -> None:
    kept = of_kind(rendered("everything"), "KafkaTopic", "KafkaUser", "Cluster", "ObjectStore")
    assert len(kept) > 20
    for each in kept:
        annotations = each["metadata"]["annotations"]
        assert annotations["helm.sh/resource-policy"] == "keep"
        assert "Prune=false" in annotations["argocd.argoproj.io/sync-options"]
        assert not any(name.startswith("helm.sh/hook") for name in annotations)


@everywhere
def test_a_migration_before_the_roll_out_needs_nothing_of_the_chart(way: str) -> None:
    found = rendered(way, sets=("migrations.mode=hook",))
    jobs = of_kind(found, "Job")
    assert len(jobs) == len(SERVICES)
    made = {each["metadata"]["name"] for each in found}
    for job in jobs:
        spec = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in spec
        [variable] = spec["containers"][0]["env"]
        assert variable["valueFrom"]["secretKeyRef"]["name"] not in made
        weight = int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
        [policy] = _policies_for(found, job["spec"]["template"])
        assert int(policy["metadata"]["annotations"]["helm.sh/hook-weight"]) < weight


def test_a_migration_beside_the_roll_out_is_another_job_for_another_image() -> None:
    names = [
        {
            each["metadata"]["name"]
            for each in of_kind(
                rendered("dev", sets=("migrations.mode=job", f"image.tag={tag}")), "Job"
            )
        }
        for tag in ("1.0.0", "1.0.1")
    ]
    assert len(names[0] | names[1]) == 2 * len(SERVICES)


def test_an_owners_url_is_in_no_pod_that_serves() -> None:
    for name, pod in pods(rendered("prod")):
        owner = [each for each in _variables(pod) if "OWNER" in each["name"]]
        assert bool(owner) == name.startswith("Job/")


def test_a_service_that_is_off_leaves_nothing_behind() -> None:
    found = rendered("everything", sets=("notifier.enabled=false",))
    names = [each["metadata"]["name"] for each in found if each["kind"] != "KafkaTopic"]
    assert [name for name in names if "notifier" in name] == []
    assert len(of_kind(found, "Deployment")) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('installer.publicUrl="http://installer.example.com"', "publicUrl"),
        ('installer.publicUrl=""', "publicUrl"),
        ('installer.database.existingSecret=""', "existingSecret"),
        ('installer.password="geheim"', "password"),
        ('installer.settings.DATABASE_URL="postgresql://a:b@c/d"', "DATABASE_URL"),
        ('installer.settings.GRACE_DAYS="3"', "GRACE_DAYS"),
        ("purger.settings.GRACE_DAYS=3", "GRACE_DAYS"),
        ('installer.files.keys=["ledger-key"]', "keys"),
        ("config.replicas=0", "replicas"),
        ('image.digest="sha256:abc"', "digest"),
        ('migrations.mode="init"', "mode"),
        ("networkPolcy={}", "networkPolcy"),
        ('kafka.bootstrapServers="kafka"', "bootstrapServers"),
        ("cloudNativePg.installerInstances=2", "installerInstances"),
        ("defaults.resources={}", "resources"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(given: str, said: str) -> None:
    assert said in refusal("prod", given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["retention.backupDays=15"], "retention.backupDays: backups must forget"),
        (["cloudNativePg.backups.windowDays=14"], "must be at most retention.backupDays less 1"),
        (['kafka.caSecret.name=""'], "name the Secret with the certificate"),
        (['strimzi.cluster=""'], "strimzi.cluster: name the Kafka cluster"),
        (["gateway.parentRefs=[]"], "gateway.parentRefs"),
        (["installer.autoscaling.minReplicas=1"], "give 2 or more"),
        (["config.autoscaling.maxReplicas=7"], "its topics have 6 partitions"),
        (["config.autoscaling.minReplicas=7"], "is above maxReplicas"),
        (["config.preStopSeconds=20"], "what was begun has 30 s to end"),
        (['config.publicUrl="https://a.example.com/config"'], "publicUrl"),
    ],
)
def test_values_that_break_a_promise_are_refused_with_a_sentence(
    given: list[str], said: str
) -> None:
    assert said in refusal("everything", *given)


def test_it_can_be_a_part_of_another_chart() -> None:
    assert rendered("prod", sets=("global.team=apps", "enabled=true"))


def _policies_for(found: list[Manifest], pod: Manifest) -> list[Manifest]:
    return [
        each
        for each in of_kind(found, "NetworkPolicy")
        if selects(each["spec"]["podSelector"], pod["metadata"]["labels"])
    ]


def _variables(pod: Manifest) -> list[dict[str, Any]]:
    return [each for container in pod["spec"]["containers"] for each in container.get("env", [])]
