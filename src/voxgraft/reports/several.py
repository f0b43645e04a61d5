"""What ``comparison.json`` may hold of several networks: their means, the best, printed cells."""

# ruff: noqa: RUF012 (pydantic copies the defaults)

from __future__ import annotations

from voxgraft.reports.parts import Count, Estimate, Number, Part, Size


class MeanDifference(Estimate):
    """A start minus another, the mean over the networks of a kind."""

    kind: str = ""
    start: str
    against: str
    train_size: Size
    p_value: Number | None = None
    p_holm: Number | None = None
    n_networks: Count | None = None
    n_seeds: Count | None = None
    per_network: dict[str, Number | None] = {}
    value_a: Number | None = None
    value_b: Number | None = None
    left_out: list[str] = []

    @property
    def p_decisive(self) -> float | None:
        """Return the p-value that conclusions rest on: the corrected one where there is one."""
        return self.p_value if self.p_holm is None else self.p_holm


class ChosenDifference(Estimate):
    """The two networks that were chosen on validation, on the test patients."""

    p_value: Number | None = None
    value_a: Number | None = None
    value_b: Number | None = None
    n_seeds_a: Count | None = None
    n_seeds_b: Count | None = None


class BestOnTest(Part):
    """The two networks with the best test values, and what choosing them so adds."""

    name_a: str = ""
    name_b: str = ""
    value_a: Number | None = None
    value_b: Number | None = None
    difference: Number | None = None
    low: Number | None = None
    high: Number | None = None
    optimism: Number | None = None
    corrected: Number | None = None
    note: str = ""


class Best(Part):
    """The best 3D network and start against the best on slices, at one size."""

    train_size: Size
    chosen_3d: str = ""
    chosen_2d: str = ""
    validation_3d: Number | None = None
    validation_2d: Number | None = None
    difference: ChosenDifference = ChosenDifference()
    on_test: BestOnTest = BestOnTest()


class Networks(Part):
    """What several networks show together; empty lists where there is one network."""

    kinds: dict[str, list[str]] = {}
    means: list[MeanDifference] = []
    best: list[Best] = []


class PrintedCell(Estimate):
    """A cell of a published table, by our names of its network and start."""

    model: str
    printed: str = ""
    start: str
    percent: Number


class PrintedMean(Estimate):
    """A mean difference over the networks of a published table."""

    start: str
    against: str
    percent: Number
    smallest: Number | None = None
    largest: Number | None = None
    n_networks: Count | None = None


class Published(Part):
    """The published table that a comparison stands beside."""

    study: str = ""
    dataset: str = ""
    cells: list[PrintedCell] = []
    means: list[PrintedMean] = []
    of: Count | None = None

    @property
    def name(self) -> str:
        """Return what the table is called in a text."""
        known = {"ke2023": "Ke et al. (2023)"}.get(self.study, self.study) or "the published table"
        return f"{known}, {self.dataset}" if self.dataset else known
