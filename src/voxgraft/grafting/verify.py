"""Sources of the catalogue put to the proof: fetched, grafted with parity, and recorded."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from voxgraft import __version__
from voxgraft.errors import VoxgraftError
from voxgraft.files import file_sha256
from voxgraft.grafting.graft import graft
from voxgraft.grafting.networks import network_of
from voxgraft.weights.fetch import fetch_source
from voxgraft.weights.source import Source
from voxgraft.weights.verification import Verification, record

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Proof:
    """What came of one source."""

    source: str
    model: str
    verification: Verification | None
    """What was recorded; None if it failed."""
    fault: str = ""
    """Why it failed; empty if it did not."""


def verify_sources(
    sources: Iterable[Source], on_proof: Callable[[Proof], None] | None = None
) -> list[Proof]:
    """Fetch each source, graft it into its network with parity, and record its file's SHA-256.

    A source that fails does not stop the others.

    Args:
        sources: Entries of the catalogue.
        on_proof: Told of each as it is done.
    """
    proofs = []
    for source in sources:
        proof = verify_source(source)
        if on_proof is not None:
            on_proof(proof)
        proofs.append(proof)
    return proofs


def verify_source(source: Source) -> Proof:
    """Fetch a source, graft it into its network with parity, and record its file's SHA-256.

    It counts as verified where nothing stayed fresh, and the network was compared with the original
    on its own number of channels (or, for what is loaded as it is, bit by bit with the file).
    """
    model = ""
    try:
        model = network_of(source)
        digest = file_sha256(fetch_source(source))
        report = graft(source, model, in_channels=source.input.channels).report
        fresh = [v["name"] for v in report.fresh if v["name"].rpartition(".")[2] != _COUNTER]
        if fresh:
            return Proof(
                source.id, model, None, f"{len(fresh)} tensors stayed fresh: {fresh[0]}, …"
            )
        if report.parity.max_abs_error is None:
            return Proof(source.id, model, None, f"parity: {report.parity.where}")
    except VoxgraftError as fault:
        return Proof(source.id, model, None, str(fault).splitlines()[0])
    found = Verification(
        source=source.id,
        sha256=digest,
        model=model,
        parity=float(report.parity.relative_error or 0.0),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        version=__version__,
    )
    record(found)
    return Proof(source.id, model, found)
