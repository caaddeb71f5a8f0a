"""Which clients are there, and whose users each of them plays.

Client p of n plays the users u with u mod n = p. Work belongs to the partition p: any client that
plays it may do it, and clients come and go under new names.
"""

from collections import Counter
from typing import final


@final
class Roster:
    """Clients by node id.

    partitions  how many there are, as most clients say; 0 before anybody does
    refused     nodes that get no more messages, and why
    """

    def __init__(self) -> None:
        self._plays: dict[int, tuple[int, int]] = {}
        self.partitions = 0
        self.refused: dict[int, str] = {}

    def join(self, node: int, partition: int, partitions: int) -> None:
        """A client that holds the model plays a partition of so many."""
        self._plays[node] = (partition, partitions)

    def leave(self, node: int) -> None:
        """A client is not there now; it may come back."""
        self._plays.pop(node, None)

    def refuse(self, node: int, why: str) -> None:
        """A client is not to be asked again."""
        self.leave(node)
        self.refused[node] = why

    def settle(self, expected: int) -> None:
        """Fix the number of partitions, and refuse who says another; ties go to `expected`."""
        said = Counter(partitions for _, partitions in self._plays.values())
        if said:
            self.partitions = max(said, key=lambda many: (said[many], many == expected, many))
        for node, (_, partitions) in list(self._plays.items()):
            if partitions != self.partitions:
                why = f"plays one of {partitions} partitions, others of {self.partitions}"
                self.refuse(node, f"{why}: set num-partitions of every node")

    def players(self, partition: int) -> list[int]:
        """Who plays a partition, who came first first."""
        asked = (partition, self.partitions)
        return [node for node, plays in self._plays.items() if plays == asked]

    def present(self) -> list[int]:
        """Partitions that somebody plays, ascending."""
        played = {
            part for part, partitions in self._plays.values() if partitions == self.partitions
        }
        return sorted(played)

    def partition(self, node: int) -> int | None:
        plays = self._plays.get(node)
        return None if plays is None else plays[0]

    def __len__(self) -> int:
        return len(self._plays)
