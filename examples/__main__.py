"""`make demo`: run `demo.py`, and exit with 0, with 1 when it failed, or with 130 when interrupted."""

from __future__ import annotations

import sys
import time

from tests.support.interrupts import exit_on_signals


def main() -> int:
    started = time.monotonic()
    exit_on_signals("==> Interrupted; everything is stopped and removed.")
    # Imported here, since that takes a second, in which Ctrl-C is to work, too.
    from examples.demo import DemoFailedError, demo
    from tests.support.airflow_site import AirflowSiteError

    try:
        demo()
    except (AirflowSiteError, DemoFailedError) as error:
        print(f"==> The demo failed: {error}")
        return 1
    print(f"==> Done in {time.monotonic() - started:.0f} s; everything is stopped and removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
