import os
import subprocess
import time
from pathlib import Path

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def sleep_long(*args, **kwargs):
    # A program of the block's own, in a session of its own: the hardest kind to bring down.
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(kwargs["started_in"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
