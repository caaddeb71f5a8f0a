"""Neighborhoods that cross the wire: what is sent, sealed and put together again, in one call."""

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.versions.version import Manifest
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.messages import neighborhood_from_wire, neighborhood_to_wire, own_to_wire


def crossed(
    sent: Neighborhood,
    manifest: Manifest,
    settings: VicinalSettings,
    own: RatingMatrix | None = None,
    hidden: NDArray[np.bool_] | None = None,
) -> Neighborhood:
    """What a device makes of a neighborhood; `own` is all that its user rated, by default row 0.

    `hidden` are the items [I] whose ratings are sealed.
    """
    own = sent.ratings.rows([0]) if own is None else own
    message, sealed = neighborhood_to_wire(sent, hidden), own_to_wire(sent, hidden)
    return neighborhood_from_wire(
        wire.Neighborhood.FromString(message.SerializeToString()),
        manifest,
        wire.Own.FromString(sealed.SerializeToString()),
        own,
        settings,
    ).neighborhood
