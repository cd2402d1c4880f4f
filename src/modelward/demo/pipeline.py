"""The reference run: every step in order."""

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from modelward.client import LocalService
from modelward.demo.artifacts import Artifacts, pack_artifacts, reread_accuracy
from modelward.demo.assessment import Assessed, assess, open_client
from modelward.demo.datasets import Dataset, scaled
from modelward.demo.evaluation import (
    CloneResult,
    Verdict,
    judge_clone,
    judge_detector,
    load_defense,
    predict_samples,
    read_report,
)
from modelward.demo.reporting import Delivered, report_deliveries
from modelward.demo.settings import DemoSettings
from modelward.demo.summary import DefenseFigures, Summary, defense_figures
from modelward.demo.target import TargetModel, prepare_data, train_target
from modelward.demo.tracking import EXPERIMENT, log_results, log_training
from modelward.demo.training import accuracy
from modelward.mlflow import start_run

__all__ = ["DemoResult", "reopen_command", "run_demo", "verdict_table"]

_SAMPLES = 5


@dataclass(frozen=True)
class DemoResult:
    """End of a reference run."""

    summary: Summary
    problems: tuple[str, ...]
    """What is missing; empty for a complete run."""


@dataclass(frozen=True)
class _Findings:
    """What is measured on the test digits once everything is downloaded."""

    clone: CloneResult | None
    defense: DefenseFigures
    original: list[Verdict]
    attack: list[Verdict]
    deliveries: list[Delivered]


def run_demo(settings: DemoSettings, console: Console) -> DemoResult:
    """Train, package, assess, defend, log.

    Args:
        settings: Options.
        console: Where progress and tables go.

    Returns:
        The summary, also written to ``summary.json`` in the output folder.

    Raises:
        ModelwardError: A step cannot go on; a service that was started here is stopped.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    with _step(console, 1, "Load the digits"):
        dataset = prepare_data(settings, console)
    with _step(console, 2, "Train the model"):
        target = train_target(settings, dataset, console)
    with ExitStack() as serving:
        # The MLflow run ends before a service that is kept up does.
        with start_run(settings.tracking, EXPERIMENT, settings.output.resolve().name) as run:
            with _step(console, 3, "Log the training to MLflow"):
                logged = log_training(run, settings, dataset, target)
                console.print(f"MLflow run {run.run_id} in {settings.tracking}", soft_wrap=True)
            with _step(console, 4, "Prepare the artifacts"):
                artifacts = _package(settings, dataset, target, console)
            with _step(console, 5, "Reach the service"):
                client, service = serving.enter_context(open_client(settings))
                console.print(f"service at {client.url}")
            with _step(console, 6, "Assess the model"):
                assessed = assess(client, artifacts, settings, dataset, console)
            findings = _judge(settings, dataset, target, assessed, console)
            with _step(console, 8, "Log the results to MLflow"):
                log_results(run, assessed, findings.clone, findings.defense)
        summary = _summarise(settings, target, assessed, findings, run.run_id)
        summary.write(settings.output / "summary.json")
        with _step(console, 9, "Where everything lies"):
            _show_places(settings, assessed, console)
        if settings.keep_serving and service is not None:
            _keep(service, console)
    return DemoResult(summary, _problems(settings, target, assessed, findings, logged))


@contextmanager
def _step(console: Console, number: int, title: str) -> Iterator[None]:
    console.rule(f"[bold]{number}. {title}", align="left")
    start = time.perf_counter()
    yield
    console.print(f"[dim]{time.perf_counter() - start:.1f} s[/]")


def _package(
    settings: DemoSettings, dataset: Dataset, target: TargetModel, console: Console
) -> Artifacts:
    artifacts = pack_artifacts(dataset.validation, target.path, settings.output / "artifacts")
    direct = accuracy(target.predict(scaled(dataset.validation.images)), dataset.validation.labels)
    again = reread_accuracy(artifacts, target.predict)
    console.print(
        f"{len(dataset.validation):,} validation digits packed; accuracy {direct:.2%} on the "
        f"arrays, {again:.2%} on the images read back"
    )
    return artifacts


def _judge(
    settings: DemoSettings,
    dataset: Dataset,
    target: TargetModel,
    assessed: Assessed,
    console: Console,
) -> _Findings:
    files = assessed.result.files
    clone = None
    if files.surrogate_model is not None:
        clone = judge_clone(files.surrogate_model, target.predict, dataset.test)
        console.print(
            f"on {len(dataset.test):,} test digits the clone agrees with the model on "
            f"{clone.agreement:.2%} and is right on {clone.accuracy:.2%}"
        )
    if files.defense_artifact is None or files.attack_samples is None:
        return _Findings(clone, defense_figures(None, None), [], [], [])
    with _step(console, 7, "Load the defence"):
        defense = load_defense(files.defense_artifact)
        fpr = judge_detector(defense, dataset.test)
        # A defence of its own reports: what it says of genuine digits are no attacks to report.
        reporting = _reporting(settings, files.defense_artifact, console)
        original, attack = predict_samples(
            defense,
            dataset.test,
            files.attack_samples,
            count=_SAMPLES,
            seed=settings.seed,
            reporting=reporting,
        )
        console.print(verdict_table("Original samples", original))
        console.print(verdict_table("Attack samples", attack))
        deliveries = report_deliveries(reporting, console) if reporting else []
    report = read_report(files.defense_report, "Defense") if files.defense_report else None
    figures = defense_figures(report, fpr)
    _show_defense(figures, console)
    return _Findings(clone, figures, original, attack, deliveries)


def _reporting(settings: DemoSettings, artifact: Path, console: Console) -> Any:
    """The defence that tells the SIEM; None where there is none, or the artifact cannot."""
    if not settings.siem.active:
        return None
    try:
        return load_defense(artifact, **settings.siem.arguments(settings.output / "siem-spool.db"))
    except (TypeError, ValueError) as error:
        console.print(f"Nothing is reported: {error}", markup=False, soft_wrap=True)
        return None


def verdict_table(title: str, verdicts: list[Verdict]) -> Table:
    """What the detector said, one image per row."""
    table = Table("sample", "label", "probability", title=title, title_justify="left")
    for number, verdict in enumerate(verdicts, start=1):
        table.add_row(str(number), verdict.label, f"{verdict.probability:.4f}")
    return table


def _show_defense(figures: DefenseFigures, console: Console) -> None:
    def text(value: float | None, form: str = ".2%") -> str:
        return "not measured" if value is None else format(value, form)

    console.print(
        f"detector: {text(figures.tpr)} of held-out queries found, "
        f"{text(figures.fpr)} of the test digits flagged, weakest unseen source "
        f"{text(figures.tpr_unseen)}, AUROC {text(figures.auroc, '.4f')}, "
        f"{text(figures.overhead_ratio, '.2f')} times the model's latency"
    )


def _summarise(
    settings: DemoSettings,
    target: TargetModel,
    assessed: Assessed,
    findings: _Findings,
    run_id: str | None,
) -> Summary:
    result = assessed.result
    return Summary(
        validation_accuracy=target.trained.validation_accuracy,
        test_accuracy=target.test_accuracy,
        train_seconds=target.trained.seconds,
        seconds_to_target=target.trained.seconds_to_target,
        assess_seconds=assessed.seconds,
        queries=result.queries_spent,
        seed=settings.seed,
        job_id=result.job_id,
        mlflow_run_id=run_id,
        access=settings.access.value,
        clone=findings.clone,
        vulnerability_score=result.score,
        severity=result.severity.value,
        defense=findings.defense,
        original_predictions=findings.original,
        attack_predictions=findings.attack,
        deliveries=findings.deliveries,
        output_dir=settings.output,
        monitor_link=result.monitor_link,
    )


def reopen_command(data: Path, url: str = "") -> str:
    """Shell command that serves the results of a run again.

    Args:
        data: Data folder of the service.
        url: Address that the service had; on the same port its monitor links work again.
    """
    port = urlsplit(url).port
    return f"modelward serve --data {shlex.quote(str(data))}" + (f" --port {port}" if port else "")


def _show_places(settings: DemoSettings, assessed: Assessed, console: Console) -> None:
    def say(text: Any) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    for title, place in (
        ("model", settings.output / "model"),
        ("pictures", settings.output / "pictures"),
        ("uploads", settings.output / "artifacts"),
        ("results", settings.output / "results"),
        ("summary", settings.output / "summary.json"),
    ):
        say(f"{title:<10}{place}")
    say(f"{'MLflow':<10}{settings.tracking}")
    if settings.tracking_uri is None:
        say(f"{'':<10}mlflow ui --backend-store-uri {shlex.quote(settings.tracking)}")
    link = assessed.result.monitor_link
    if settings.url is None:
        say(f"{'service':<10}{reopen_command(settings.output / 'service', link)}")
    again = " (while the service runs)" if settings.url is None else ""
    say(f"{'monitor':<10}{link}{again}")


def _keep(service: LocalService, console: Console) -> None:
    console.print(f"The service stays up at {service.url}; Ctrl-C stops it.")
    try:
        while service.pid is not None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("Stopping the service.")


def _problems(
    settings: DemoSettings,
    target: TargetModel,
    assessed: Assessed,
    findings: _Findings,
    logged: str | None,
) -> tuple[str, ...]:
    problems = list(assessed.result.problems)
    trained = target.trained
    # The small data of a quick run only show the way; their accuracy promises nothing.
    if not settings.quick and trained.validation_accuracy < trained.target:
        problems.append(
            f"the model reached {trained.validation_accuracy:.2%} on the validation digits, "
            f"expected at least {trained.target:.2%}; try another --seed"
        )
    if findings.clone is None:
        problems.append("the service gave no surrogate model: the clone was not measured")
    if logged is None:
        problems.append("MLflow did not take the model; the warnings above say why")
    return tuple(problems)
