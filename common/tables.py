"""Named arrays from safetensors bytes that anybody may have written."""

from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from common.errors import InputError


def read_tables(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays by name; `what` names the file in the InputError for anything else."""
    try:
        return load(data)
    # KeyError: a dtype that safetensors knows and numpy does not, such as BF16.
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{what}: not a safetensors file of numpy's types ({error})") from error
