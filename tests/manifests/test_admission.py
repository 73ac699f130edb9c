"""The platform's own checks: the overlays are clean, and every check catches what it is for."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping

import pytest

from tests.manifests import admission
from tests.manifests.admission import CHECKS, Rendered, examine
from tests.manifests.branch_jobs import job_of_a_branch
from tests.manifests.faults import FAULTS, NEAR_MISSES, Fault, NearMiss, changed
from tests.manifests.overlays import OVERLAYS

needs_tools = pytest.mark.integration


@needs_tools
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_clean(rendered: Mapping[str, Rendered], overlay: str) -> None:
    said = [f"{check}: {each}" for check, findings in examine(rendered[overlay]).items() for each in findings]
    assert not said, "\n".join(said)


@needs_tools
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check}: {fault.name}")
def test_a_fault_is_reported_by_its_check_and_by_no_other(production: Rendered, fault: Fault) -> None:
    reported = examine(with_jobs(changed(production.documents, fault.change)))
    assert set(reported) == {fault.check} | fault.also, {
        check: list(map(str, each)) for check, each in reported.items()
    }
    said = [str(each) for each in reported[fault.check]]
    assert any(all(word in line for word in fault.words) for line in said), said


@needs_tools
@pytest.mark.parametrize("right", NEAR_MISSES, ids=lambda right: right.name)
def test_what_only_looks_wrong_is_not_reported(production: Rendered, right: NearMiss) -> None:
    reported = examine(with_jobs(changed(production.documents, right.change)))
    assert not reported, {check: list(map(str, each)) for check, each in reported.items()}


@needs_tools
def test_a_fault_in_the_jobs_that_mage_starts_is_reported(production: Rendered) -> None:
    """No manifest holds them, and they are pods of the namespace all the same."""
    [document] = [each for each in production.documents if "executor.yaml" in each.get("data", {})]
    wrong = document["data"]["executor.yaml"].replace("runAsUser: 10001", "runAsUser: 0")
    assert wrong != document["data"]["executor.yaml"]
    documents = [
        {**each, "data": {"executor.yaml": wrong}} if each is document else each for each in production.documents
    ]
    said = [str(each) for findings in examine(with_jobs(documents)).values() for each in findings]
    assert said == [
        "Job/mage-train-region-block-1: spec.template.spec.containers[branch].securityContext.runAsUser = 0: "
        "must be a number other than 0, here or for the pod"
    ]


def test_every_check_has_a_fault() -> None:
    assert set(CHECKS) == {fault.check for fault in FAULTS}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_every_module_of_checks_is_on_the_list() -> None:
    """A module that nobody imports would check nothing."""
    modules = {module.name for module in pkgutil.iter_modules(admission.__path__)}
    without_checks = {"documents", "findings", "quantities", "reachability"}
    assert {each.__module__.rpartition(".")[2] for each in CHECKS.values()} == modules - without_checks


def test_every_check_says_what_it_is_for() -> None:
    assert not [name for name, check in CHECKS.items() if not check.__doc__]


def with_jobs(documents: list[admission.Document]) -> Rendered:
    """Changed documents, and the jobs that Mage would start from them."""
    return Rendered(documents, job_of_a_branch(Rendered(documents)))
