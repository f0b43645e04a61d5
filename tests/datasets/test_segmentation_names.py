"""Names of structures: one for each, whatever a data set calls it."""

from pathlib import Path

import pytest
import yaml

from voxgraft.datasets import ABDOMEN_ATLAS_1_0, ABDOMEN_ATLAS_1_1, SUPREM_HEAD, canonical_name
from voxgraft.datasets import structures as module
from voxgraft.datasets.structures import _key, name_classes, read_name_map
from voxgraft.errors import TableError


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        (("kidney_left", "Left Kidney", "kidney (L)", "kidneyLeft", "L-Kidney"), "kidney_left"),
        (("gall_bladder", "Gall Bladder", "gallbladder"), "gallbladder"),
        (("postcava", "IVC", "inferior vena cava"), "inferior_vena_cava"),
        (("RAG", "right adrenal gland", "adrenal gland R"), "adrenal_gland_right"),
        (("celiac_truck", "celiac_trunk"), "celiac_trunk"),
        (("vertebrae_L1", "Vertebra L1"), "vertebrae_L1"),
        (("rib_left_1", "Left rib 1"), "rib_left_1"),
        (("Upper lobe of lung L", "lung_upper_lobe_left"), "lung_upper_lobe_left"),
        (("Left Head of Femur",), "femur_head_left"),
        (("bladder", "urinary_bladder"), "urinary_bladder"),
        (("kidney", "lungs", "intestine", "cancer", "prostate/uterus", "PZ", "", "L"), None),
    ],
)
def test_synonyms(names, canonical):
    assert {canonical_name(name) for name in names} == {canonical}


def test_no_name_leads_to_two_structures():
    content = yaml.safe_load(Path(module._NAMES).read_text())
    keys = {}
    for name, others in content["single"].items():
        for other in (name, *others):
            assert keys.setdefault(_key(other), name) == name
    for name, others in content["sided"].items():
        for other in (name, *others):
            assert keys.setdefault(_key(f"{other}_left"), name) == name
    assert {canonical_name(name) for name in content["single"]} == set(content["single"])
    assert not set(keys) & {_key(name) for name in content["ambiguous"]}


def test_published_orders_hold_canonical_names():
    assert [len(order) for order in (ABDOMEN_ATLAS_1_0, ABDOMEN_ATLAS_1_1, SUPREM_HEAD)] == [
        9, 25, 32
    ]  # fmt: skip
    # The anatomical channels of the published heads are AbdomenAtlas 1.1's classes, reordered.
    assert set(SUPREM_HEAD[:25]) == set(ABDOMEN_ATLAS_1_1)
    assert SUPREM_HEAD[:25] != ABDOMEN_ATLAS_1_1
    kept = {"intestine"}
    assert {n for n in SUPREM_HEAD if canonical_name(n) != n} == kept
    published = (
        "spleen kidney_right kidney_left gall_bladder esophagus liver stomach aorta postcava"
    )
    assert tuple(map(canonical_name, published.split())) == SUPREM_HEAD[:9]


def test_classes_that_would_share_a_name_must_be_chosen():
    with pytest.raises(TableError, match="'gall_bladder', 'Gallbladder' would all be 'gallbladd"):
        name_classes(["gall_bladder", "Gallbladder"])
    lobes = ["lung_upper_lobe_left", "lung_lower_lobe_left", "my thing"]
    named = name_classes(lobes, {lobes[0]: ("lung_left",), lobes[1]: ("lung_left",)})
    assert named.names == {
        lobes[0]: ("lung_left",), lobes[1]: ("lung_left",), "my thing": ("my_thing",)
    }  # fmt: skip
    assert named.unknown == ("my thing",)
    with pytest.raises(TableError, match="the name map has 'x', but the data set's classes are"):
        name_classes(["liver"], {"x": ("liver",)})


def test_name_maps(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("name,structure\ncancer,liver_tumor\ncancer,liver\nliver,liver\n")
    assert read_name_map(path) == {"cancer": ("liver_tumor", "liver"), "liver": ("liver",)}
    path.write_text("name,other\na,b\n")
    with pytest.raises(TableError, match="has columns name, other"):
        read_name_map(path)
    other = tmp_path / "names.yaml"
    other.write_text("a: two words\nb: 3\nc: ''\n")
    with pytest.raises(TableError, match="3 faults"):
        read_name_map(other)
    with pytest.raises(TableError, match="cannot be read as YAML"):
        read_name_map(tmp_path / "gone.yaml")
