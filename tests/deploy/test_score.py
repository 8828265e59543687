"""What kube-score says of the chart: nothing but what we do on purpose, for a reason that stands here."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from tests.support.chart import VALUES, template
from tests.support.go_programs import KUBE_SCORE, run_go_program

ON_PURPOSE: Final[Mapping[str, str]] = {
    "container-image-pull-policy": (
        "A tag of ours is never moved. With `Always` a registry that is away keeps a pod from coming back."
    ),
    "container-ephemeral-storage-request-and-limit": (
        "The root is read-only and /tmp is memory: what is left are logs, which the kubelet rotates."
        " A limit would only evict a pod that has much to say."
    ),
    "deployment-has-host-podantiaffinity": "Topology spread does this, and over zones too.",
    "deployment-replicas": (
        "A consumer that is away for a start of seconds is late and loses nothing; installer, which"
        " customers wait for, has two."
    ),
}
_NO_LIMIT_ON_CPU = "--ignore-container-cpu-limit"  # It would only make starts slow.
_ALSO = ("container-ports-check", "container-seccomp-profile")
_WELL = 10

pytestmark = pytest.mark.timeout(400)  # It is built once.


def _found(way: str, *flags: str) -> set[str]:
    """Name the checks that find fault with an object of the chart."""
    also = [f"--enable-optional-test={each}" for each in _ALSO]
    done = run_go_program(
        KUBE_SCORE,
        *("score", "--output-format=json", "--kubernetes-version=v1.30", *also, *flags, "-"),
        given=template(way),
    )
    assert done.stdout, done.stderr
    objects = json.loads(done.stdout)
    assert len(objects) > 20
    return {
        each["check"]["id"]
        for found in objects
        for each in found["checks"]
        if not each["skipped"] and each["grade"] < _WELL
    }


@pytest.mark.parametrize("way", VALUES)
def test_it_finds_nothing_but_what_is_done_on_purpose(way: str) -> None:
    assert _found(way, _NO_LIMIT_ON_CPU) <= set(ON_PURPOSE)


def test_what_is_done_on_purpose_is_what_it_complains_of() -> None:
    assert _found("everything") == {*ON_PURPOSE, "container-resources"}
