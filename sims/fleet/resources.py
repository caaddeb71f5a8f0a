"""What a simulation may take of this machine."""

from dataclasses import dataclass
from typing import Self

from common.processes import core_count


@dataclass(frozen=True)
class Resources:
    """Processes that play clients, one client each at a time.

    processes  how many
    cpus       cores that Ray sets aside for each of them
    gpus       of one GPU, what share each of them has; Ray counts this machine's GPUs
    """

    processes: int
    cpus: int = 1
    gpus: float = 0.0

    @classmethod
    def of(
        cls, processes: int | None, clients: int, *, cpus: int | None = None, gpus: float = 0.0
    ) -> Self:
        """As many as asked for; by default as this machine's cores allow, and never idle ones."""
        each = cpus or 1
        return cls(min(processes or max(1, core_count() // each), clients), each, gpus)

    def federation(self, clients: int) -> str:
        """The same for `flwr run --federation-config`."""
        return (
            f"num-supernodes={clients} client-resources-num-cpus={self.cpus} "
            f"client-resources-num-gpus={self.gpus} "
            f"init-args-num-cpus={self.processes * self.cpus}"
        )
