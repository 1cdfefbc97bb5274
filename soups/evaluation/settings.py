"""Settings of evaluation. Imports no torch, so that `--help` is quick."""

from pydantic import BaseModel, ConfigDict, Field


class EvaluationSettings(BaseModel):
    """How models are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = "accuracy"
    """Metric for selecting models: accuracy, balanced_accuracy, macro_f1, log_loss or calibration_error."""
    eval_batch_size: int = Field(default=256, gt=0)
    """Images in one forward pass of evaluation."""
