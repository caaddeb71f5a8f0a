"""Top K for a user of a device: computed here, by the server, or from the last package."""

import time
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from client.budget import OverBudgetError, require_answer
from client.device import answer, answer_from_book, careful, ranked
from client.link.connection import Connection, NoAnswerError, Package
from client.link.replies import checked_package
from client.stores.packages import KeptPackage, PackageStore
from client.stores.ratings import LocalRatings
from client.stores.versions import VersionStore
from common.errors import InputError, VicinalError
from common.models import model_named
from common.ranking import Counts, count_user
from common.versions.version import ModelVersion
from common.vicinal.book import BookReader, ItemBook
from common.vicinal.settings import VicinalSettings
from common.vicinal.slim import Tables, slim_scores
from common.vicinal.tuning import tuned_scores
from common.wire.description import Description


@dataclass(frozen=True)
class AnswerRecord:
    """One user's top K on the device, with its counts and timings.

    items       the top K, best first: for the user, never for a report
    version     the model version that ranked them
    waited      seconds from asking for the package until it was here and checked
    computed    seconds of fine-tuning and ranking; 0 when the server did it
    received    bytes of the package; 0 when it was kept from before, or the server answered
    age         seconds since a stale answer's package came; 0 for others
    tolerated_fakes  f: how many of all accounts may be fakes and still hold up no item alone;
                0: nothing is assumed
    required_raters  M: how many accounts rated every item of the list that is there for its raters;
                both are 0 of a book, which has noise
    comparable  whether version, settings and K are those that the server was last seen with
    reported    whether the server has the counts
    untold      why the device does not report it; empty where it does
    receipt     names the answer in a report; empty: it was reported before, as a stale one
    """

    user: int
    items: tuple[int, ...]
    counts: Counts
    version: str
    waited: float
    computed: float
    received: int
    age: float = 0.0
    tolerated_fakes: int = 0
    required_raters: int = 0
    comparable: bool = True
    reported: bool = False
    untold: str = ""
    receipt: bytes = b""


@final
class DeviceRecommender:
    """Makes a user's answer, whichever version the server serves at the time.

    packages  where last packages are kept; None keeps none
    """

    def __init__(
        self,
        connection: Connection,
        store: VersionStore,
        local: LocalRatings,
        preset: str,
        packages: PackageStore | None,
    ) -> None:
        self._connection = connection
        self._store = store
        self._local = local
        self._preset = preset
        self._packages = packages
        # Of slim packages: what those of one version share, and of which.
        self._shared: Tables | None = None
        self._shared_of = ""
        self._loaded: ModelVersion | None = None
        # Of the version and book of the last answer.
        self._reader: BookReader | None = None
        self._read: tuple[ModelVersion, ItemBook] | None = None

    def here(
        self, description: Description, version: ModelVersion | None, user: int
    ) -> AnswerRecord:
        """The answer of a fine-tune here, on a fetched package, which is kept. Raises as package().

        Without a version, on a slim device, the package brings the part of the model.
        """
        settings = description.preset(self._preset)
        start = time.perf_counter()
        if self._shared_of != description.version:
            self._shared_of, self._shared = description.version, None
        package = self._connection.package(
            description,
            user,
            self._preset,
            self._local.own(user),
            slim=version is None,
            shared=self._shared,
        )
        arrived = time.perf_counter()
        with careful():
            scores = self._scores(description, version, package)
        found = ranked(
            scores,
            rated=self._local.items_of(user),
            held_out=self._local.held_out_of(user),
            watched=description.watched,
            list_length=description.list_length,
        )
        computed = time.perf_counter() - arrived
        if self._packages is not None:
            self._packages.keep(user, self._preset, description, package.message)
        return AnswerRecord(
            user,
            tuple(found.items.tolist()),
            found.counts,
            description.version,
            arrived - start,
            computed,
            package.received,
            tolerated_fakes=settings.tolerated_fakes(description.manifest.users),
            required_raters=settings.required_raters(description.manifest.users),
            receipt=package.message.receipt,
        )

    def _scores(
        self, description: Description, version: ModelVersion | None, package: Package
    ) -> NDArray[np.float32]:
        settings = description.preset(self._preset)
        if version is not None:
            return tuned_scores(version.served, package.neighborhood, settings)
        assert package.slim is not None
        self._shared = package.slim.shared
        model = model_named(description.manifest.model)
        return slim_scores(model, package.slim, package.neighborhood, settings)

    def from_book(
        self, description: Description, version: ModelVersion, book: ItemBook, user: int
    ) -> AnswerRecord:
        """The answer of model, book and the user's own ratings; nothing is asked.

        Raises InputError for ratings of another scale, NoAnswerError for more than the budget.
        """
        manifest = description.manifest
        own = self._local.row_of(user).over_items(manifest.items)
        if own.scale != manifest.scale:
            raise InputError("the device's ratings are on another scale than the server's")
        self._connection.require_book_answer(description, len(own))
        start = time.perf_counter()
        found = answer_from_book(
            self._reading(version, book),
            own,
            held_out=self._local.held_out_of(user),
            watched=description.watched,
            list_length=description.list_length,
        )
        return AnswerRecord(
            user,
            tuple(found.items.tolist()),
            found.counts,
            description.version,
            0.0,
            time.perf_counter() - start,
            0,
        )

    def _reading(self, version: ModelVersion, book: ItemBook) -> BookReader:
        """What answers from a version and its book share."""
        read = self._read
        if self._reader is None or read is None or read[0] is not version or read[1] is not book:
            self._reader, self._read = BookReader(version.served, book), (version, book)
        return self._reader

    def by_server(
        self, description: Description, user: int, *, insist: bool = False
    ) -> AnswerRecord:
        """The answer of the server's fine-tune. Raises as recommend() does."""
        settings = description.preset(self._preset)
        start = time.perf_counter()
        recommended, receipt = self._connection.recommended(
            description, user, self._preset, insist=insist
        )
        waited = time.perf_counter() - start
        items, rated = np.array(recommended, dtype=np.int64), self._local.items_of(user)
        if np.isin(items, rated).any():
            raise VicinalError("the server recommends what the user has rated")
        held_out = self._local.held_out_of(user)
        counts = count_user(items, rated, description.watched, held_out)
        return AnswerRecord(
            user,
            tuple(recommended),
            replace(counts, by_server=1),
            description.version,
            waited,
            0.0,
            0,
            tolerated_fakes=settings.tolerated_fakes(description.manifest.users),
            required_raters=settings.required_raters(description.manifest.users),
            receipt=receipt,
        )

    def stale(self, current: Description, user: int, error: NoAnswerError) -> AnswerRecord:
        """The answer of a fine-tune here on the user's last package, with that package's settings.

        current  the server's last description
        error    why there is no other; raised when there is no package or no model for it
        """
        kept = None if self._packages is None else self._packages.load(user, self._preset)
        version = self._version_of(kept)
        if kept is None or version is None:
            raise error
        try:
            (neighborhood, _), _ = checked_package(
                kept.message, kept.description, self._preset, self._local.own(user)
            )
            # It came when there was more to spend.
            require_answer(self._connection.budget, kept.description, self._preset, neighborhood)
        # As when the user has rated more since.
        except (InputError, OverBudgetError):
            raise error from None
        settings = kept.description.preset(self._preset)
        start = time.perf_counter()
        found = answer(
            version,
            neighborhood,
            settings,
            rated=self._local.items_of(user),
            held_out=self._local.held_out_of(user),
            watched=current.watched,
            list_length=kept.description.list_length,
        )
        return AnswerRecord(
            user,
            tuple(found.items.tolist()),
            replace(found.counts, on_device=0, stale=1),
            version.digest,
            0.0,
            time.perf_counter() - start,
            0,
            age=kept.age,
            tolerated_fakes=settings.tolerated_fakes(kept.description.manifest.users),
            required_raters=settings.required_raters(kept.description.manifest.users),
            comparable=self._measured(kept.description) == self._measured(current),
            receipt=kept.message.receipt,
        )

    def spent(self, user: int) -> None:
        """A stale answer of the user's last package is in a report: the next one is not."""
        if self._packages is not None:
            self._packages.spend(user, self._preset)

    def _measured(self, description: Description) -> tuple[str, VicinalSettings, int]:
        """What counts depend on, beside the watched items."""
        return description.version, description.preset(self._preset), description.list_length

    def stored(self, description: Description) -> ModelVersion | None:
        """A described version from whichever of its forms is in the store, if one is."""
        version = self._stored(description)
        return version if version and version.manifest == description.manifest else None

    def latest(self, error: NoAnswerError) -> tuple[Description, ModelVersion]:
        """The server's last description, and its version; raises `error` without either."""
        kept = None if self._packages is None else self._packages.latest(self._preset)
        version = self._version_of(kept)
        if kept is None or version is None:
            raise error
        return kept.description, version

    def _version_of(self, kept: KeptPackage | None) -> ModelVersion | None:
        """The version of a package, if it is here."""
        if kept is None:
            return None
        if self._loaded is None or self._loaded.digest != kept.description.version:
            self._loaded = self._stored(kept.description)
        version = self._loaded
        return version if version and version.manifest == kept.description.manifest else None

    def _stored(self, description: Description) -> ModelVersion | None:
        """The version from whichever of its forms is in the store, if one is."""
        forms = description.all_forms
        loaded = (self._store.load(form, description.version) for form in forms)
        return next((version for version in loaded if version is not None), None)
