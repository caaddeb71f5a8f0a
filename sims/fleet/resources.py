"""What a simulation may take of this machine, or of a Ray cluster."""

from dataclasses import dataclass
from typing import Final, Self

from common.errors import InputError
from common.processes import core_count
from sims.processes.ray_session import ray_session, require_ray

# Messages for each process, so that none waits for work: Flower hands out what is there ten times
# a second.
UNDER_WAY: Final = 16
# Of a cluster, whose size is known to Ray alone.
UNDER_WAY_IN_CLUSTER: Final = 128


@dataclass(frozen=True)
class Resources:
    """Processes that play clients, one client each at a time.

    processes  how many; 0: as many as the cluster has room for
    cpus       cores that Ray sets aside for each of them
    gpus       of one GPU, what share each of them has; Ray counts this machine's GPUs
    cluster    address of a Ray cluster that runs already; None: one of this machine, made for it
    """

    processes: int
    cpus: int = 1
    gpus: float = 0.0
    cluster: str | None = None

    @classmethod
    def of(
        cls,
        processes: int | None,
        clients: int,
        *,
        cpus: int | None = None,
        gpus: float = 0.0,
        cluster: str | None = None,
    ) -> Self:
        """As many as asked for; by default as this machine's cores allow, and never idle ones."""
        each = cpus or 1
        if cluster is not None:
            return cls(0, each, gpus, cluster)
        return cls(min(processes or max(1, core_count() // each), clients), each, gpus)

    def require(self) -> None:
        """Raises InputError for a cluster that does not answer, and for GPUs that Ray has not."""
        if self.cluster is not None:
            require_ray(self.cluster)
        if not self.gpus:
            return
        with ray_session(processes=1, address=self.cluster, gpus=None) as ray:
            found = ray.cluster_resources().get("GPU", 0)
        if found < self.gpus:
            where = "on this machine" if self.cluster is None else f"at {self.cluster}"
            raise InputError(
                f"no client fits: it is to have --num-gpus {self.gpus:g}, and Ray finds "
                f"{found:g} GPUs {where}"
            )

    @property
    def under_way(self) -> int:
        """Messages at a time."""
        return UNDER_WAY * self.processes or UNDER_WAY_IN_CLUSTER

    def federation(self, clients: int) -> str:
        """The same for `flwr run --federation-config`."""
        made = (
            f"num-supernodes={clients} client-resources-num-cpus={self.cpus} "
            f"client-resources-num-gpus={self.gpus}"
        )
        # Of a cluster that runs already, Ray refuses to be told its size.
        return f"{made} init-args-num-cpus={self.processes * self.cpus}" if self.processes else made

    def environment(self) -> dict[str, str]:
        """Of Flower's programs, for Ray."""
        return {} if self.cluster is None else {"RAY_ADDRESS": self.cluster}
