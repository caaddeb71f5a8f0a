"""What the servers of one database share, and what one of them needs to be a member.

Apart from sims.serving.joining, which loads all that training needs.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.files import stored_secret
from server.cluster.blobs import BlobStore
from server.cluster.member import Membership
from server.cluster.registry import Registry
from server.sql.postgresql import Database
from server.trust.tokens import TokenKeys
from server.versions.files import DEVICES_FILE

# In the serving folder: where in the store the order of users and items is.
IDS_FILE: Final = "ids-file"


@dataclass(frozen=True)
class SharedPlaces:
    """What servers share: the addresses of a database and of the versions' bytes."""

    database: str
    versions: str

    def membership(
        self,
        database: Database,
        *,
        folder: Path,
        store: Path,
        address: str,
        keys: TokenKeys | None,
        grace: float,
        trains: bool,
    ) -> Membership:
        """Of a server that is about to listen; its folder is there."""
        return Membership(
            Registry(database, uuid.uuid4().hex, address, grace),
            BlobStore(self.versions),
            folder,
            store / (folder / IDS_FILE).read_text(),
            store,
            stored_secret(store / DEVICES_FILE),
            keys,
            trains,
        )
