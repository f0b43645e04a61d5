import re
from pathlib import Path

import yaml

from voxgraft.transforms import (
    WINDOWS_HU,
    Augmentation,
    Preprocessing,
    Window,
    WindowChannels,
    parse_intensity,
)

PAGE = (Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_the_settings_of_the_page_are_read_and_described_as_it_says() -> None:
    preprocessing = Preprocessing.from_dict(BLOCKS[0]["preprocessing"])
    assert set(BLOCKS[0]["preprocessing"]) == set(preprocessing.to_dict())
    assert f"```\n{preprocessing.describe()}\n```" in PAGE
    chest = Preprocessing.from_dict(BLOCKS[1]["preprocessing"])
    assert chest.known_size_voxels == (None, 224, 224)
    channels = WindowChannels(tuple(map(Window.named, ("lung", "pe", "mediastinum"))))
    assert chest.intensity == channels
    assert parse_intensity(BLOCKS[2]["intensity"]) == Window(-1350, 150)
    assert parse_intensity(BLOCKS[3]["intensity"]) == channels
    augmentation = Augmentation.from_dict(BLOCKS[4]["augmentation"])
    named = set(BLOCKS[4]["augmentation"]) | set(re.findall(r"`(\w+_probability)`", PAGE))
    assert named == set(augmentation.to_dict())


def test_the_page_names_every_window_with_its_bounds() -> None:
    for name, (low, high) in WINDOWS_HU.items():
        row = rf"`{name}` \| \[{low:g}, {high:g}\] \| {(low + high) / 2:g}, {high - low:g} \|"
        assert re.search(row, PAGE), name
