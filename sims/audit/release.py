"""What is sent, as an audit asks for it: one Protocol for whatever form a release has.

A *release* makes a version of some ratings. A version has artifacts: bytes that everybody fetches
once (the model, and a book where there is one), and bytes that answer one user's request, where
there are requests. An attacker has bytes and reads them as a device would; `owners` and the ratings
are for the judge, who says afterwards whether the attacker was right.

Shapes: U accounts, fakes among them; I items.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.versions.version import ModelVersion
from common.vicinal.book import ItemBook
from common.vicinal.settings import VicinalSettings
from sims.audit.seen import Seen
from sims.evaluation.measuring import Measurable
from sims.progress import Report


class Version(Protocol):
    """One published version; every account of `ratings` may ask."""

    @property
    def ratings(self) -> RatingMatrix:
        """What it was made of, for the judge, [U, I]."""
        ...

    @property
    def settings(self) -> VicinalSettings:
        """How devices fine-tune."""
        ...

    @property
    def answering(self) -> Measurable:
        """Answers as devices do, to the last item."""
        ...

    @property
    def mu(self) -> float | None:
        """μ of Gaussian differential privacy that is proven; None where nothing is."""
        ...

    @property
    def model_mu(self) -> float | None:
        """The same of the model version."""
        ...

    def model(self) -> bytes:
        """The model version that every device fetches; empty for a model without parameters."""
        ...

    def read_model(self, data: bytes) -> ModelVersion | None:
        """As a device decodes it; None for a model without parameters."""
        ...

    def book(self) -> bytes | None:
        """What else everybody fetches; None where there is nothing."""
        ...

    def read_book(self, data: bytes) -> Seen:
        """Anybody can."""
        ...

    def read_list(self, data: bytes) -> ItemBook | None:
        """The same, where it is a list of items by noisy counts; None where it is something else.

        Anybody can.
        """
        ...

    def book_of(self, ratings: RatingMatrix) -> bytes | None:
        """The book that the same server would have published of other ratings; None without."""
        ...

    def package(self, account: int) -> bytes | None:
        """The answer to an account's request; None where nobody asks."""
        ...

    def read_package(self, data: bytes) -> Seen:
        """What is open in it, to a server's operator or to whoever may ask for that account."""
        ...

    def unseal_package(self, account: int, data: bytes) -> Seen:
        """All that the account's own device reads, its own row aside."""
        ...

    def owners(self, account: int, seen: Seen) -> NDArray[np.int64]:
        """Whose each line is that was read in an account's package, for the judge, [n].

        −1 where a line is of several users, or nobody's.
        """
        ...


class Release(Protocol):
    """A way of sending what devices need."""

    @property
    def name(self) -> str:
        """As --release names it."""
        ...

    def published(
        self, ratings: RatingMatrix, *, real: int, seed: int, progress: Report
    ) -> Version:
        """Train and publish a version of ratings, of which the first `real` are no fakes."""
        ...
