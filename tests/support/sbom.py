"""`make package`: the bill of materials of what `pip install redshift-secrets` installs, as CycloneDX JSON."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

NAME = "redshift-secrets"


def bill_of_materials(environment: Path, python: Path) -> dict[str, Any]:
    """Return the bill of materials of a virtual environment in which `NAME` is installed, and nothing else was asked for.

    `python` is that of an environment with the dependency group `bom`. Links are left out: they name package indexes, and with the
    wheel the folder of whoever built it.
    """
    command = [str(python), "-m", "cyclonedx_py", "environment", "--short-PURLs", str(environment)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    bill: dict[str, Any] = json.loads(done.stdout)
    (main,) = (each for each in bill["components"] if each["name"] == NAME)
    bill["components"].remove(main)
    bill["metadata"]["component"] = {
        **main,
        "purl": f"pkg:pypi/{NAME}@{main['version']}",
    }  # none for a wheel in a folder
    (packages,) = environment.glob("lib/python*/site-packages")
    for component in bill["components"]:
        if "licenses" not in component:
            component["licenses"] = [{"license": {"name": _license_in_words(component["name"], packages)}}]
    bill["components"].append(_htmx(packages))
    _drop_links(bill)
    return bill


def _htmx(packages: Path) -> dict[str, Any]:
    """The one file in the wheel that is no Python and from elsewhere."""
    text = (packages / "redshift_secrets" / "web" / "static" / "htmx.min.js").read_text(encoding="utf-8")
    (version,) = re.findall(r'version:"([\d.]+)"', text)
    purl = f"pkg:npm/htmx.org@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": "htmx.org",
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": "0BSD"}}],
    }


def _license_in_words(name: str, packages: Path) -> str:
    """The first line of what a package says of its license, which the tool leaves out where it is no SPDX expression."""
    (distribution,) = metadata.distributions(name=name, path=[str(packages)])
    return str(distribution.metadata["License"]).partition("\n")[0]


def _drop_links(node: Any) -> None:
    if isinstance(node, dict):
        node.pop("externalReferences", None)
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _drop_links(each)
