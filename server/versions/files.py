"""How the files of a version are called; apart from what reads them, which loads much."""

from typing import Final

MODEL_FILE: Final = "model.safetensors"
SERVER_FILE: Final = "server.safetensors"
DEVICES_FILE: Final = "devices.key"


def server_file(edition: int) -> str:
    """Where an edition's user parameters and ratings are; 0 is what was trained."""
    return f"server-{edition}.safetensors" if edition else SERVER_FILE
