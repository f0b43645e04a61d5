"""The accounts of a segmentation network's encoder, decoder and head as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from voxgraft.grafting.decoder_transfer import Transfer
from voxgraft.grafting.graft import Graft
from voxgraft.models import SegmentationNetwork
from voxgraft.weights.convert.convert import BUFFER_NAMES, stage_of
from voxgraft.weights.report import GraftReport


def whole_report(
    part: Graft, transfer: Transfer, network: SegmentationNetwork, state: Mapping[str, Tensor]
) -> GraftReport:
    """Join the accounts of encoder and decoder; of a head's outputs, each counts for itself.

    Args:
        part: The encoder's graft.
        transfer: What became of decoder and head.
        network: The network.
        state: The source's tensors.
    """
    decoder, rows = transfer.converted.report, transfer.rows

    def inner(verdicts: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        return [{**verdict, "name": f"encoder.{verdict['name']}"} for verdict in verdicts]

    first = part.report
    used = {verdict["from"] for verdict in (*decoder.loaded, *decoder.adapted)}
    report = replace(
        first,
        loaded=(*inner(first.loaded), *decoder.loaded),
        adapted=(*inner(first.adapted), *decoder.adapted),
        fresh=(*inner(first.fresh), *decoder.fresh),
        dropped=tuple(verdict for verdict in first.dropped if verdict["name"] not in used),
    )
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    verdicts = {"loaded": report.loaded, "adapted": report.adapted, "fresh": report.fresh}
    counts = {
        kind: sum(sizes.get(verdict["name"], 0) for verdict in named)
        for kind, named in verdicts.items()
    }
    stale: dict[str, int] = {}
    unused = 0
    if rows is not None:
        for verdict in (*decoder.loaded, *decoder.adapted):
            if verdict["name"] in rows.own:
                share = sizes[verdict["name"]] // len(rows.classes)
                stale[verdict["name"]] = share * len(rows.fresh)
                unused += share * len(rows.left)
        counts["adapted"] -= sum(stale.values())
        counts["fresh"] += sum(stale.values())
    dropped = [v["name"] for v in report.dropped if not BUFFER_NAMES.fullmatch(v["name"])]
    stale |= {verdict["name"]: sizes.get(verdict["name"], 0) for verdict in report.fresh}
    whole: dict[str, int] = {}
    filled: dict[str, int] = {}
    for name, size in sizes.items():
        room, _, rest = name.partition(".")
        stage = room if room in ("head", "deep_heads") else f"{room}.{stage_of(rest)}"
        whole[stage] = whole.get(stage, 0) + size
        filled[stage] = filled.get(stage, 0) + size - stale.get(name, 0)
    total = sum(sizes.values())
    decoding = len(decoder.loaded) + len(decoder.adapted)
    found = "the loaded ones bit by bit"
    if rows is not None:
        found += ", the head's output by output"
    return replace(
        report,
        notes=(*report.notes, *transfer.notes),
        coverage=(counts["loaded"] + counts["adapted"]) / total,
        parameters={
            "model": total,
            **counts,
            "dropped": sum(state[name].numel() for name in dropped) + unused,
        },
        buffers={
            kind: first.buffers.get(kind, 0) + decoder.buffers.get(kind, 0)
            for kind in ("model", "loaded", "adapted", "fresh")
        },
        coverage_by_stage={stage: filled[stage] / whole[stage] for stage in whole},
        parity=replace(
            first.parity,
            where=f"encoder: {first.parity.where}; decoder and head: "
            f"{decoding} tensors from the file, {found}",
        ),
    )
