"""The experiments by name: what the paper claims, and how each is run."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

from alexnet_tf.data import discovery
from alexnet_tf.experiments import (
    cifar_data,
    comparisons,
    error_table,
    figure1,
    figure1_report,
    figure3,
    figure4,
    report,
    trained_runs,
)
from alexnet_tf.support import errors


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person may choose.

    Attributes:
        output: Directory of the report and of the trained networks; an unfinished experiment goes on there.
        is_quick: Synthetic data and a few steps, to see that it works; the numbers mean nothing.
        data_dir: CIFAR-10, or the images to measure runs on.
        workdirs: Runs, for figure3, figure4 and table.
        conv1_files: Files that hold conv1 alone, for figure3.
        is_bgr: Whether those have blue first.
        seeds: Networks of each kind; None is the experiment's own number.
        epochs: Length of training; None is the experiment's own.
        is_full: Whether the schedule is the author's.
        precision: Keras dtype policy of training.
        split: Which split `table` measures; None is the validation split.
    """

    output: str
    is_quick: bool = False
    data_dir: str | None = None
    workdirs: tuple[str, ...] = ()
    conv1_files: tuple[str, ...] = ()
    is_bgr: bool = False
    seeds: int | None = None
    epochs: int | None = None
    is_full: bool = False
    precision: str = "float32"
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment of the paper.

    Attributes:
        title: Heading of its report.
        run: Yields the result, better each time.
    """

    title: str
    run: Callable[[Options], Iterator[report.Result]]


def reproduce(name: str, options: Options, command: str) -> report.Result:
    """Runs an experiment, and writes its report each time there is a new result.

    Args:
        name: A key of `EXPERIMENTS`.
        options: What to run it on.
        command: The line that repeats it, for the report.

    Returns:
        The last result.

    Raises:
        errors.UserError: If what the experiment needs is not there.
    """
    experiment, begin = EXPERIMENTS[name], time.monotonic()
    for result in experiment.run(options):
        report.write(
            result, options.output, name, title=experiment.title, command=command, seconds=time.monotonic() - begin
        )
    return result


def _cifar(options: Options) -> cifar_data.CifarImages:
    if options.is_quick:
        return cifar_data.synthetic()
    if not options.data_dir:
        raise errors.DataError(
            "This experiment needs CIFAR-10: --data_dir=DIR. To try it out on synthetic images: --quick"
        )
    return cifar_data.load(discovery.find_dataset(options.data_dir))


def _trials(options: Options) -> str:
    return str(pathlib.Path(options.output) / "trials")


def _figure1(options: Options) -> Iterator[report.Result]:
    budget = figure1.QUICK if options.is_quick else figure1.Budget()
    budget = dataclasses.replace(budget, seeds=options.seeds or budget.seeds, epochs=options.epochs or budget.epochs)
    for networks in figure1.train(budget, _cifar(options), _trials(options), options.precision):
        yield figure1_report.result(networks, budget, is_real=not options.is_quick)


def _compare(make_variants: Callable[[bool], tuple[comparisons.Variant, ...]], epochs: int) -> Callable:
    def run(options: Options) -> Iterator[report.Result]:
        length = options.epochs or (2 if options.is_quick else comparisons.FULL_EPOCHS if options.is_full else epochs)
        for networks in comparisons.train(
            make_variants(options.is_full),
            _cifar(options),
            _trials(options),
            seeds=options.seeds or (1 if options.is_quick else 3),
            epochs=length,
            batch_size=32 if options.is_quick else 128,
            precision=options.precision,
        ):
            if len(networks) > 1:
                yield comparisons.result(networks, length, is_real=not options.is_quick)

    return run


def _figure3(options: Options) -> Iterator[report.Result]:
    sources = {
        pathlib.Path(path).stem: figure3.read_kernels(path)[:, :, :: -1 if options.is_bgr else 1]
        for path in options.conv1_files
    }
    for workdir in options.workdirs:
        sources[pathlib.Path(workdir).name] = figure3.load_kernels(workdir)
    if options.is_quick:
        sources |= {"random kernels": figure3.random_kernels()}
    if not sources:
        raise errors.UserError("figure3 needs kernels: --workdir=RUN or --conv1=FILE.npy. To try it out: --quick")
    yield figure3.describe(sources, is_real=not options.is_quick)


def _runs(options: Options, quick: int) -> list[trained_runs.TrainedRun]:
    if options.is_quick:
        directory = pathlib.Path(options.output) / "synthetic"
        return [trained_runs.untrained(directory, seed) for seed in range(quick)]
    if not options.workdirs:
        raise errors.UserError("This experiment needs a run: --workdir=RUN. To try it out on synthetic images: --quick")
    return [trained_runs.load(workdir, options.data_dir) for workdir in options.workdirs]


def _figure4(options: Options) -> Iterator[report.Result]:
    yield figure4.reproduce(_runs(options, 1)[0], is_real=not options.is_quick)


def _table(options: Options) -> Iterator[report.Result]:
    yield error_table.reproduce(_runs(options, 3), split=options.split, is_real=not options.is_quick)


EXPERIMENTS = {
    "figure1": Experiment("Figure 1: ReLU against tanh on CIFAR-10", _figure1),
    "lrn": Experiment("Section 3.3: local response normalisation on CIFAR-10", _compare(comparisons.lrn_variants, 9)),
    "ablations": Experiment(
        "Sections 3 and 4: one thing changed at a time", _compare(comparisons.ablation_variants, 6)
    ),
    "figure3": Experiment("Figure 3: what conv1 learns, and the specialisation of its towers", _figure3),
    "figure4": Experiment("Figure 4: predictions, and nearest training images", _figure4),
    "table": Experiment("Table 2: errors with one crop and ten, alone and averaged", _table),
}
