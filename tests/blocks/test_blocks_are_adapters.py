"""Every block file: thin, named after its function, part of a pipeline, and runnable without Mage."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mage_platform.contracts import BatchOutcome, FailedCandidate, RegionPlan
from mage_platform.settings import PROJECT
from mage_platform.use_cases import read_declaration

KINDS = {
    "data_loaders": "data_loader",
    "transformers": "transformer",
    "data_exporters": "data_exporter",
    "custom": "custom",
}
CHARTS = sorted(path for path in (PROJECT / "charts").glob("*.py") if path.name != "__init__.py")
DASHBOARDS = sorted((PROJECT / "dashboards").rglob("block_layout.yaml"))
BLOCKS = sorted(path for folder in KINDS for path in (PROJECT / folder).glob("*.py") if path.name != "__init__.py")
PIPELINES = sorted((PROJECT / "pipelines").glob("*/metadata.yaml"))


def load_block(path: Path) -> Any:
    """The decorated function of a block file, with decorators that do nothing in place of Mage's."""
    decorators = {kind: lambda function: function for kind in (*KINDS.values(), "xy")}
    return runpy.run_path(str(path), init_globals=decorators)[path.stem]


@pytest.mark.parametrize("path", [*BLOCKS, *CHARTS], ids=lambda path: path.stem)
def test_a_block_is_an_adapter_of_at_most_forty_lines(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [path.stem]
    decorator = functions[0].decorator_list[0]
    assert isinstance(decorator, ast.Name)
    assert decorator.id == {**KINDS, "charts": "xy"}[path.parent.name]
    assert len(source.splitlines()) <= 40
    assert callable(load_block(path))


def test_every_block_belongs_to_a_pipeline_and_every_pipeline_names_existing_blocks() -> None:
    folders = {kind: folder for folder, kind in KINDS.items()}
    used = set()
    for pipeline in PIPELINES:
        for block in yaml.safe_load(pipeline.read_text())["blocks"]:
            used.add(PROJECT / folders[block["type"]] / f"{block['uuid']}.py")
    assert used == set(BLOCKS)


def test_every_chart_stands_on_the_dashboard_of_an_existing_pipeline_and_every_dashboard_names_existing_charts() -> (
    None
):
    shown = set()
    for dashboard in DASHBOARDS:
        page = yaml.safe_load(dashboard.read_text())
        pipeline = dashboard.relative_to(PROJECT / "dashboards").parts[1]
        assert PROJECT / "pipelines" / pipeline / "metadata.yaml" in PIPELINES
        assert {chart["data_source"]["pipeline_uuid"] for chart in page["blocks"].values()} == {pipeline}
        assert {place["block_uuid"] for row in page["layout"] for place in row} == set(page["blocks"])
        shown |= {PROJECT / "charts" / f"{name}.py" for name in page["blocks"]}
    assert shown == set(CHARTS)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.parent.name)
def test_up_and_downstream_of_a_pipeline_agree(path: Path) -> None:
    blocks = {block["uuid"]: block for block in yaml.safe_load(path.read_text())["blocks"]}
    down = {(name, each) for name, block in blocks.items() for each in block["downstream_blocks"]}
    up = {(each, name) for name, block in blocks.items() for each in block["upstream_blocks"]}
    assert down == up


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.parent.name)
def test_a_pipeline_has_a_time_trigger_and_an_api_trigger_without_token(path: Path) -> None:
    triggers = yaml.safe_load(path.with_name("triggers.yaml").read_text())["triggers"]
    assert {each["schedule_type"] for each in triggers} == {"time", "api"}
    assert not any("token" in each for each in triggers)


def test_training_fans_out_by_a_dynamic_block_whose_child_is_reduced() -> None:
    pipeline = yaml.safe_load((PROJECT / "pipelines/train_regional_models/metadata.yaml").read_text())
    blocks = {block["uuid"]: block for block in pipeline["blocks"]}
    assert blocks["plan_regions"]["configuration"] == {"dynamic": True}
    assert blocks["train_region"]["configuration"] == {"reduce_output": True}
    assert blocks["train_region"]["upstream_blocks"] == ["plan_regions"]


def test_the_child_hands_back_a_reason_when_the_database_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child that raised would have its siblings killed by Mage."""
    monkeypatch.setenv("PLATFORM_DATABASE__PORT", "1")
    monkeypatch.setenv("PLATFORM_STATE_FOLDER", str(tmp_path))
    use_case = read_declaration(PROJECT / "use_cases/flight_delays/use_case.yaml")
    plan = RegionPlan(
        use_case=use_case.name,
        region="JFK",
        run="1",
        window=use_case.training.window,
        seed=1,
        maximum_models=1,
        maximum_runtime_seconds=60,
        labelled_rows=1,
    )
    train_region = load_block(PROJECT / "transformers/train_region.py")
    outcome = train_region({"plans": [plan.model_dump(mode="json")]}, use_case=use_case.name)
    (failed,) = BatchOutcome.model_validate(outcome).candidates
    assert isinstance(failed, FailedCandidate)
    assert failed.plan == plan
    assert "PostgreSQL at 127.0.0.1:1" in failed.reason
