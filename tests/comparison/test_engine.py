import fcntl
import threading
import time
from pathlib import Path

import psutil

from voxgraft.comparison.engine import Event, LocalEngine


def test_a_failed_run_is_told_by_name_and_the_others_go_on(tmp_path: Path) -> None:
    folders = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.yaml").write_text(f"{name}: 1\n")
        folders.append(folder)
    events: list[Event] = []
    LocalEngine(1, 1, tmp_path / "logs").execute(folders, events.append)
    assert [(event.folder, event.kind) for event in events] == [
        (folder, "failed") for folder in folders
    ]
    for event in events:
        assert f"{event.folder.name}: unknown key" in event.note
        assert "target: missing, expected a mapping" in event.note


def test_a_killed_worker_costs_one_run_only(tmp_path: Path) -> None:
    stuck, after = tmp_path / "stuck", tmp_path / "after"
    for folder in (stuck, after):
        folder.mkdir()
        (folder / "recipe.yaml").write_text("a: 1\n")
    events: list[Event] = []

    def kill_when_it_waits() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for child in psutil.Process().children():
                if "voxgraft.comparison.worker" in child.cmdline():
                    opened = {Path(file.path) for file in child.open_files()}
                    if stuck / ".lock" in opened:
                        child.kill()
                        return
            time.sleep(0.05)

    with (stuck / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        killer = threading.Thread(target=kill_when_it_waits)
        killer.start()
        LocalEngine(1, 1, tmp_path / "logs").execute([stuck, after], events.append)
        killer.join()
    assert [(event.folder, event.kind) for event in events] == [
        (stuck, "failed"),
        (after, "failed"),
    ]
    assert "was killed by signal 9" in events[0].note
    assert "unknown key" in events[1].note
    workers = [child.cmdline() for child in psutil.Process().children()]
    assert not any("voxgraft.comparison.worker" in command for command in workers)
