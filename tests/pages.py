"""Tables of the documentation that tests found. `make docs` writes down what they find; without it they compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def check(page: str, name: str, found: str, *, write: bool) -> None:
    """Fail when what `page` has between its marks `<!-- found: NAME -->` and `<!-- end -->` is not what was `found`.

    With `write` it is put there instead.
    """
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    before, mark, rest = text.partition(f"<!-- found: {name} -->\n")
    assert mark, f"{page} has no place for {name}"
    shown, end, after = rest.partition("<!-- end -->")
    assert end, f"{page}: the place for {name} has no end"
    if write:
        path.write_text(f"{before}{mark}\n{found.strip()}\n\n{end}{after}", encoding="utf-8")
        return
    assert shown.strip() == found.strip(), f"{page} does not say what was found; make docs writes it anew"
