"""Turns any source into records of 256 x 256 pixels with their statistics: what the paper itself trained from.

The output is an ordinary TFDS data set, with two files of ours beside it: `preparation.json` says what was done, what
was left out and what was measured; `index.npz` where each image lies. It is made in OUT.incomplete, shard by shard, and
renamed to OUT at the end. What an image goes through is in `preprocessing`, how the output is read in `records`.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import signal
import sys
import threading

import numpy as np
import PIL.Image
import tensorflow as tf
import tqdm

from alexnet_tf import architectures, atomic_files, errors
from alexnet_tf.data import datasets, preprocessing, tfrecords

# A kill costs at most this many images.
SHARD_IMAGES = 1024

_CHUNK_IMAGES = 64

_JOB = "job.json"

# EXIF's orientations and what undoes them.
_ORIENTATION_TAG = 0x0112

_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT, 3: PIL.Image.Transpose.ROTATE_180, 4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE, 6: PIL.Image.Transpose.ROTATE_270, 7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90}


@dataclasses.dataclass(frozen=True)
class _Image:
    """What became of an image: `jpeg` is None where `problem` says why it cannot be read."""

    name: str
    label: int = -1
    jpeg: bytes | None = None
    is_rotated: bool = False
    problem: str | None = None


@dataclasses.dataclass
class _Sums:
    """Exact sums over the pixels of some images: the order in which they come does not matter."""

    images: int = 0
    pixels: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3), "uint64"))
    products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((3, 3), "uint64"))

    def add_image(self, image: np.ndarray):
        flat = image.reshape(-1, 3).astype("float64")  # Whole numbers below 2^53 are exact.
        self.add(_Sums(1, image, (flat.T @ flat).astype("uint64")))

    def add(self, other: "_Sums"):
        self.images += other.images
        self.pixels += other.pixels
        self.products += other.products


def set_up_process() -> None:
    """Makes a worker process use one core, and end when its parent is gone, also by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def leave_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def prepare(
    data: datasets.DataSet, output_dir, *, resize: str = "paper", quality: int = 95, processes: int = 1,
    on_bad_image: str = "fail", initializer=set_up_process) -> tuple[dict, bool]:
    """Writes every image of a data set as a JPEG of 256 x 256 pixels into TFRecord files that TFDS reads.

    EXIF rotation is applied. Large images are scaled down with TensorFlow's antialiased triangle filter, which is the
    one that evaluation uses: so originals and records meet the network alike.

    Args:
        data: The source.
        output_dir: Where the data set shall appear; OUT.incomplete beside it holds what is done so far.
        resize: "paper" or "caffe", as in `preprocessing.square`.
        quality: Of the JPEG images, 95 to 100.
        processes: How many work at a time; 1 works in this one.
        on_bad_image: "fail" at an image that cannot be read, or "skip" it; preparation.json lists it.
        initializer: What each worker process begins with; must call `set_up_process`.

    Returns:
        (preparation.json as a dict, whether there was anything to do).

    Raises:
        datasets.DataError: If an image cannot be read, or the directory holds something else or cannot be written.
    """
    output = pathlib.Path(output_dir).expanduser().resolve()
    job = {"source": data.directory, "fingerprint": data.fingerprint(), "resize": resize, "quality": quality,
           "images": {name: len(split) for name, split in data.splits.items()}}
    if (output / tfrecords.PREPARATION).exists():
        preparation = _read_json(output / tfrecords.PREPARATION)
        _check_same_job(preparation.get("job", {}), job, output)
        return preparation, False
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise errors.DataError(f"--output_dir={output} holds other things. Give a new or an empty directory.")
    partial = output.with_name(f"{output.name}.incomplete")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with open(partial / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (partial / _JOB).exists():
                _check_same_job(_read_json(partial / _JOB), job, partial)
            atomic_files.atomic_write(partial / _JOB, lambda file: file.write(json.dumps(job, indent=2).encode()))
            if not (partial / tfrecords.PREPARATION).exists():  # Else only what follows was left to do.
                _prepare_shards(data, partial, resize, quality, processes, on_bad_image, initializer)
                _complete(data, partial, job)
            for path in [*partial.glob("*.tfrecord-*.npz"), *partial.glob(".*.tmp"), partial / _JOB, partial / ".lock"]:
                path.unlink(missing_ok=True)
            os.rename(partial, output)
    except BlockingIOError as error:
        raise errors.DataError(f"{partial} is in use by another `prepare`. Wait for it.") from error
    except errors.RunError as error:
        raise errors.DataError(f"{error} {_kept(partial)}") from error
    except OSError as error:
        raise errors.DataError(
            f"{error.filename or partial} could not be written: {error.strerror}. {_kept(partial)}") from error
    return _read_json(output / tfrecords.PREPARATION), True


def _kept(directory) -> str:
    return f"What is done stays in {directory}: the same command goes on from there."


def _read_json(path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise errors.DataError(f"{path} is damaged ({error}). Delete {path.parent} and type the command again.") from error


def _check_same_job(before: dict, now: dict, directory):
    """Refuses to go on with another job's output; a source that was moved is the same."""
    differing = [f"{key}: {before.get(key)} there, {now[key]} now" for key in now
                 if key != "source" and before.get(key) != now[key]]
    if differing:
        raise errors.DataError(
            f"{directory} was prepared from other images or in another way:\n  " + "\n  ".join(differing)
            + "\nGive another --output_dir, or delete that directory.")


def _shards(data: datasets.DataSet):
    """Yields (split, file name, indices): every example once, classes mixed, the same for ever."""
    name = re.sub(r"\W+", "_", data.name.lower(), flags=re.ASCII).strip("_")
    name = name if name[:1].isalpha() else f"images_{name}"
    for split, examples in data.splits.items():
        order = np.random.default_rng(0).permutation(len(examples))
        parts = np.array_split(order, max(1, -(-len(order) // SHARD_IMAGES)))
        for number, indices in enumerate(parts):
            yield split, f"{name}-{split}.tfrecord-{number:05d}-of-{len(parts):05d}", indices


def _prepare_shards(data, directory, resize, quality, processes, on_bad_image, initializer):
    shards = list(_shards(data))
    left = [shard for shard in shards if not _summary_of(directory / shard[1]).exists()]
    total = sum(len(indices) for _, _, indices in shards)
    done = total - sum(len(indices) for _, _, indices in left)
    if done:
        print(f"Going on in {directory}: {done:,} of {total:,} images are done.", flush=True)
    chunks = [
        (data.splits[split].subset(indices[start:start + _CHUNK_IMAGES]), resize, quality, split == "train")
        for split, _, indices in left for start in range(0, len(indices), _CHUNK_IMAGES)]
    bar = tqdm.tqdm(total=total, initial=done, unit="image", disable=None, file=sys.stdout, desc="Preparing")
    problems = []

    def told(results):
        for images, sums in results:
            for image in images:
                if image.problem:
                    problems.append(f"{image.name}: {image.problem}")
                    datasets.report_bad_image(problems[-1], on_bad_image, len(problems), total)
            bar.update(len(images))
            yield images, sums

    with bar, _processed(chunks, processes, initializer) as results:
        for _, file_name, indices in left:
            part = itertools.islice(results, -(-len(indices) // _CHUNK_IMAGES))
            _write_shard(directory / file_name, told(part), data.directory)


@contextlib.contextmanager
def _processed(chunks, processes, initializer):
    """Gives an iterator over what becomes of the chunks, in order; several processes work a few chunks ahead."""
    if processes == 1 or len(chunks) < 2:
        yield map(_prepare_images, chunks)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(chunks)), multiprocessing.get_context("spawn"), initializer)

    def results():
        futures, to_do = collections.deque(), iter(chunks)
        while True:
            ahead = itertools.islice(to_do, 2 * processes - len(futures))
            futures.extend(pool.submit(_prepare_images, chunk) for chunk in ahead)
            if not futures:
                return
            yield futures.popleft().result()

    try:
        yield results()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise errors.DataError(
            "A process was killed, for lack of memory perhaps. What is done is kept: go on with "
            f"--processes={max(1, processes // 2)}.") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_images(chunk) -> tuple[list[_Image], _Sums]:
    examples, resize, quality, is_train = chunk
    images, sums = [], _Sums()
    for index in range(len(examples)):
        name = examples.describe(index)
        try:
            pixels, jpeg, is_rotated = _prepare_image(examples.image_bytes(index), resize, quality)
            images.append(_Image(name, examples.label(index), jpeg, is_rotated))
        except (_Unreadable, OSError) as error:
            images.append(_Image(name, problem=getattr(error, "strerror", None) or str(error)))
            continue
        if is_train:
            sums.add_image(pixels)
    return images, sums


class _Unreadable(Exception):
    """Says why an image cannot be read."""


def _prepare_image(image_bytes: bytes, resize: str, quality: int) -> tuple[np.ndarray, bytes, bool]:
    """Returns (the square, uint8 [256, 256, 3]; the same as JPEG; whether EXIF had it rotated)."""
    try:
        pixels = _square(tf.constant(image_bytes), resize)
        orientation = _orientation(image_bytes)
        if orientation in _UPRIGHT:
            whole = PIL.Image.fromarray(preprocessing.decode(tf.constant(image_bytes)).numpy())
            pixels = preprocessing.square_of(tf.constant(np.asarray(whole.transpose(_UPRIGHT[orientation]))), resize)
        jpeg = tf.io.encode_jpeg(pixels, quality=quality, chroma_downsampling=True)
    except tf.errors.OpError as error:
        reason = preprocessing.why_unreadable(image_bytes) or preprocessing.DAMAGED
        raise _Unreadable(reason) from error
    return pixels.numpy(), jpeg.numpy(), orientation in _UPRIGHT


@functools.cache
def _graph_of_square(resize):
    return tf.function(
        lambda image_bytes: preprocessing.square(image_bytes, resize), input_signature=[tf.TensorSpec([], tf.string)])


def _square(image_bytes, resize):
    return _graph_of_square(resize)(image_bytes)


def _orientation(image_bytes: bytes) -> int:
    """Returns EXIF's orientation; 1, upright, where there is none or Pillow cannot read it."""
    try:
        with PIL.Image.open(io.BytesIO(image_bytes)) as image:
            return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Whatever a broken header makes of Pillow's readers; the pixels are TensorFlow's.
        return 1


def _write_shard(path, results, source):
    """Writes a TFRecord file, and beside it what is to be remembered of it; that one last: it says that both are whole."""
    offsets, lengths, labels, skipped, rotated, sums, position = [], [], [], [], 0, _Sums(), 0
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for images, chunk_sums in results:
                sums.add(chunk_sums)
                for image in images:
                    if image.problem:
                        skipped.append({"file": image.name, "reason": image.problem})
                        continue
                    record = _record(image, source)
                    writer.write(record)
                    # A record is its length (8 bytes), that number's checksum (4), the data, and its checksum (4).
                    offsets.append(position + 12 + record.index(image.jpeg))
                    lengths.append(len(image.jpeg))
                    labels.append(image.label)
                    rotated += image.is_rotated
                    position += len(record) + 16
    except tf.errors.OpError as error:
        raise OSError(None, str(error.message), str(path)) from error
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    atomic_files.atomic_write(_summary_of(path), lambda file: np.savez(
        file, offsets=np.array(offsets, "int64"), lengths=np.array(lengths, "int64"), labels=np.array(labels, "int32"),
        size=position, rotated=rotated, skipped=json.dumps(skipped), images=sums.images, pixels=sums.pixels,
        products=sums.products))


def _summary_of(path):
    return path.with_name(f"{path.name}.npz")


def _record(image, source) -> bytes:
    name = os.fsencode(image.name.removeprefix(f"{source}/"))
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.jpeg])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _complete(data, directory, job) -> None:
    """Joins what is remembered of the shards and adds TFDS's files; preparation.json last: it says that all is there."""
    arrays, splits, sums = {}, {}, _Sums()
    for split, shards in itertools.groupby(_shards(data), key=lambda shard: shard[0]):
        paths = [directory / file_name for _, file_name, _ in shards]
        summaries = [dict(np.load(_summary_of(path))) for path in paths]
        counts = [len(summary["offsets"]) for summary in summaries]
        for summary in summaries:
            sums.add(_Sums(int(summary["images"]), summary["pixels"], summary["products"]))
        arrays[f"{split}/file_of"] = np.repeat(np.arange(len(paths), dtype="int32"), counts)
        for field in ("offsets", "lengths", "labels"):
            arrays[f"{split}/{field}"] = np.concatenate([summary[field] for summary in summaries])
        if not sum(counts):
            raise errors.DataError(f"No image of {split} can be read.")
        splits[split] = {
            "images": sum(counts), "rotated": sum(int(summary["rotated"]) for summary in summaries),
            "skipped": [each for summary in summaries for each in json.loads(str(summary["skipped"]))],
            "files": [path.name for path in paths], "sizes": [int(summary["size"]) for summary in summaries],
            "shard_lengths": counts}
    statistics = statistics_of(sums.images, sums.pixels, sums.products)
    arrays["mean_image"] = statistics.mean_image
    measured = {field: getattr(statistics, field) for field in ("mean_pixel", "pca_stdevs", "pca_vectors")}
    preparation = {
        "name": data.name, "source": data.directory, "resize": job["resize"],
        "filter": "antialiased triangle (bilinear), as in evaluation", "jpeg_quality": job["quality"],
        "classes": list(data.class_names), "validation": data.validation, "splits": splits, "statistics": measured,
        "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "pillow")}, "job": job}
    atomic_files.atomic_write(directory / tfrecords.INDEX, lambda file: np.savez(file, **arrays))
    _write_tfds_metadata(data, directory, splits)
    text = json.dumps(preparation, indent=2) + "\n"
    atomic_files.atomic_write(directory / tfrecords.PREPARATION, lambda file: file.write(text.encode()))


def statistics_of(num_images: int, pixel_sums: np.ndarray, product_sums: np.ndarray) -> tfrecords.Statistics:
    """Returns the mean and the components of the colours from sums over images.

    Args:
        num_images: How many images of 256 x 256 pixels were summed.
        pixel_sums: uint64 [256, 256, 3], over the images.
        product_sums: uint64 [3, 3], over all pixels: of each colour times each colour.
    """
    mean_image = pixel_sums / num_images
    mean_pixel = mean_image.mean(axis=(0, 1))
    covariance = product_sums / (num_images * architectures.SQUARE_SIZE ** 2) - np.outer(mean_pixel, mean_pixel)
    variances, vectors = np.linalg.eigh(covariance)
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(3)])  # eigh leaves the sign to chance.
    return tfrecords.Statistics(
        tuple(mean_pixel.tolist()), mean_image.astype("float32"),
        tuple(np.sqrt(np.maximum(variances, 0)).tolist()), tuple(map(tuple, vectors.tolist())))


def _write_tfds_metadata(data, directory, splits):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=data.class_names),
        "file_name": tfds.features.Text()})
    infos = [
        tfds.core.SplitInfo(name=name, shard_lengths=split["shard_lengths"], num_bytes=sum(split["sizes"]))
        for name, split in splits.items()]
    tfds.folder_dataset.write_metadata(
        data_dir=directory, features=features, split_infos=infos, supervised_keys=("image", "label"), check_data=False,
        description=f"{data.name}, at {architectures.SQUARE_SIZE} x {architectures.SQUARE_SIZE} pixels.")
