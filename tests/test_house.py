"""Section 9: who may import whom, and what importing and constructing the backend may do."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import redshift_secrets

ROOT = Path(redshift_secrets.__file__).parent
PRODUCT = "redshift_secrets"


@dataclass(frozen=True)
class Import:
    """One import: from which module, of what, and whether it happens when the module itself is imported."""

    importer: str
    target: str
    at_import: bool
    for_types: bool = False


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports_of(module: str) -> Iterator[Import]:
    """Every import of a module, those inside functions and those by `importlib.import_module("...")` too."""

    def visit(node: ast.AST, at_import: bool, for_types: bool) -> Iterator[Import]:
        for target in targets(node):
            yield Import(module, target, at_import, for_types)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types = True
        in_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_import and not in_function, for_types)

    def targets(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which this test does not follow"
            assert node.module is not None
            # `from package import module` is an import of that module.
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))

    yield from visit(TREES[module], at_import=True, for_types=False)


IMPORTS = [each for module in FILES for each in imports_of(module)]

PURE = {
    f"{PRODUCT}.{name}"
    for name in (
        "values",
        "db_users",
        "tags",
        "settings",
        "model",
        "errors",
        "specs",
        "connections",
        "rows",
        "metrics",
        "snapshots",
    )
}
KEEPERS = {f"{PRODUCT}.catalog", f"{PRODUCT}.credentials"}


def floor_of(module: str) -> str:
    part = module.removeprefix(PRODUCT).lstrip(".").split(".")[0]
    if module in PURE:
        return "pure"
    if module in KEEPERS:
        return "keepers"
    # The package itself does nothing but to name the backend.
    return part if part in ("assembly", "asker", "aws", "cache", "broker", "parallel", "compat", "local") else "faces"


MAY_IMPORT = {
    "faces": {"faces", "assembly", "broker", "keepers", "aws", "cache", "pure", "parallel", "compat"},
    "assembly": {"asker", "broker", "aws", "cache", "pure"},
    "broker": {"keepers", "aws", "cache", "pure", "parallel"},
    "keepers": {"aws", "cache", "pure", "parallel"},
    "aws": {"aws", "cache", "pure", "parallel"},
    "parallel": {"cache", "pure"},
    "cache": {"cache", "pure"},
    "asker": {"pure"},
    "compat": {"pure"},
    "pure": {"pure"},
}
"""The drawing of section 9, read downwards. `assembly` puts its floors together; `parallel`, `asker` and `compat` are
small helpers at the bottom."""

product = pytest.mark.parametrize("module", [name for name in FILES if floor_of(name) != "local"])


def top(target: str) -> str:
    return target.split(".")[0]


def test_the_house_has_every_floor_of_the_drawing():
    assert {floor_of(name) for name in FILES} >= {"faces", "broker", "keepers", "aws", "cache", "pure"}
    assert set(FILES) >= PURE | KEEPERS


@product
def test_imports_point_downwards_only(module: str):
    ours = [each for each in imports_of(module) if top(each.target) == PRODUCT and floor_of(each.target) != "local"]
    upwards = {each.target for each in ours if floor_of(each.target) not in MAY_IMPORT[floor_of(module)]}
    assert upwards == set()


@product
def test_only_the_command_line_imports_the_stand_in_and_only_when_it_is_asked_for(module: str):
    stand_in = [each for each in imports_of(module) if each.target.startswith(f"{PRODUCT}.local")]
    if module.startswith(f"{PRODUCT}.cli"):
        assert not any(each.at_import for each in stand_in)
    else:
        assert stand_in == []


@product
def test_only_the_door_to_aws_knows_boto3(module: str):
    aws_sdk = {each.target for each in imports_of(module) if top(each.target) in ("boto3", "botocore")}
    assert aws_sdk == set() or floor_of(module) == "aws"


def test_the_door_to_aws_is_seen_to_import_boto3():
    assert any(floor_of(each.importer) == "aws" and each.target == "boto3" for each in IMPORTS)


@pytest.mark.parametrize("module", [name for name in FILES if floor_of(name) == "cache"])
def test_the_cache_knows_nothing_of_redshift(module: str):
    ours = {each.target for each in imports_of(module) if top(each.target) == PRODUCT}
    assert {target for target in ours if floor_of(target) != "cache"} <= {f"{PRODUCT}.errors"}
    assert not {top(each.target) for each in imports_of(module)} & {"airflow", "redshift_connector"}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_import_nothing_that_could_do_io(module: str):
    harmless = {
        "__future__",
        "base64",
        "collections",
        "dataclasses",
        "datetime",
        "difflib",
        "json",
        "msgspec",
        "re",
        "string",
        "typing",
        "zlib",
        PRODUCT,
    }
    assert {top(each.target) for each in imports_of(module)} <= harmless


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_open_print_and_ask_nothing(module: str):
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input", "eval", "exec", "__import__", "datetime.now", "datetime.utcnow"}


def test_the_two_keepers_do_not_know_each_other():
    assert [each for each in IMPORTS if each.importer in KEEPERS and each.target in KEEPERS] == []


def loaded_with(module: str) -> set[str]:
    """Everything that an import of `module` imports in turn, ours followed, others named."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for each in imports_of(waiting.pop()):
            if each.at_import and not each.for_types and each.target not in found:
                found.add(each.target)
                if each.target in FILES:
                    waiting.append(each.target)
    return found


def test_the_backend_loads_neither_the_door_nor_a_client_nor_airflows_configuration():
    loaded = loaded_with(f"{PRODUCT}.backend")
    assert f"{PRODUCT}.settings" in loaded
    assert not any(floor_of(name) in ("aws", "local") for name in loaded if name in FILES)
    others = {name for name in loaded if top(name) not in {PRODUCT, *sys.stdlib_module_names}}
    assert others <= {"airflow.secrets", "cachetools", "cryptography.fernet", "msgspec", "msgspec.structs"}


# --- in a process of its own

HEAVY = ("boto3", "botocore", "redshift_connector", "sqlalchemy", "redis")
SETTINGS = {
    "regions": ["eu-west-1"],
    "role_arn": "arn:aws:iam::123456789012:role/airflow",
    "accounts": [{"role_arn": "arn:aws:iam::210987654321:role/airflow", "regions": ["us-east-1"]}],
    "connections_lookup_pattern": "^redshift_",
    "db_user": "airflow_etl",
    "extra": {"sslmode": "verify-full"},
    "endpoint_url": "http://127.0.0.1:9",
    "duration_seconds": "900",
}

PROBE = """
import sys, threading

HEAVY = {heavy!r}
KINDS = ("open", "socket.", "subprocess.", "sqlite3.", "os.fork", "_thread.start_new_thread", "os.mkdir", "os.remove")
did = []
watching = False


def audit(event, args):
    if watching and event.startswith(KINDS):
        did.append([event, repr(args[:1])])


def construct(**kwargs):
    global watching
    from redshift_secrets import RedshiftSecretsBackend

    sys.addaudithook(audit)
    watching = True
    backend = RedshiftSecretsBackend(**kwargs)
    watching = False
    return backend


def report():
    return {{
        "heavy": sorted(name for name in HEAVY if name in sys.modules),
        "threads": threading.active_count(),
        "did": did,
    }}
"""


def run(script: str, tmp_path: Path, **environment: str) -> dict[str, object]:
    """Run a script in a fresh process with an Airflow home of its own; it prints one JSON object last."""
    (tmp_path / "probe.py").write_text(PROBE.format(heavy=HEAVY), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW", "AWS_"))}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT.parent)]),
        **environment,
    }
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def test_airflow_can_construct_the_backend_while_its_configuration_is_being_imported(tmp_path: Path):
    # This is how every Airflow process does it. Airflow itself has not loaded SQLAlchemy by then, so what is loaded
    # after our constructor says what we did.
    (tmp_path / "probing.py").write_text(
        textwrap.dedent("""
        from airflow.secrets import BaseSecretsBackend
        import probe

        reports = []

        class Backend(BaseSecretsBackend):
            def __init__(self, **kwargs):
                import sys
                backend = probe.construct(**kwargs)
                complete = hasattr(sys.modules["airflow.configuration"], "secrets_backend_list")
                reports.append({**probe.report(), "region": backend.settings.regions, "too_late": complete})
        """),
        encoding="utf-8",
    )
    answer = run(
        "import airflow.configuration, probing, json; print(json.dumps(probing.reports[0]))",
        tmp_path,
        AIRFLOW__SECRETS__BACKEND="probing.Backend",
        AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps(SETTINGS),
    )
    assert answer == {"heavy": [], "threads": 1, "did": [], "region": ["eu-west-1"], "too_late": False}


def test_importing_and_constructing_the_backend_loads_opens_and_starts_nothing(tmp_path: Path):
    answer = run(
        f"""
        import builtins, json, sys
        import airflow.secrets  # loads Airflow as a whole, and with it whatever Airflow wants
        import probe

        before = set(sys.modules)
        asked, real = [], builtins.__import__

        def listening(name, globals=None, locals=None, fromlist=(), level=0):
            if str((globals or {{}}).get("__name__")).startswith("redshift_secrets"):
                asked.extend([name, *(f"{{name}}.{{each}}" for each in fromlist or ())])
            return real(name, globals, locals, fromlist, level)

        builtins.__import__ = listening
        probe.construct(**json.loads({json.dumps(json.dumps(SETTINGS))}))
        builtins.__import__ = real
        new = set(sys.modules) - before
        answer = probe.report()
        answer["heavy"] = sorted(new & set(probe.HEAVY))
        answer["airflow"] = sorted({{name for name in asked if name.startswith("airflow")}})
        answer["backend"] = "redshift_secrets.backend" in new
        print(json.dumps(answer))
        """,
        tmp_path,
    )
    assert answer == {
        "heavy": [],
        "threads": 1,
        "did": [],
        "airflow": ["airflow.secrets", "airflow.secrets.BaseSecretsBackend"],
        "backend": True,
    }
