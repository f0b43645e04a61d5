from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.errors import RecipeError
from voxgraft.recipes import Faults, read_section, read_yaml, set_path, write_yaml


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = 3
    rate: float = 0.1
    sizes: tuple[int, ...] = ()
    mode: str | None = None


def test_yaml_reads_numbers_and_words_as_people_mean_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("rate: 1e-3\nbig: 2E4\nclasses: [no, yes, on, off]\nflag: true\nmode: 'no'\n")
    assert read_yaml(path) == {
        "rate": 0.001,
        "big": 20000.0,
        "classes": ["no", "yes", "on", "off"],
        "flag": True,
        "mode": "no",
    }


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\x85\ufeff"))
    | st.sampled_from(["no", "yes", "1e-3", "0x10", "null", "~", "1_000", "2026-01-01", "1:30"])
)


@given(st.dictionaries(st.text("abcdef_no", min_size=1, max_size=4), _SCALARS | st.lists(_SCALARS)))
def test_what_is_written_is_read_again(tmp_path_factory: Any, data: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    write_yaml(path, data)
    assert read_yaml(path) == data


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", "key 'a' is given twice"),
        ("a: [1\n", "no readable YAML"),
        ("- 1\n", "holds no settings but '[1]'; expected lines of"),
        ("", "is empty; expected lines of"),
        ("a: !!python/object/apply:os.system [ls]\n", "no readable YAML"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yaml") as caught:
        read_yaml(path)
    assert told in str(caught.value)


def test_all_faults_of_a_file_are_named_at_once() -> None:
    faults = Faults("plan.yaml")
    read_section(Settings, {"stepz": 4}, "optimization", faults)
    read_section(Settings, {"steps": "many", "sizes": [1, "two"]}, "other", faults)
    read_section(Settings, 7, "third", faults)
    with pytest.raises(RecipeError) as caught:
        faults.raise_if_any("plan")
    message = str(caught.value)
    assert "plan.yaml is not a valid plan (4 faults)" in message
    assert "optimization.stepz: unknown key; did you mean 'steps'?" in message
    assert "other.steps: Input should be a valid integer, found 'many'" in message
    assert "other.sizes.1: Input should be a valid integer, found 'two'" in message
    assert "third: found 7, expected a mapping of settings" in message


def test_set_reaches_into_mappings_and_lists() -> None:
    data: dict[str, Any] = {"a": {"b": 1}, "starts": [{"name": "x"}]}
    set_path(data, "a.b=1e-4")
    set_path(data, "c.d.e=[1, 2]")
    set_path(data, "starts.0.norm=group")
    assert data == {
        "a": {"b": 1e-4},
        "starts": [{"name": "x", "norm": "group"}],
        "c": {"d": {"e": [1, 2]}},
    }


@pytest.mark.parametrize("assignment", ["a.b", "=3", "a.b.c=1", "starts.7.name=x", "starts.x=1"])
def test_an_impossible_set_is_refused(assignment: str) -> None:
    data: dict[str, Any] = {"a": {"b": 1}, "starts": [{"name": "x"}]}
    with pytest.raises(RecipeError, match="--set"):
        set_path(data, assignment)
