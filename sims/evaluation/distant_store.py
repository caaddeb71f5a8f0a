"""A store of trained models that workers on other machines use.

They ask the machine that has it, which gives what was trained before and keeps what is trained now.
No folder has to be shared.
"""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

from server.model_store import ModelStore, StoredModel, TrainedModel, Versions
from sims.processes.ray_pool import Hosted
from sims.processes.workers import Workers


def store_of(workers: Workers, store: ModelStore) -> Versions:
    """The store of this process, as workers use it."""
    if workers.cluster is None:
        return store
    folder = store.folder.resolve()
    return DistantStore(workers.cluster.hosted(_asked, start=ModelStore, arguments=(folder,)))


@final
class DistantStore:
    """In a worker: models of another machine, copied into a folder of this one's own."""

    def __init__(self, host: Hosted) -> None:
        self._host = host

    @cached_property
    def _own(self) -> ModelStore:
        self._folder = TemporaryDirectory(prefix="vicinal-store-")
        return ModelStore(Path(self._folder.name))

    def find(self, training_digest: str) -> StoredModel | None:
        """Raises InputError when it was stored and is damaged now."""
        found = self._own.find(training_digest)
        if found is None:
            there: TrainedModel | None = self._host(training_digest, None)
            found = None if there is None else self._own.save(there)
        return found

    def save(self, trained: TrainedModel) -> StoredModel:
        """Here and there. Raises OSError."""
        self._host("", trained)
        return self._own.save(trained)


def _asked(
    store: ModelStore, training_digest: str, trained: TrainedModel | None
) -> TrainedModel | None:
    """Keeps what is given, or finds what is asked for."""
    if trained is not None:
        store.save(trained)
        return None
    found = store.find(training_digest)
    if found is None:
        return None
    version = found.version
    return TrainedModel(version.manifest, version.parameters, found.user_parameters, found.left_out)
