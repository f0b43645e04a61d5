from pathlib import Path

from voxgraft.cli.compare import _plan_from_flags


def test_without_a_model_each_source_gets_its_own_network() -> None:
    starts = ["scratch", "resnet18.a1_in1k", "efficientnet_b0.ra_in1k"]
    data = _plan_from_flags(Path("cases.csv"), ["y"], None, starts, "50,all", 3)
    assert data["models"] == ["resnet18_3d", "efficientnet_b0_3d"]
    assert data["starts"] == [
        "scratch",
        {"name": "resnet18.a1_in1k", "source": "resnet18.a1_in1k", "model": "resnet18_3d"},
        {
            "name": "efficientnet_b0.ra_in1k",
            "source": "efficientnet_b0.ra_in1k",
            "model": "efficientnet_b0_3d",
        },
    ]


def test_one_network_serves_all_and_a_model_overrules() -> None:
    table = Path("cases.csv")
    one = _plan_from_flags(table, ["y"], None, ["scratch", "resnet18.a1_in1k"], None, None)
    assert (one["models"], one["starts"]) == (["resnet18_3d"], ["scratch", "resnet18.a1_in1k"])
    told = _plan_from_flags(table, ["y"], ["resnet34_3d"], ["scratch"], None, None)
    assert told["models"] == ["resnet34_3d"]
