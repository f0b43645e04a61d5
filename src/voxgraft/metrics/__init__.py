"""Metrics: arrays in, numbers out, all replicates of a bootstrap in one call."""

from voxgraft.metrics.calibration import (
    brier,
    expected_calibration_error,
    expected_calibration_error_equal_mass,
    log_loss,
    multiclass_brier,
    multiclass_expected_calibration_error,
    multiclass_expected_calibration_error_equal_mass,
    multiclass_log_loss,
)
from voxgraft.metrics.contract import MetricFunction
from voxgraft.metrics.decisions import (
    accuracy,
    balanced_accuracy,
    f1,
    multiclass_accuracy,
    multiclass_balanced_accuracy,
    multiclass_f1,
)
from voxgraft.metrics.macro import (
    multiclass_auroc,
    multiclass_average_precision,
    multilabel_auroc,
    multilabel_average_precision,
)
from voxgraft.metrics.patients import PatientLevel, by_patient
from voxgraft.metrics.ranking import (
    auroc,
    average_precision,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from voxgraft.metrics.regression import mae, pearson, r2, rmse, spearman
from voxgraft.metrics.table import (
    KINDS,
    METRICS,
    Metric,
    Scored,
    get_metric,
    metric_names,
    primary_metric,
    score_all,
)

__all__ = [
    "KINDS",
    "METRICS",
    "Metric",
    "MetricFunction",
    "PatientLevel",
    "Scored",
    "accuracy",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "by_patient",
    "expected_calibration_error",
    "expected_calibration_error_equal_mass",
    "f1",
    "get_metric",
    "log_loss",
    "mae",
    "metric_names",
    "multiclass_accuracy",
    "multiclass_auroc",
    "multiclass_average_precision",
    "multiclass_balanced_accuracy",
    "multiclass_brier",
    "multiclass_expected_calibration_error",
    "multiclass_expected_calibration_error_equal_mass",
    "multiclass_f1",
    "multiclass_log_loss",
    "multilabel_auroc",
    "multilabel_average_precision",
    "pearson",
    "primary_metric",
    "r2",
    "rmse",
    "score_all",
    "sensitivity_at_specificity",
    "spearman",
    "specificity_at_sensitivity",
]
