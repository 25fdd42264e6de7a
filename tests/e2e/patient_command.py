"""`redshift-secrets` with more patience than the product has, for machines that are busy."""

from __future__ import annotations

from redshift_secrets.cli.app import main
from tests.e2e.patience import be_patient

if __name__ == "__main__":
    be_patient()
    main()
