"""The README's snippets run, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from voxgraft.errors import FetchError
from voxgraft.weights import SOURCES, fetch_source

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_python_snippet_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        fetch_source(SOURCES.get("efficientnet_lite0.tf_in1k"))
    except FetchError as error:
        pytest.skip(str(error))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102
    assert "coverage   100.0%" in capsys.readouterr().out


def test_every_verb_of_the_readme_exists() -> None:
    from voxgraft.cli.main import app

    known = {command.name for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        used = set(re.findall(r"^\s*voxgraft ([a-z]+)\b", text, re.MULTILINE))
        assert used <= known, f"{page.name}: {used - known}"
