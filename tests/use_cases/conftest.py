"""The flights of 2013, read once."""

import pandas as pd
import pytest

from use_cases.flight_delays.source import load_rows


@pytest.fixture(scope="session")
def flights_of_2013() -> pd.DataFrame:
    """All source rows of the use case that ships."""
    return load_rows()
