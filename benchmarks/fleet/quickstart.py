"""A small Flower app of the kind that Flower's own tutorials begin with: FedAvg of a torch model.

The peer that benchmarks.fleet.scale runs beside ours: what a message costs in Flower's simulation
when the app is somebody else's.
"""

import sys
import time
from typing import Final

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

# Before the line of messages and seconds.
MARK: Final = "quickstart"
EXAMPLES: Final = 64

server = ServerApp()
client = ClientApp()


def network() -> nn.Module:
    """Pictures of 28 × 28 to ten classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def batch(message: Message, context: Context) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The model that came, and this client's own examples, drawn by its number."""
    torch.set_num_threads(1)
    model = network()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    drawn = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
    pictures = torch.rand(EXAMPLES, 28, 28, generator=drawn)
    return model, pictures, torch.randint(10, (EXAMPLES,), generator=drawn)


@client.train()
def train(message: Message, context: Context) -> Message:
    """One epoch."""
    model, pictures, labels = batch(message, context)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(pictures), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    metrics = MetricRecord({"num-examples": EXAMPLES, "loss": loss.item()})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The loss."""
    model, pictures, labels = batch(message, context)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(pictures), labels)
    metrics = MetricRecord({"num-examples": EXAMPLES, "loss": loss.item()})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Rounds of FedAvg; prints how many messages were answered and how long it took."""
    rounds = int(context.run_config["rounds"])
    start = time.perf_counter()
    result = FedAvg(min_available_nodes=len(list(grid.get_node_ids()))).start(
        grid, ArrayRecord(network().state_dict()), num_rounds=rounds
    )
    if len(result.evaluate_metrics_clientapp) != rounds:
        raise RuntimeError("a round was not evaluated")
    messages = 2 * rounds * len(list(grid.get_node_ids()))
    sys.stdout.write(f"{MARK} {messages} {time.perf_counter() - start:.3f}\n")
    sys.stdout.flush()
