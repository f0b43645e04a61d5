from voxgraft.models import build_encoder


def test_center_says_which_slices_it_cannot_see() -> None:
    notes = build_encoder("resnet18_3d").declaration.center_notes()
    assert len(notes) == 1
    assert "sees one slice in 32 only" in notes[0]
    assert build_encoder("resnet18_3d", depth_stride=1).declaration.center_notes() == []
