"""Runs as TensorBoard's event files: a folder a run, a file that is there whole or not at all.

The file is named after the digest of what it holds. Where it is there, nothing is written; one of
the same run that says something else gives way to it.
"""

import io
import os
import re
import shlex
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

from common.errors import InputError, VicinalError
from common.files import write_output
from sims.tracking.runs import TrackedRun

LIBRARY: Final = "tensorboard"
FOLDER: Final = Path("runs/tensorboard")
ENDING: Final = ".vicinal"
MOST_NAME: Final = 100
_OTHER: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def opened(folder: str) -> "TensorboardFolder":
    """A folder that can be written to. Raises InputError."""
    path = Path(folder) if folder else FOLDER
    tracker = TensorboardFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise OSError("it cannot be written to")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--track {tracker.address}: {reason}") from None
    return tracker


@final
class TensorboardFolder:
    """What `tensorboard --logdir` is given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._event: Any = import_module(f"{LIBRARY}.compat.proto.event_pb2")
        self._summary: Any = import_module(f"{LIBRARY}.compat.proto.summary_pb2")
        self._records: Any = import_module(f"{LIBRARY}.summary.writer.record_writer")
        self._scalar: Any = import_module(f"{LIBRARY}.plugins.scalar.summary_v2")
        self._text: Any = import_module(f"{LIBRARY}.plugins.text.summary_v2")
        self._hparams: Any = import_module(f"{LIBRARY}.plugins.hparams.summary_v2")

    @property
    def address(self) -> str:
        return f"tensorboard:{self._folder}"

    def where(self, written: str) -> str:
        command = shlex.join(["tensorboard", "--logdir", str(self._folder)])
        return f"{self._folder / written} ({command})"

    def write(self, run: TrackedRun, *, within: str = "", ended: bool = True) -> str:
        plain = _OTHER.sub("-", run.name).strip("-.")[:MOST_NAME]
        name = "/".join(filter(None, [within, f"{plain}-{run.key[:8]}"]))
        if not ended:
            return name
        folder = self._folder / name
        file = folder / f"events.out.tfevents.{int(run.made)}.{run.digest[:12]}{ENDING}"
        try:
            if not file.exists():
                write_output(file, self._records_of(run))
            for other in folder.glob(f"events.out.tfevents.*{ENDING}"):
                if other != file:
                    other.unlink(missing_ok=True)
        except OSError as error:
            raise VicinalError(f"{file}: {error.strerror or error}") from error
        return name

    def _records_of(self, run: TrackedRun) -> bytes:
        buffer = io.BytesIO()
        writer = self._records.RecordWriter(buffer)
        version = self._event.Event(wall_time=run.made, file_version="brain.Event:2")
        writer.write(version.SerializeToString())
        for step, summary in self._summaries(run):
            event = self._event.Event(wall_time=run.made, step=step, summary=summary)
            writer.write(event.SerializeToString())
        return buffer.getvalue()

    def _summaries(self, run: TrackedRun) -> Iterator[tuple[int, Any]]:
        asked = dict(run.parameters)
        yield 0, self._hparams.hparams_pb(asked, trial_id=run.key, start_time_secs=run.made)
        yield 0, self._text.text_pb("asked", _table(run.parameters.items()))
        yield 0, self._text.text_pb("made", _table(run.tags.items()))
        if run.error:
            yield 0, self._text.text_pb("error", _literal(run.error))
        for one in run.metrics:
            yield one.step, self._scalar.scalar_pb(one.name, one.value)
        for name, data in run.files.items():
            if name.endswith(".png"):
                width, height = struct.unpack(">II", data[16:24])  # of a PNG's first chunk
                image = self._summary.Summary.Image(
                    width=width, height=height, colorspace=4, encoded_image_string=data
                )
                tag = name.removesuffix(".png")
                value = self._summary.Summary.Value(tag=tag, image=image)
                yield 0, self._summary.Summary(value=[value])


def _table(pairs: Any) -> str:
    rows = [f"| {_literal(name)} | {_literal(str(value))} |" for name, value in pairs]
    return "\n".join(["| name | value |", "|---|---|", *rows])


def _literal(text: str) -> str:
    """As text in Markdown, which TensorBoard makes a page of."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&-])", r"\\\1", text).replace("\n", " ")
