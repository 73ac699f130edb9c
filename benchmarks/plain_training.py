"""The H2O calls of a training without a platform around them; what to do comes as JSON on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h2o
from h2o.automl import H2OAutoML


def train(job: dict[str, Any]) -> None:
    """Upload, train, predict, download."""
    folder = Path(job["folder"])
    frames = {}
    for part in ("train", "validate", "blend", "test"):
        frame = h2o.upload_file(str(folder / f"{part}.parquet"), destination_frame=f"{job['project']}_{part}")
        for column in ("_label", *job["factors"]):
            if frame.types[column] != "enum":
                frame[column] = frame[column].asfactor()
        frames[part] = frame
    automl = H2OAutoML(project_name=job["project"], verbosity=None, **job["options"])
    automl.train(
        x=job["features"], y="_label", training_frame=frames["train"], validation_frame=frames["validate"],
        leaderboard_frame=frames["validate"], blending_frame=frames["blend"],
    )  # fmt: skip
    automl.leader.predict(frames["test"]).get_frame_data()
    automl.leader.download_mojo(path=str(folder), get_genmodel_jar=True)
    h2o.remove([frame.frame_id for frame in frames.values()])


def main() -> None:
    """Every job, one after the other."""
    jobs = json.load(sys.stdin)
    login = jobs[0]["login"]
    h2o.connect(url=jobs[0]["url"], auth=tuple(login) if login else None, verbose=False)
    h2o.no_progress()
    for job in jobs:
        train(job)


if __name__ == "__main__":
    main()
