"""The MNIST reference: train, package, assess, defend, log. Uses public faces only.

The steps are exported one by one; ``run_demo`` chains them, and so does the notebook in
``reference/mnist/``.
"""

from modelward.demo.artifacts import Artifacts, pack_artifacts, read_images, reread_accuracy
from modelward.demo.assessment import (
    Assessed,
    analysis_payload,
    assess,
    open_client,
    stage_bars,
)
from modelward.demo.datasets import Dataset, Split, load_digits, load_mnist, scaled
from modelward.demo.evaluation import (
    CloneResult,
    Verdict,
    judge_clone,
    judge_detector,
    load_defense,
    predict_samples,
    read_report,
)
from modelward.demo.keras_files import load_model, predictor, save_trained
from modelward.demo.networks import Architecture, TrainPlan, choose_network
from modelward.demo.pictures import draw_curves, draw_samples
from modelward.demo.pipeline import DemoResult, reopen_command, run_demo, verdict_table
from modelward.demo.reporting import Delivered, SiemTarget, report_deliveries
from modelward.demo.settings import DemoSettings
from modelward.demo.sources import DatasetUnavailableError
from modelward.demo.summary import DefenseFigures, Summary, defense_figures
from modelward.demo.target import TargetModel, prepare_data, train_target, training_bar
from modelward.demo.tracking import EXPERIMENT, log_results, log_training
from modelward.demo.training import Trained, TrainStep, accuracy, train

__all__ = [
    "EXPERIMENT",
    "Architecture",
    "Artifacts",
    "Assessed",
    "CloneResult",
    "Dataset",
    "DatasetUnavailableError",
    "DefenseFigures",
    "Delivered",
    "DemoResult",
    "DemoSettings",
    "SiemTarget",
    "Split",
    "Summary",
    "TargetModel",
    "TrainPlan",
    "TrainStep",
    "Trained",
    "Verdict",
    "accuracy",
    "analysis_payload",
    "assess",
    "choose_network",
    "defense_figures",
    "draw_curves",
    "draw_samples",
    "judge_clone",
    "judge_detector",
    "load_defense",
    "load_digits",
    "load_mnist",
    "load_model",
    "log_results",
    "log_training",
    "open_client",
    "pack_artifacts",
    "predict_samples",
    "predictor",
    "prepare_data",
    "read_images",
    "read_report",
    "reopen_command",
    "report_deliveries",
    "reread_accuracy",
    "run_demo",
    "save_trained",
    "scaled",
    "stage_bars",
    "train",
    "train_target",
    "training_bar",
    "verdict_table",
]
