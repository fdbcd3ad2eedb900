"""Turns any source into records of 256 x 256 pixels with their statistics: what the paper itself trained from.

The output is an ordinary TFDS data set, with two files of ours beside it: `preparation.json` says what was done, what
was left out and what was measured; `index.npz` where each image lies. It is made in OUT.incomplete, shard by shard, and
renamed to OUT at the end. What an image goes through is in `preprocessing`, how the output is read in `tfrecords`.
"""

import itertools
import json
import logging
import os
import pathlib
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tqdm

from alexnet_tf.data import datasets, first_look, prepare_images, tfrecords
from alexnet_tf.network import architectures
from alexnet_tf.support import atomic_files, errors, home

_LOGGER = logging.getLogger(__name__)

# A kill costs at most this many images.
SHARD_IMAGES = 1024

_CHUNK_IMAGES = 64

_JOB = "job.json"


def prepare(
    data: datasets.DataSet,
    output_dir: str | os.PathLike[str],
    *,
    resize: str = "paper",
    processes: int = 1,
    on_bad_image: str = "fail",
    initializer: Callable[[], None] = prepare_images.set_up_process,
) -> tuple[dict, bool]:
    """Writes every image of a data set as a JPEG of 256 x 256 pixels into TFRecord files that TFDS reads.

    EXIF rotation is applied. Large images are scaled down with TensorFlow's antialiased triangle filter, which is the
    one that evaluation uses: so originals and records meet the network alike.

    Args:
        data: The source.
        output_dir: Where the data set shall appear; OUT.incomplete beside it holds what is done so far.
        resize: "paper" or "caffe", as in `preprocessing.square`.
        processes: How many work at a time; 1 works in this one.
        on_bad_image: "fail" at an image that cannot be read, or "skip" it; preparation.json lists it.
        initializer: What each worker process begins with; must call `set_up_process`.

    Returns:
        (preparation.json as a dict, whether there was anything to do).

    Raises:
        DataError: If an image cannot be read, or the directory holds something else.
        RunError: If the directory cannot be written, or another process writes it.
    """
    errors.check_local_path(output_dir, "output_dir=")
    output = home.expand(output_dir).resolve()
    job = {
        "fingerprint": data.fingerprint(),
        "resize": resize,
        "images": {name: len(split) for name, split in data.splits.items()},
    }
    if (output / tfrecords.PREPARATION).exists():
        preparation = _read(output / tfrecords.PREPARATION)
        _check_same_job(preparation["job"], job, output)
        return preparation, False
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise errors.DataError(f"--output_dir={output} holds other things. Give a new or an empty directory.")
    partial = output.with_name(f"{output.name}.incomplete")
    with atomic_files.locked(partial, "`prepare`"):
        try:
            if (partial / _JOB).exists():
                _check_same_job(_read(partial / _JOB), job, partial)
            atomic_files.write_bytes(partial / _JOB, json.dumps(job, indent=2).encode())
            if not (partial / tfrecords.PREPARATION).exists():  # Otherwise only what follows is left to do.
                _prepare_shards(data, partial, job, processes, on_bad_image, initializer)
                _complete(data, partial, job)
            for path in [*partial.glob("*.tfrecord-*.npz"), *partial.glob(".*.tmp"), partial / _JOB, partial / ".lock"]:
                path.unlink(missing_ok=True)
            os.rename(partial, output)
        except (errors.RunError, OSError) as error:
            problem = str(error)
            if isinstance(error, OSError):  # Its own file, if it names one, or none.
                problem = ": ".join(str(each) for each in (error.filename, error.strerror) if each) + "."
            raise errors.DataError(
                f"{problem} What is done stays in {partial}: the same command goes on from there."
            ) from error
    return _read(output / tfrecords.PREPARATION), True


def _read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _check_same_job(before: dict, now: dict, directory: pathlib.Path) -> None:
    """Refuses to go on with another job's output; a source that was moved is the same."""
    if differing := [f"{key}: {before[key]} there, {now[key]} now" for key in now if before[key] != now[key]]:
        raise errors.DataError(
            f"{directory} was prepared from other images or in another way:\n  "
            + "\n  ".join(differing)
            + "\nGive another --output_dir, or delete that directory."
        )


def _shards(data: datasets.DataSet) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (split, file name, indices): every example once, classes mixed, the same for ever."""
    name = re.sub(r"\W+", "_", data.name.lower(), flags=re.ASCII).strip("_")
    name = name if name[:1].isalpha() else f"images_{name}"
    for split, examples in data.splits.items():
        order = np.random.default_rng(0).permutation(len(examples))
        parts = np.array_split(order, max(1, -(-len(order) // SHARD_IMAGES)))
        for number, indices in enumerate(parts):
            yield split, f"{name}-{split}.tfrecord-{number:05d}-of-{len(parts):05d}", indices


def _prepare_shards(
    data: datasets.DataSet,
    directory: pathlib.Path,
    job: dict,
    processes: int,
    on_bad_image: str,
    initializer: Callable[[], None],
) -> None:
    """Writes those files of records that are not there yet."""
    every_shard = list(_shards(data))
    left = [shard for shard in every_shard if not prepare_images.summary_of(directory / shard[1]).exists()]
    total = sum(len(indices) for _, _, indices in every_shard)
    done = total - sum(len(indices) for _, _, indices in left)
    if done:
        _LOGGER.info(f"Going on in {directory}: {done:,} of {total:,} images are done.")
    chunks = [
        (data.splits[split].subset(part), job["resize"], split == "train")
        for split, _, indices in left
        for part in np.split(indices, range(_CHUNK_IMAGES, len(indices), _CHUNK_IMAGES))
    ]
    bar = tqdm.tqdm(total=total, initial=done, unit="image", disable=None, file=sys.stdout, desc="Preparing")
    problems = []

    def reported(results: Iterable[prepare_images.Result]) -> Iterator[prepare_images.Result]:
        for images, sums in results:
            for image in images:
                if image.problem:
                    problems.append(f"{image.name}: {image.problem}")
                    datasets.report_bad_image(problems[-1], on_bad_image, len(problems), total)
            bar.update(len(images))
            yield images, sums

    with bar, prepare_images.processed(chunks, processes, initializer) as results:
        for _, file_name, indices in left:
            part = itertools.islice(results, -(-len(indices) // _CHUNK_IMAGES))
            prepare_images.write_shard(directory / file_name, reported(part), data.directory)


def _complete(data: datasets.DataSet, directory: pathlib.Path, job: dict) -> None:
    """Joins what is remembered of the shards and adds TFDS's files; preparation.json comes last."""
    arrays: dict[str, typing.Any] = {}
    splits: dict[str, dict] = {}
    digests: dict[str, np.ndarray] = {}
    sums = prepare_images.Sums()
    for split, shards_of_split in itertools.groupby(_shards(data), key=lambda shard: shard[0]):
        paths = [directory / file_name for _, file_name, _ in shards_of_split]
        summaries = [dict(np.load(prepare_images.summary_of(path))) for path in paths]
        counts = [len(summary["labels"]) for summary in summaries]
        for summary in summaries:
            sums.add(prepare_images.Sums(int(summary["images"]), summary["pixels"], summary["products"]))
        if not sum(counts):
            raise errors.DataError(f"No image of {split} can be read.")
        columns = (
            *tfrecords.located(list(map(str, paths)), counts),
            np.concatenate([summary["labels"] for summary in summaries]),
        )
        digests[split] = np.concatenate([summary["digests"] for summary in summaries])
        arrays |= {f"{split}/{name}": column for name, column in zip(tfrecords.COLUMNS, columns)}
        splits[split] = {
            "images": sum(counts),
            "skipped": [each for summary in summaries for each in json.loads(str(summary["skipped"]))],
            "files": [path.name for path in paths],
            "sizes": [path.stat().st_size for path in paths],
            "shard_lengths": counts,
        }
    repeated = np.isin(digests[data.validation], digests["train"]).sum() if "train" in digests else 0
    statistics = sums.statistics()
    arrays["mean_image"] = statistics.mean_image
    measured = {field: getattr(statistics, field) for field in ("mean_pixel", "pca_stdevs", "pca_vectors")}
    preparation = {
        "name": data.name,
        "source": data.directory,
        "resize": job["resize"],
        "classes": list(data.class_names),
        "validation": data.validation,
        "notes": first_look.repeated_note(int(repeated), splits[data.validation]["images"], data.validation),
        "splits": splits,
        "statistics": measured,
        "job": job,
    }
    atomic_files.atomic_write(directory / tfrecords.INDEX, lambda file: np.savez(file, **arrays))
    _write_tfds_metadata(data, directory, splits)
    text = json.dumps(preparation, indent=2) + "\n"
    atomic_files.write_bytes(directory / tfrecords.PREPARATION, text.encode())


def _write_tfds_metadata(data: datasets.DataSet, directory: pathlib.Path, splits: dict[str, dict]) -> None:
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3), encoding_format="jpeg"
            ),
            "label": tfds.features.ClassLabel(names=data.class_names),
            "file_name": tfds.features.Text(),
        }
    )
    infos = [
        tfds.core.SplitInfo(name=name, shard_lengths=split["shard_lengths"], num_bytes=sum(split["sizes"]))
        for name, split in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=infos,
        supervised_keys=("image", "label"),
        check_data=False,
        description=f"{data.name}, at {architectures.SQUARE_SIZE} x {architectures.SQUARE_SIZE} pixels.",
    )
