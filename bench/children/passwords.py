"""A thousand passwords registered with Airflow's maskers, fifty of them unexpired at any time after the fiftieth."""

from __future__ import annotations

import base64
import random
from time import perf_counter
from typing import Any

from bench.children.reporting import answer
from redshift_secrets.airflow.masking import PasswordMasker, maskers
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS

_UNEXPIRED = 50
_STEP_SECONDS = 60.0
_AROUND = 10
"""A figure is the mean of so many registrations up to the one that it is named after."""


def measure(request: dict[str, Any]) -> dict[str, list[float]]:
    """Return the seconds of a registration and of masking one log line, a figure for each round."""
    report: dict[str, list[float]] = {"fiftieth": [], "thousandth": [], "line_fiftieth": [], "line_thousandth": []}
    rand = random.Random(0)
    for _ in range(request["rounds"]):
        for masker in maskers():
            masker.reset_masker() if hasattr(masker, "reset_masker") else masker.__init__()
        now = 0.0
        registrations = PasswordMasker(lambda: now)  # noqa: B023
        spent = []
        for number in range(1, 1001):
            now += _STEP_SECONDS
            password = base64.b64encode(rand.randbytes(255)).decode()
            expires_at = now + _UNEXPIRED * _STEP_SECONDS - CLOCKS_DIFFER_SECONDS
            started = perf_counter()
            registrations.add(password, expires_at)
            spent.append(perf_counter() - started)
            if number in (_UNEXPIRED, 1000):
                name = "fiftieth" if number == _UNEXPIRED else "thousandth"
                report[name].append(sum(spent[-_AROUND:]) / _AROUND)
                report[f"line_{name}"].append(_masking_a_line())
    return report


def _masking_a_line() -> float:
    line = "INFO - connected to prod.abc.eu-west-1.redshift.amazonaws.com:5439 as IAM:etl, 3 rows in 0.2 s " * 5
    masker = maskers()[0]
    started = perf_counter()
    for _ in range(1000):
        masker.redact(line)
    return (perf_counter() - started) / 1000


if __name__ == "__main__":
    answer(measure)
