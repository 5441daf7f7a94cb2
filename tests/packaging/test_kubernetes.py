"""The chart and the manifests: valid for Kubernetes's schemas, for pgweir, and for stopping safely.

The manifests are what the chart gives, so that who has no helm can use them; where there is helm,
they are compared. `python tests/packaging/test_kubernetes.py` writes them anew.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.config import Config, parse, parse_duration
from tests.fixtures.missing import do_without

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "pgweir"
MANIFESTS = ROOT / "deploy" / "kubernetes"
VALUES = Path(__file__).with_name("chart_values.yaml")
FROM_CHART = MANIFESTS / "pgweir.yaml"
LEASE = MANIFESTS / "lease.yaml"
PODS = sorted(set(MANIFESTS.glob("*.yaml")) - {LEASE})
KUBERNETES = "1.33"

ENVIRONMENT = {"APP_PASSWORD": "x", "SHOP_PASSWORD": "x", "MONITOR_PASSWORD": "x"}


def render(helm: str, *flags: str | Path) -> str:
    command = [helm, "template", "pgweir", CHART, "--kube-version", f"{KUBERNETES}.0", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def documents(file: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(file.read_text("utf-8")) if each]


def all_documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{file.name}-{each['kind']}", each)
        for file in sorted(MANIFESTS.glob("*.yaml"))
        for each in documents(file)
    ]


def one(file: Path, kind: str) -> dict[str, Any]:
    (found,) = [each for each in documents(file) if each["kind"] == kind]
    return found


def proxies() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name of the file, the pod's spec, and the container that is pgweir."""
    found = []
    for file in PODS:
        pod = one(file, "Deployment")["spec"]["template"]["spec"]
        containers = [*pod["containers"], *pod.get("initContainers", ())]
        found.append(
            (file.name, pod, next(each for each in containers if each["name"] == "pgweir"))
        )
    return found


def config_of(file: Path) -> Config:
    return parse(one(file, "ConfigMap")["data"]["pgweir.yaml"], ENVIRONMENT)


@pytest.fixture
def helm() -> str:
    found = shutil.which("helm")
    if found is None:
        reason = "no helm on the PATH: .ci/packages makes it"
        do_without(reason)
    return found


@pytest.mark.parametrize(("name", "document"), all_documents(), ids=lambda part: str(part)[:40])
def test_kubernetes_would_take_it(name: str, document: dict[str, Any]) -> None:
    if document["kind"] == "ServiceMonitor":
        assert document["spec"]["endpoints"][0]["port"] == "http"
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("file", PODS, ids=lambda file: file.name)
def test_pgweir_would_take_its_configuration(file: Path) -> None:
    assert config_of(file).warnings == ()


@pytest.mark.parametrize(("name", "pod", "proxy"), proxies(), ids=lambda part: str(part)[:12])
def test_it_runs_without_rights_it_does_not_need(
    name: str, pod: dict[str, Any], proxy: dict[str, Any]
) -> None:
    context = {**pod.get("securityContext", {}), **proxy["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("name", "pod", "proxy"), proxies(), ids=lambda part: str(part)[:12])
def test_the_grace_period_is_longer_than_what_stopping_takes(
    name: str, pod: dict[str, Any], proxy: dict[str, Any]
) -> None:
    takes_s = config_of(MANIFESTS / name).limits.shutdown_timeout
    if "lifecycle" in proxy:
        words = proxy["lifecycle"]["preStop"]["exec"]["command"]
        takes_s = parse_duration(words[words.index("--after") + 1])
        takes_s += parse_duration(words[words.index("--wait") + 1])
    assert pod["terminationGracePeriodSeconds"] > takes_s


def test_probes_ask_the_right_questions() -> None:
    (proxy,) = one(FROM_CHART, "Deployment")["spec"]["template"]["spec"]["containers"]
    # A proxy without a primary is not to be restarted: that would bring none back.
    assert proxy["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert proxy["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_selectors_find_the_pods() -> None:
    deployment = one(FROM_CHART, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        one(FROM_CHART, "Service")["spec"]["selector"],
        one(FROM_CHART, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(FROM_CHART, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)


def test_the_service_account_may_do_what_a_lease_takes_and_no_more() -> None:
    (rule,) = one(LEASE, "Role")["rules"]
    assert rule == {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update"],
    }
    binding, account = one(LEASE, "RoleBinding"), one(LEASE, "ServiceAccount")
    assert [each["name"] for each in binding["subjects"]] == [account["metadata"]["name"]]
    assert binding["roleRef"]["name"] == one(LEASE, "Role")["metadata"]["name"]


def test_the_chart_gives_the_same_rights(helm: str) -> None:
    rendered = render(helm, "--set", "lease.enabled=true", "--set", "networkPolicy.enabled=true")
    documents = [each for each in yaml.safe_load_all(rendered) if each]
    for each in documents:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    (role,) = (each for each in documents if each["kind"] == "Role")
    assert role["rules"] == one(LEASE, "Role")["rules"]
    (pod,) = (
        each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment"
    )
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == role["metadata"]["name"]


def test_helm_finds_no_fault_with_the_chart(helm: str) -> None:
    subprocess.run([helm, "lint", "--strict", CHART, "--values", VALUES], check=True)


def test_the_manifests_are_what_the_chart_gives(helm: str) -> None:
    rendered = yaml.safe_load_all(render(helm, "--values", VALUES))
    assert [each for each in rendered if each] == documents(FROM_CHART)


def test_the_chart_refuses_a_grace_period_that_is_too_short(helm: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, "--set", "terminationGracePeriodSeconds=30")
    assert "must be longer" in refused.value.stderr


@pytest.mark.parametrize("flags", [(), ("--set", "secrets.APP_PASSWORD=x")], ids=["bare", "secret"])
def test_other_values_are_taken_by_kubernetes_as_well(helm: str, flags: tuple[str, ...]) -> None:
    for document in yaml.safe_load_all(render(helm, *flags)):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


if __name__ == "__main__":
    opening = "".join(
        line for line in FROM_CHART.read_text("utf-8").splitlines(True)[:3] if line[0] == "#"
    )
    helm_program = os.environ.get("HELM") or shutil.which("helm") or "helm"
    FROM_CHART.write_text(opening + render(helm_program, "--values", VALUES), "utf-8")
