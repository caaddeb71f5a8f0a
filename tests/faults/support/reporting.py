"""A server process that counts reports into a file, to be killed: python reporting.py FOLDER PORT.

It serves `make_scene(FOLDER)` with FOLDER/tally.sqlite and writes FOLDER/ready when it listens.
"""

import sys
from pathlib import Path
from threading import Event

from server.front.service import OffloadService
from server.metrics import Metrics
from server.reports.tally import Tally
from server.versions.folder import eligible_users
from tests.support.serving import USERS, WATCHED, Endpoint, make_scene


def serve(folder: Path, port: int) -> None:
    scene = make_scene(folder)
    description = scene.description()
    tally = Tally(
        users=USERS,
        eligible=eligible_users(scene.recommender, WATCHED),
        path=folder / "tally.sqlite",
    )
    plain = scene.service()
    service = OffloadService(plain.versions, tally, plain._workers, Metrics(description))
    with Endpoint(service, port=port) as endpoint:
        ready = folder / "ready.part"
        ready.write_text(str(endpoint.port))
        ready.replace(folder / "ready")
        Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
