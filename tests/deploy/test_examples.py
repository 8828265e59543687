"""The examples fit the chart: their names, keys and patches."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.topics import SERVICES
from tests.support.chart import Manifest, of_kind, pods, rendered, template

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def read(path: str) -> list[Manifest]:
    return list(yaml.safe_load_all((EXAMPLES / path).read_text("utf-8")))


def external_secrets(service: str) -> dict[str, Any]:
    text = (EXAMPLES / "external-secrets" / "installer.yaml").read_text("utf-8")
    told = yaml.safe_load_all(text.replace("installer", service))
    return {each["spec"]["target"]["name"]: each["spec"]["target"] for each in told}


@pytest.mark.parametrize("service", SERVICES)
def test_external_secrets_make_all_that_a_service_and_its_database_need(service: str) -> None:
    made = external_secrets(service)
    found = rendered("everything")
    wanted: set[str] = set()
    for name, pod in pods(found):
        if name.removeprefix("Deployment/").removeprefix("Job/").startswith(f"keepword-{service}"):
            wanted |= _database_secrets(pod, made)
            wanted |= {
                volume["secret"]["secretName"]
                for volume in pod["spec"].get("volumes", [])
                if volume["name"] == "files"
            }
    [cluster] = [
        each
        for each in of_kind(found, "Cluster")
        if each["metadata"]["name"] == f"keepword-{service}-db"
    ]
    wanted.add(cluster["spec"]["bootstrap"]["initdb"]["secret"]["name"])
    roles = {role["name"]: role for role in cluster["spec"]["managed"]["roles"]}
    assert [name for name, role in roles.items() if role["bypassrls"]] == [f"{service}_backup"]
    for name, role in roles.items():
        secret = role["passwordSecret"]["name"]
        wanted.add(secret)
        assert made[secret]["template"]["data"]["username"] == name
    assert wanted == set(made)


def _database_secrets(pod: Manifest, made: dict[str, Any]) -> set[str]:
    found = set()
    for variable in pod["spec"]["containers"][0]["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference is not None and reference["key"].endswith("database-url"):
            assert reference["key"] in made[reference["name"]]["template"]["data"]
            found.add(reference["name"])
    return found


def test_the_databases_stand_under_the_host_that_the_urls_name() -> None:
    clusters = {each["metadata"]["name"] for each in of_kind(rendered("everything"), "Cluster")}
    for service in SERVICES:
        urls = external_secrets(service)[f"keepword-{service}-db"]["template"]["data"].values()
        for url in urls:
            host = url.rpartition("@")[2].partition(":")[0]
            assert host.removesuffix("-rw") in clusters


def test_the_installers_database_never_has_a_single_copy_of_a_secret() -> None:
    for each in of_kind(rendered("everything"), "Cluster"):
        synchronous = each["spec"]["postgresql"].get("synchronous")
        assert (synchronous is not None) == each["metadata"]["name"].endswith("installer-db")
        if synchronous:
            assert synchronous == {"method": "any", "number": 1, "dataDurability": "required"}
            assert each["spec"]["instances"] >= 3


@pytest.mark.parametrize("kind", ["db", "files"])
def test_a_secret_for_sops_has_the_keys_that_are_read_and_no_secret(kind: str) -> None:
    [secret] = read(f"sops/installer-{kind}.yaml")
    assert all("REPLACE" in value for value in secret["stringData"].values())
    [pod] = [pod for name, pod in pods(rendered("prod")) if name == "Deployment/keepword-installer"]
    variables = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    if kind == "db":
        assert set(secret["stringData"]) == {
            each["valueFrom"]["secretKeyRef"]["key"]
            for name, each in variables.items()
            if name.endswith("DATABASE_URL")
        }
    else:
        assert {"key-encryption-keys", "session-key"} == set(secret["stringData"])


def test_an_overlay_of_kustomize_works_on_what_is_rendered(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on this machine, which has kustomize in it")
    shutil.copy(EXAMPLES / "kustomize" / "kustomization.yaml", tmp_path)
    (tmp_path / "rendered.yaml").write_text(template("prod"), "utf-8")
    done = subprocess.run(
        [kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    overlaid = [each for each in yaml.safe_load_all(done.stdout) if each is not None]
    assert len(overlaid) == len(rendered("prod"))
    for each in of_kind(overlaid, "Deployment"):
        assert "nodeAffinity" in each["spec"]["template"]["spec"]["affinity"]
        assert each["spec"]["template"]["metadata"]["labels"]["team"] == "apps"
        assert "team" not in each["spec"]["selector"]["matchLabels"]
