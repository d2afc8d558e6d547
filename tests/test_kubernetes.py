"""The manifests: valid, complete (whatever a pod refers to is there), and in agreement with the compose file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests import containers
from tests.containers import INFRA, OVERLAYS, SERVICES, Manifest

KUBERNETES = ["1.30", "1.37"]
"""The oldest and the newest Kubernetes that the manifests are for; nothing in them was removed in between."""

BUILT = {name: containers.overlay(name) for name in OVERLAYS}
everywhere = pytest.mark.parametrize("overlay", OVERLAYS)


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    """Manifests of one kind by name."""
    return {m["metadata"]["name"]: m for m in BUILT[overlay] if m["kind"] == kind}


def container(pod: Manifest) -> dict[str, Any]:
    """The one container of a pod."""
    (only,) = pod["spec"]["containers"]
    return dict(only)


def test_overlays_cover_both_kinds_of_lake_with_and_without_gpu() -> None:
    assert OVERLAYS == ["s3", "s3-gpu", "s3-gpu-per-run", "volume", "volume-gpu"]


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed; containers.py builds overlays too"
)
@everywhere
def test_tests_build_overlays_as_kubectl_does(overlay: str) -> None:
    folder = INFRA / "kubernetes/overlays" / overlay
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
    assert containers.canonical([*yaml.safe_load_all(built)]) == containers.canonical(BUILT[overlay])


@pytest.mark.parametrize("version", KUBERNETES)
@everywhere
def test_manifests_fulfil_the_schemas_of_kubernetes(overlay: str, version: str) -> None:
    for manifest in BUILT[overlay]:
        kubernetes_validate.validate(manifest, version, strict=True)


@everywhere
def test_names_are_unique(overlay: str) -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in BUILT[overlay]]
    assert len(names) == len(set(names))
    assert {m["metadata"].get("namespace") for m in BUILT[overlay] if m["kind"] != "Namespace"} == {"scanmill"}


@everywhere
def test_whatever_a_pod_refers_to_is_there(overlay: str) -> None:
    keys = {
        "scanmill": containers.dotenv(INFRA / "kubernetes/secrets.env.example"),
        "scanmill-accounts": containers.dotenv(INFRA / "kubernetes/accounts.env.example"),
    }
    for name, pod in containers.pods(BUILT[overlay]):
        one, volumes = container(pod), {volume["name"] for volume in pod["spec"]["volumes"]}
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v
        ]
        assert set(claims) <= of_kind(overlay, "PersistentVolumeClaim").keys()
        for source in one.get("envFrom", ()):
            if "configMapRef" in source:
                assert source["configMapRef"]["name"] in of_kind(overlay, "ConfigMap")
            else:
                assert source["secretRef"]["name"] in keys
                assert source["secretRef"]["optional"]
        for variable in one.get("env", ()):
            if "valueFrom" in variable:
                secret = variable["valueFrom"]["secretKeyRef"]
                assert secret["key"] in keys[secret["name"]], name
        own = {claim["metadata"]["name"] for claim in _spec(overlay, name).get("volumeClaimTemplates", ())}
        assert {mount["name"] for mount in one["volumeMounts"]} == volumes | own
        ports = {port["name"] for port in one.get("ports", ())}
        probed = {one[probe]["httpGet"]["port"] for probe in _probes(one) if "httpGet" in one[probe]}
        assert probed <= ports


def _spec(overlay: str, name: str) -> dict[str, Any]:
    return next(
        dict(m["spec"]) for m in BUILT[overlay] if m["metadata"]["name"] == name and "template" in m.get("spec", ())
    )


def _probes(one: dict[str, Any]) -> list[str]:
    return [key for key in one if key.endswith("Probe")]


@everywhere
def test_selectors_find_their_pods_and_ports(overlay: str) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in containers.pods(BUILT[overlay])}
    ports = {name: {p["name"]: p["containerPort"] for p in container(pod).get("ports", ())}
             for name, pod in containers.pods(BUILT[overlay])}  # fmt: skip
    for name, pod in containers.pods(BUILT[overlay]):
        selector = _spec(overlay, name).get("selector")
        assert selector is None or selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    for name, service in of_kind(overlay, "Service").items():
        assert service["spec"]["selector"].items() <= labels[name].items()
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports[name]
    for name, budget in of_kind(overlay, "PodDisruptionBudget").items():
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    for name, policy in of_kind(overlay, "NetworkPolicy").items():
        for rule in policy["spec"].get("ingress", ()):
            assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels[name].items()
            assert {port["port"] for port in rule.get("ports", ())} <= ports[name].keys()
            callers = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]}
            assert callers - {"worker-gpu"} <= labels.keys()  # the GPU worker is there in two overlays only


@everywhere
def test_addresses_are_those_of_services(overlay: str) -> None:
    services = {name: {p["port"] for p in s["spec"]["ports"]} for name, s in of_kind(overlay, "Service").items()}
    said = yaml.safe_dump_all(BUILT[overlay])
    addresses = {(host, int(port)) for host, port in re.findall(r"(?:http|tcp)://([\w-]+):(\d+)", said)}
    assert {host for host, _ in addresses} == {"prefect-server", "dask-scheduler", "localhost"}
    assert all(port in services[host] for host, port in addresses - {("localhost", 4200)})


@everywhere
def test_callers_are_let_in(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    for name, pod in containers.pods(BUILT[overlay]):
        one = container(pod)
        said = str(one.get("args")) + str(one.get("env"))
        if one.get("envFrom"):
            said += "prefect-server"
        for service in of_kind(overlay, "Service"):
            if service in said.replace(f"'name': '{service}'", "") and service != name:
                (rule,) = policies[service]["spec"]["ingress"]
                let_in = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]}
                assert name in let_in or name == "dask-worker", f"{name} calls {service}"


@everywhere
def test_pods_are_unprivileged_and_bounded(overlay: str) -> None:
    for name, pod in containers.pods(BUILT[overlay]):
        spec, one = pod["spec"], container(pod)
        assert spec["enableServiceLinks"] is False, name
        talks = "serviceAccountName" in spec
        assert spec["automountServiceAccountToken"] is talks, name
        assert not talks or spec["serviceAccountName"] in of_kind(overlay, "ServiceAccount")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in one["volumeMounts"]
        assert {"cpu", "memory"} <= one["resources"]["requests"].keys(), name
        assert "memory" in one["resources"]["limits"]
        assert _probes(one) or name == "bootstrap"


@pytest.mark.parametrize("overlay", ["s3-gpu", "volume-gpu"])
def test_gpu_worker_asks_for_one_gpu_and_goes_where_gpus_are(overlay: str) -> None:
    pods = dict(containers.pods(BUILT[overlay]))
    asking = {name for name, pod in pods.items() if "nvidia.com/gpu" in str(container(pod)["resources"])}
    assert asking == {"worker-gpu"}
    spec, one = pods["worker-gpu"]["spec"], container(pods["worker-gpu"])
    assert one["resources"]["limits"]["nvidia.com/gpu"] == one["resources"]["requests"]["nvidia.com/gpu"] == 1
    assert one["image"] == SERVICES["worker-gpu"]["image"]
    assert spec["nodeSelector"]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize("overlay", ["volume", "volume-gpu"])
def test_every_pod_that_is_told_paths_has_them(overlay: str) -> None:
    for name, pod in containers.pods(BUILT[overlay]):
        mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container(pod)["volumeMounts"]}
        paths = {path: read_only for path, read_only in mounts.items() if path.startswith("/data")}
        works = name in {"worker-cpu", "worker-gpu", "dask-worker"}
        assert paths == ({"/data/lake": False, "/data/raw": True} if works else {})


@pytest.mark.parametrize("overlay", ["s3", "s3-gpu"])
def test_a_lake_on_object_storage_needs_no_volume(overlay: str) -> None:
    assert of_kind(overlay, "ConfigMap")["scanmill"]["data"]["SCANMILL_LAKE"].startswith("s3://")
    assert of_kind(overlay, "PersistentVolumeClaim").keys() == {"prefect-server"}


def test_kubernetes_and_compose_run_the_same() -> None:
    pods = dict(containers.pods(BUILT["volume-gpu"]))
    assert pods.keys() == {name for name, service in SERVICES.items() if service.get("profiles") != ["s3"]}
    for name, pod in pods.items():
        one, service = container(pod), SERVICES[name]
        assert one["image"] == service["image"]
        assert one.get("args") == service.get("command"), name
        own = {v["name"]: v["value"] for v in one.get("env", ()) if "value" in v and v["name"] != "PGDATA"}
        told = service.get("environment", {})
        assert own.keys() <= told.keys(), name
        assert all(told[key] in {value, f"${{PREFECT_UI_API_URL:-{value}}}"} for key, value in own.items())


def test_settings_of_kubernetes_and_compose_agree() -> None:
    told = of_kind("volume", "ConfigMap")["scanmill"]["data"]
    assert told == containers.interpolate(
        {key: SERVICES["worker-cpu"]["environment"][key] for key in told}, {"PREFECT_AUTH": "a:b"}
    )


def test_example_secrets_are_empty_and_the_filled_ones_stay_out() -> None:
    for name in ("secrets", "accounts"):
        assert not any(containers.dotenv(INFRA / f"kubernetes/{name}.env.example").values())
    assert "/infra/kubernetes/*.env" in (Path(__file__).parent.parent / ".gitignore").read_text().splitlines()


TEMPLATE = json.loads((INFRA / "work-pools/gpu-kubernetes.json").read_text())


def test_a_pool_can_be_made_from_the_template_and_a_broken_one_is_refused(prefect_server: None) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import PrefectHTTPStatusError

    broken = TEMPLATE | {"job_configuration": TEMPLATE["job_configuration"] | {"name": "{{ unknown }}"}}
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="gpu-runs", type="kubernetes", base_job_template=TEMPLATE))
        assert client.read_work_pool("gpu-runs").base_job_template == TEMPLATE
        with pytest.raises(PrefectHTTPStatusError, match="unknown"):
            client.create_work_pool(WorkPoolCreate(name="broken", type="kubernetes", base_job_template=broken))


@pytest.mark.parametrize("version", KUBERNETES)
def test_a_run_of_the_template_is_a_valid_job_with_a_gpu_of_its_own(version: str) -> None:
    from prefect.utilities.templating import apply_values

    defaults = {name: schema["default"] for name, schema in TEMPLATE["variables"]["properties"].items()}
    told = defaults | {
        "env": [{"name": "A", "value": "b"}],
        "command": ["prefect", "flow-run", "execute"],
        "name": "run",
    }
    job = apply_values(TEMPLATE["job_configuration"]["job_manifest"], told)
    kubernetes_validate.validate(job, version, strict=True)
    pod = job["spec"]["template"]
    assert container(pod)["name"] == "prefect-job"  # or prefect-kubernetes refuses the template
    assert container(pod)["resources"]["limits"]["nvidia.com/gpu"] == 1
    resident = dict(containers.pods(BUILT["s3-gpu"]))["worker-gpu"]
    for key in ("tolerations", "nodeSelector", "securityContext", "volumes", "enableServiceLinks"):
        assert pod["spec"][key] == resident["spec"][key]
    for key in ("image", "envFrom", "securityContext", "volumeMounts"):
        assert container(pod)[key] == container(resident)[key]
    assert pod["metadata"]["labels"].items() <= resident["metadata"]["labels"].items()
