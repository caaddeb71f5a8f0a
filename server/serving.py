"""What the processes of a server share: a folder that the front writes and workers map.

    FOLDER/model.safetensors    the model version's bytes, also what devices fetch
    FOLDER/server.safetensors   user parameters and training ratings
    FOLDER/description          the protobuf message that devices get too

The files are never changed in place, so that workers can map them: their pages are in memory
once, whatever the number of workers.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.files import write_file
from common.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_from_wire, description_to_wire
from server.deployment import read_deployment, write_deployment
from server.recommender import Recommender

DESCRIPTION_FILE: Final = "description"


def describe(
    recommender: Recommender,
    *,
    presets: dict[str, VicinalSettings],
    watched: tuple[int, ...],
    list_length: int,
) -> Description:
    """What a server says of a recommender.

    presets  what a call may name
    watched  items whose hit ratio is measured; `list_length` is K
    """
    return Description(
        recommender.version.digest,
        recommender.path.stat().st_size,
        recommender.version.manifest,
        recommender.ratings_digest,
        recommender.user_count,
        list_length,
        watched,
        presets,
    )


@contextmanager
def written_serving(
    folder: Path, recommender: Recommender, description: Description
) -> Iterator[Path]:
    """The folder while the block runs; it is gone afterwards. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        write_deployment(folder, recommender)
        message = description_to_wire(description)
        write_file(folder / DESCRIPTION_FILE, message.SerializeToString())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_serving(folder: Path) -> tuple[Recommender, Description]:
    """Raises InputError when the folder is not whole or does not fit."""
    try:
        message = wire.Description.FromString((folder / DESCRIPTION_FILE).read_bytes())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    return read_deployment(folder), description_from_wire(message)
