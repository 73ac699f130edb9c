import time
from pathlib import Path

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def wait_for_file(*args, **kwargs):
    with Path(kwargs["count_starts_in"]).open("a") as file:
        file.write("started\n")
    while not Path(kwargs["wait_for"]).exists():
        time.sleep(0.1)
