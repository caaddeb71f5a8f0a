"""A server process that counts reports into a file, to be killed: python reporting.py FOLDER PORT.

It serves `make_scene(FOLDER)` with FOLDER/tally.sqlite and writes FOLDER/ready when it listens.
"""

import sys
from pathlib import Path
from threading import Event

from tests.support.serving import Endpoint, make_scene


def serve(folder: Path, port: int) -> None:
    scene = make_scene(folder)
    service = scene.service(tally=scene.tally(folder / "tally.sqlite"))
    with Endpoint(service, port=port) as endpoint:
        ready = folder / "ready.part"
        ready.write_text(str(endpoint.port))
        ready.replace(folder / "ready")
        Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
