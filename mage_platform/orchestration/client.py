"""Talk to a Mage server: start a pipeline, look at a run, stop it, and see what starts by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from mage_platform.orchestration.mage_session import PUBLIC_API_KEY, MageSession
from mage_platform.orchestration.progress import (
    LastRun,
    RunProgress,
    RunStatus,
    Trigger,
    moment,
    run_progress,
)
from mage_platform.orchestration.refusals import RunNotFound

API_TRIGGER = "platform_api"


class MageClient:
    """One login at one Mage server.

    The login happens with the first request that needs one, is renewed when Mage forgets it, and is left out
    where the server runs without authentication.

    Args:
        base_url: Address of the server, such as `http://127.0.0.1:6789`.
        email: Login of a user with the right to edit.
        password: Their password.
        api_key: Mage's public API key.
    """

    def __init__(self, base_url: str, email: str, password: str, api_key: str = PUBLIC_API_KEY) -> None:
        self._session = MageSession(base_url, email, password, api_key)
        self._triggers: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def is_up(self) -> bool:
        """Tell whether a Mage server answers and its scheduler runs.

        Returns:
            False when nothing listens there, or it is not (yet) a running Mage.

        Raises:
            MageUnavailable: Something listens and does not answer in time, so that nobody can tell.
        """
        return self._session.is_up()

    def trigger(self, pipeline: str, variables: Mapping[str, Any]) -> int:
        """Start a run of a pipeline through its API trigger, which is made when there is none.

        Args:
            pipeline: Name of the pipeline.
            variables: Variables of this run, which the blocks get as keyword arguments.

        Returns:
            Mage's number of the run, which the scheduler takes up within two seconds.

        Raises:
            PipelineNotFound: The project has no such pipeline.
            MageUnavailable: The server did not answer, or answered with an error.
        """
        trigger_id, token = self.api_trigger(pipeline)
        answer = self._session.request(
            "POST",
            f"/api/pipeline_schedules/{trigger_id}/api_trigger",
            {"pipeline_run": {"variables": dict(variables)}},
            bearer=token,  # in the address it would stand in the server's log
        )
        return int(answer["pipeline_run"]["id"])

    def api_trigger(self, pipeline: str) -> tuple[int, str]:
        """The API trigger of a pipeline, made when there is none.

        Args:
            pipeline: Name of the pipeline.

        Returns:
            Its number and its token, which lets anybody start the pipeline: a secret.

        Raises:
            PipelineNotFound: The project has no such pipeline.
        """
        if pipeline not in self._triggers:
            path = f"/api/pipelines/{pipeline}/pipeline_schedules"
            known = self._session.request("GET", path)["pipeline_schedules"]
            usable = [each for each in known if _is_usable(each)]
            record = (
                usable[0] if usable else self._session.request("POST", path, _new_api_trigger())["pipeline_schedule"]
            )
            self._triggers[pipeline] = (int(record["id"]), str(record["token"]))
        return self._triggers[pipeline]

    def run(self, run_id: int) -> RunProgress:
        """The run as it stands.

        Args:
            run_id: Mage's number of the run.

        Returns:
            Its state and that of its blocks.

        Raises:
            RunNotFound: Mage knows no such run.
        """
        return run_progress(self._session.request("GET", f"/api/pipeline_runs/{run_id}")["pipeline_run"])

    def cancel(self, run_id: int) -> None:
        """Stop a run and the processes of its blocks; a run that has ended stays as it is.

        Args:
            run_id: Mage's number of the run.

        Raises:
            RunNotFound: Mage knows no such run.
        """
        self._session.request("PUT", f"/api/pipeline_runs/{run_id}", {"pipeline_run": {"status": "cancelled"}})

    def log_of(self, run_id: int, block: str) -> str:
        """What a block wrote to its log during a run.

        Args:
            run_id: Mage's number of the run.
            block: Name of the block; for a child of a dynamic block `train_region:train_EWR`.

        Returns:
            The messages, one after the other; empty when the block has not begun.

        Raises:
            RunNotFound: Mage knows no such run.
        """
        run = self.run(run_id)
        number = next((each.id for each in run.blocks if each.name == block), None)
        if number is None:
            raise RunNotFound(
                f"Run {run_id} of {run.pipeline} has no block {block!r}. It has: "
                f"{', '.join(each.name for each in run.blocks) or 'none yet'}."
            )
        answer = self._session.request(
            "GET",
            f"/api/pipelines/{run.pipeline}/logs",
            parameters={"pipeline_run_id[]": str(run_id), "block_run_id[]": str(number)},
        )
        files = [each for part in answer["logs"] for each in part.get("block_run_logs") or ()]
        return "\n".join(_message(line) for each in files for line in str(each["content"]).splitlines())

    def triggers(self) -> tuple[Trigger, ...]:
        """Whatever starts a pipeline of the project, each with its latest run.

        Returns:
            The triggers, sorted by pipeline and name.
        """
        records = self._session.request("GET", "/api/pipeline_schedules")["pipeline_schedules"]
        found = [self._with_last_run(each) for each in records]
        return tuple(sorted(found, key=lambda each: (each.pipeline, each.name)))

    def unfinished_run(self, pipeline: str) -> int | None:
        """The number of a run of the pipeline that was begun and has not ended, if there is one.

        Mage takes such a run up again when its server starts.
        """
        runs = [each.last_run for each in self.triggers() if each.pipeline == pipeline and each.last_run]
        return next((run.run_id for run in runs if not run.status.ended), None)

    def _with_last_run(self, record: Mapping[str, Any]) -> Trigger:
        path = f"/api/pipeline_schedules/{record['id']}/pipeline_runs"
        runs = self._session.request("GET", path, parameters={"_limit": "1"})["pipeline_runs"]
        return Trigger(
            id=record["id"],
            name=record["name"],
            pipeline=record["pipeline_uuid"],
            kind=record["schedule_type"] or "time",
            interval=record["schedule_interval"],
            active=record["status"] == "active",
            next_run_at=moment(record.get("next_pipeline_run_date")),
            last_run=_last_run(runs[0]) if runs else None,
        )


def _is_usable(record: Mapping[str, Any]) -> bool:
    token = str(record.get("token") or "")
    return record["schedule_type"] == "api" and record["status"] == "active" and token.isalnum()


def _new_api_trigger() -> dict[str, Any]:
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "pipeline_schedule": {
            "name": API_TRIGGER,
            "schedule_type": "api",
            "status": "active",
            "start_time": began,
        }
    }


def _last_run(record: Mapping[str, Any]) -> LastRun:
    return LastRun(run_id=record["id"], status=RunStatus(record["status"]), started_at=moment(record.get("started_at")))


def _message(line: str) -> str:
    """The text of a line of Mage's log, which is a time and a JSON object."""
    _, brace, rest = line.partition("{")
    try:
        return str(json.loads(brace + rest)["message"])
    except (ValueError, KeyError, TypeError):
        return line
