"""The registry: versions never change, artifacts are verified, every move of an alias is recorded."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mage_platform.database import connect
from mage_platform.errors import ArtifactCorrupt, H2OUnavailable, ModelNotFound, NotFound
from mage_platform.local.ports import free_port
from mage_platform.registry import (
    SigningKey,
    alias_history,
    champion,
    champions,
    champions_marker,
    model_versions,
    move_alias,
    register,
    signing_key,
)
from mage_platform.registry.artifacts import fetch_artifact
from mage_platform.registry.versions import model_version
from mage_platform.settings import Settings
from mage_platform.training.promotion import promote
from mage_platform.training.registration import register_candidates
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo
from tests.stores.registry_samples import a_candidate, a_version, await_waiting, handed_on

pytestmark = pytest.mark.integration


@pytest.fixture
def mojo(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    path.write_bytes(os.urandom(2_500_000))  # three chunks
    return path


@pytest.fixture
def key(settings: Settings) -> SigningKey:
    return signing_key(settings)


@pytest.fixture
def genmodel(tmp_path: Path) -> Path:
    path = tmp_path / "h2o-genmodel.jar"
    path.write_bytes(b"jar")
    return path


def test_a_registered_version_comes_back_as_it_was(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path
) -> None:
    with connect(settings) as connection:
        registered = register(connection, a_version(), mojo=mojo, genmodel=genmodel, signing_key=key)
    with connect(settings) as connection:
        assert model_versions(connection, use_case="rides") == [registered]
    assert registered.version == 1
    assert registered.mojo_sha256 == hashlib.sha256(mojo.read_bytes()).hexdigest()


def test_an_artifact_comes_back_to_the_last_byte(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path, tmp_path: Path
) -> None:
    with connect(settings) as connection:
        version = register(connection, a_version(), mojo=mojo, genmodel=genmodel, signing_key=key)
        fetched = fetch_artifact(connection, version.mojo_sha256, tmp_path / "cache")
        assert fetched.read_bytes() == mojo.read_bytes()
        fetched.write_bytes(b"altered on this disk")
        assert fetch_artifact(connection, version.mojo_sha256, tmp_path / "cache").read_bytes() == mojo.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE platform.artifact_chunks SET chunk = set_byte(chunk, 5, 255 - get_byte(chunk, 5)) WHERE number = 1",
        "DELETE FROM platform.artifact_chunks WHERE number = 2",
    ],
)
def test_an_altered_or_truncated_artifact_is_refused_and_leaves_no_file(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path, tmp_path: Path, damage: str
) -> None:
    with connect(settings) as connection:
        version = register(connection, a_version(), mojo=mojo, genmodel=genmodel, signing_key=key)
        connection.execute(damage)
        with pytest.raises(ArtifactCorrupt, match=version.mojo_sha256):
            fetch_artifact(connection, version.mojo_sha256, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unknown_artifact_is_not_found(settings: Settings, tmp_path: Path) -> None:
    with connect(settings) as connection, pytest.raises(NotFound):
        fetch_artifact(connection, "0" * 64, tmp_path)


def test_a_registration_is_one_transaction(settings: Settings, key: SigningKey, mojo: Path, genmodel: Path) -> None:
    with pytest.raises(FileNotFoundError), connect(settings) as connection:
        register(
            connection,
            a_version(),
            mojo=mojo,
            genmodel=genmodel.with_name("missing.jar"),
            signing_key=key,
        )
    with connect(settings) as connection:
        assert connection.execute("SELECT count(*) FROM platform.artifacts").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM platform.artifact_chunks").fetchone() == (0,)


def test_the_same_run_registers_a_region_once(settings: Settings, key: SigningKey, mojo: Path, genmodel: Path) -> None:
    with connect(settings) as connection:
        first = register(connection, a_version(run="9"), mojo=mojo, genmodel=genmodel, signing_key=key)
        again = register(connection, a_version(run="9"), mojo=mojo, genmodel=genmodel, signing_key=key)
    assert first == again


def test_registrations_side_by_side_never_share_a_number(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path
) -> None:
    def one(run: int) -> int:
        with connect(settings) as connection:
            return register(connection, a_version(run=str(run)), mojo=mojo, genmodel=genmodel, signing_key=key).version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(8))) == list(range(1, 9))


def test_the_champion_is_where_the_alias_points_and_every_move_is_kept(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path
) -> None:
    with connect(settings) as connection:
        for run in ("1", "2"):
            register(connection, a_version(run=run), mojo=mojo, genmodel=genmodel, signing_key=key)
        assert champion(connection, "rides", "Bern") is None
        before = champions_marker(connection)
        move = dict(use_case="rides", region="Bern", moved_by="anna")
        move_alias(connection, **move, version=1, reason="first")
        assert move_alias(connection, **move, version=1, reason="again") is None
        move_alias(connection, **move, version=2, reason="better")
        serving = champion(connection, "rides", "Bern")
        history = alias_history(connection, use_case="rides")
        assert champions_marker(connection) > before
    assert serving is not None
    assert serving.model.version == 2
    assert [(each.from_version, each.to_version, each.reason) for each in history] == [
        (1, 2, "better"),
        (None, 1, "first"),
    ]


def test_an_alias_cannot_point_at_nothing(settings: Settings) -> None:
    with connect(settings) as connection, pytest.raises(ModelNotFound, match="no version 3 of use case 'rides'"):
        move_alias(connection, use_case="rides", region="Bern", version=3, moved_by="anna", reason="typo")


def test_two_promotions_at_once_leave_one_champion_and_two_moves(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path
) -> None:
    with connect(settings) as connection:
        for run in ("1", "2"):
            register(connection, a_version(run=run), mojo=mojo, genmodel=genmodel, signing_key=key)

    def promote(version: int) -> None:
        with connect(settings) as connection:
            move_alias(connection, use_case="rides", region="Bern", version=version, moved_by="x", reason="race")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(promote, (1, 2)))
    with connect(settings) as connection:
        history = alias_history(connection, use_case="rides")
        assert len(champions(connection)) == 1
        assert champions(connection)[0].model.version == history[0].to_version
        assert history[0].from_version == history[1].to_version


@pytest.fixture(params=["direct", "through PgBouncer"])
def either_way(request: pytest.FixtureRequest) -> Settings:
    """A database reached directly, and the same kind of database through PgBouncer in transaction mode."""
    name = "settings" if request.param == "direct" else "pooled_settings"
    found: Settings = request.getfixturevalue(name)
    return found


def test_runs_at_once_give_each_region_one_champion_and_each_version_a_number_of_its_own(
    either_way: Settings, mojo: Path, genmodel: Path
) -> None:
    runs, regions, use_case = 8, ("Bern", "Chur"), f"race_{os.urandom(4).hex()}"
    together = Barrier(runs)

    def one_run(run: int) -> list[int]:
        """Registers and promotes in every region, as a training does, each step in a transaction of its own."""
        key, numbers = signing_key(either_way), []
        for region in regions if run % 2 else reversed(regions):
            together.wait(30)
            new = a_version(run=str(run), region=region).model_copy(update={"use_case": use_case})
            with connect(either_way) as connection:
                version = register(connection, new, mojo=mojo, genmodel=genmodel, signing_key=key).version
            with connect(either_way) as connection:
                move_alias(
                    connection, use_case=use_case, region=region, version=version, moved_by=str(run), reason="race"
                )  # fmt: skip
            numbers.append(version)
        return numbers

    with ThreadPoolExecutor(runs) as pool:
        given = list(pool.map(one_run, range(runs)))
    with connect(either_way) as connection:
        serving = champions(connection, use_case=use_case)
        for region in regions:
            versions = model_versions(connection, use_case=use_case, region=region)
            assert sorted(each.version for each in versions) == list(range(1, runs + 1))
            assert len({each.run for each in versions}) == runs
            moves = alias_history(connection, use_case=use_case, region=region)[::-1]
            assert sorted(move.to_version for move in moves) == list(range(1, runs + 1))
            # each move left the version that the one before it had come to: no two believed to follow the same
            assert [move.from_version for move in moves] == [None, *(move.to_version for move in moves[:-1])]
            assert [each.model.version for each in serving if each.model.region == region] == [moves[-1].to_version]
    assert all(len(numbers) == len(regions) for numbers in given)


def test_one_run_that_registers_twice_at_once_registers_one_version(
    either_way: Settings, mojo: Path, genmodel: Path
) -> None:
    """A block that Mage starts again while its first try still runs."""
    new = a_version(run="7").model_copy(update={"use_case": f"race_{os.urandom(4).hex()}"})
    together = Barrier(4)

    def register_it(_: int) -> int:
        together.wait(30)
        with connect(either_way) as connection:
            return register(
                connection, new, mojo=mojo, genmodel=genmodel, signing_key=signing_key(either_way)
            ).version  # fmt: skip

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(register_it, range(4))) == [1, 1, 1, 1]
    with connect(either_way) as connection:
        assert len(model_versions(connection, use_case=new.use_case)) == 1


def test_a_candidate_is_not_promoted_over_a_champion_it_was_never_held_against(
    settings: Settings, key: SigningKey, mojo: Path, genmodel: Path, tmp_path: Path
) -> None:
    """Another run promotes between this run's decision and its move: it decides again, for which it needs H2O."""
    demo.write_use_case(settings.use_cases_folder)
    use_case = load_use_case(settings, demo.NAME)
    with connect(settings) as connection:
        candidates = [
            register(connection, a_version(run=run), mojo=mojo, genmodel=genmodel, signing_key=key)
            for run in ("1", "2")
        ]
    h2o = settings.h2o.model_copy(update={"port": free_port(), "connect_timeout_seconds": 0.2})
    without_h2o = settings.model_copy(update={"h2o": h2o})
    with ThreadPoolExecutor(1) as pool:
        with connect(settings) as connection:
            move_alias(connection, use_case="rides", region="Bern", version=1, moved_by="other run", reason="better")
            late = pool.submit(promote, without_h2o, use_case, handed_on(candidates[1:], tmp_path), moved_by="this run")
            await_waiting(settings)
        with pytest.raises(H2OUnavailable):
            late.result(60)
    with connect(settings) as connection:
        assert [each.moved_by for each in alias_history(connection)] == ["other run"]


def test_a_version_carries_how_its_use_case_wants_it_served(settings: Settings) -> None:
    """So that the sidecar needs no declaration."""
    demo.write_use_case(settings.use_cases_folder)
    path = settings.use_cases_folder / demo.NAME / "use_case.yaml"
    default = "{hour: 5, carrier: a, is_weekend: false}"
    declared = f"{{cache_ttl_seconds: 7, maximum_vector_age_seconds: 9, default_features: {default}}}"
    path.write_text(demo.DECLARATION.replace("{cache_ttl_seconds: 60}", declared))
    use_case = load_use_case(settings, demo.NAME)
    registration = register_candidates(settings, use_case, [a_candidate(settings.runs_folder, "1", "Bern")])
    with connect(settings) as connection:
        kept = model_version(connection, demo.NAME, "Bern", registration.versions[0].version)
    assert (kept.cache_ttl_seconds, kept.maximum_vector_age_seconds) == (7, 9)
    assert kept.default_features == {"hour": 5, "carrier": "a", "is_weekend": False}
