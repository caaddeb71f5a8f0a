"""AUSH (Lin et al. 2020, "Attacking recommender systems with augmented user profiles").

A fake starts from a template, a real user with enough ratings: some of its ratings are kept as
they are (fillers), a generator writes ratings for a few popular items (selected), the targets get
the maximum. The generator is trained against a discriminator which tells real users' fillers and
selected ratings from augmented ones; its loss is the sum of

    adversarial     cross entropy: the discriminator should take the profile for a real one
    shilling        mean over selected items of (generated − maximum)²
    reconstruction  the same of (generated − real)², over the selected items that the template
                    rated, and over each one that it did not, with probability ½, against 0

Ratings are fractions of the maximum throughout.

Shapes: B templates in a batch, I items, s selected items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.ratings import RatingMatrix
from sims.attacks.budget import Budget, assemble
from sims.attacks.options import check

GENERATOR_WIDTHS = (400, 133, 44, 14)
DISCRIMINATOR_WIDTHS = (150, 150, 150)
WEIGHT_DECAY = 1e-4
BATCH = 256


@dataclass(frozen=True)
class Game:
    """Generator and discriminator, and the generator's mean loss in each epoch."""

    generator: nn.Module
    discriminator: nn.Module
    losses: tuple[float, ...]


def aush_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    selected: int = 3,
    epochs: int = 150,
    generator_rate: float = 1e-2,
    discriminator_rate: float = 1e-4,
) -> RatingMatrix:
    """Augmented templates, with a generator trained on all of them.

    selected            items whose ratings the generator writes: the most popular ones; at most
                        half of the fillers
    epochs              passes over the templates
    generator_rate      learning rate of Adam, for the generator
    discriminator_rate  and for the discriminator
    """
    check("selected", selected, 1)
    check("epochs", epochs, 0)
    check("generator_rate", generator_rate, 0)
    check("discriminator_rate", discriminator_rate, 0)
    room = budget.profile_size - len(targets)
    popular = ratings.item_counts()
    popular[list(targets)] = 0
    chosen = np.argsort(-popular, kind="stable")[: min(selected, room // 2)]
    chosen = chosen[popular[chosen] > 0]
    kept = room - len(chosen)
    templates = template_users(ratings, targets, chosen, kept, budget.fakes)
    profiles = ratings.rows(templates).dense()
    profiles[:, list(targets)] = 0
    game = None
    if len(chosen):
        game = train_game(
            profiles,
            chosen,
            kept,
            epochs=epochs,
            generator_rate=generator_rate,
            discriminator_rate=discriminator_rate,
            rng=rng,
        )
    order = rng.permutation(len(templates))
    rows = profiles[order[np.arange(budget.fakes) % len(order)]]
    fillers = _thin(rows, chosen, kept, rng)
    written = rows[:, chosen]
    if game is not None:
        with torch.no_grad():
            written = game.generator(torch.from_numpy(fillers)).numpy()
    fillers[:, chosen] = written
    fakes = []
    for row in fillers.astype(np.float64):
        items = np.union1d(np.flatnonzero(row), chosen)
        fakes.append((items, row[items] * ratings.scale.maximum))
    return assemble(ratings, targets, fakes)


def template_users(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    chosen: NDArray[np.int64],
    kept: int,
    fakes: int,
) -> NDArray[np.int64]:
    """Users with `kept` ratings beside targets and selected items; the busiest if too few."""
    usable = ~np.isin(ratings.items, [*targets, *chosen.tolist()])
    counts = np.bincount(ratings.users[usable], minlength=ratings.user_count)
    enough = np.flatnonzero(counts >= kept)
    if len(enough) < fakes:
        return np.sort(np.argsort(-counts, kind="stable")[:fakes])
    return enough


def train_game(
    profiles: NDArray[np.float32],
    chosen: NDArray[np.int64],
    kept: int,
    *,
    epochs: int,
    generator_rate: float = 1e-2,
    discriminator_rate: float = 1e-4,
    rng: np.random.Generator,
) -> Game:
    """Train both on templates' ratings [B, I], one step each in turn."""
    # A sum's order depends on the number of threads, and the profiles on the sum.
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(int(rng.integers(2**31)))
    generator = _network(profiles.shape[1], GENERATOR_WIDTHS, len(chosen), draws)
    generator.append(nn.Sigmoid())
    discriminator = _network(profiles.shape[1], DISCRIMINATOR_WIDTHS, 1, draws)
    of_generator = torch.optim.Adam(
        generator.parameters(), generator_rate, weight_decay=WEIGHT_DECAY
    )
    of_discriminator = torch.optim.Adam(
        discriminator.parameters(), discriminator_rate, weight_decay=WEIGHT_DECAY
    )
    places = torch.from_numpy(chosen)
    losses = []
    for _ in range(epochs):
        summed = 0.0
        for batch in np.array_split(rng.permutation(len(profiles)), -(-len(profiles) // BATCH)):
            fillers = torch.from_numpy(_thin(profiles[batch], chosen, kept, rng))
            true = torch.from_numpy(profiles[batch][:, chosen])
            real, fake = fillers.clone(), fillers.clone()
            real[:, places] = true

            fake[:, places] = generator(fillers).detach()
            of_discriminator.zero_grad()
            loss = _verdict(discriminator, real, 1.0) + _verdict(discriminator, fake, 0.0)
            torch.autograd.backward(loss)
            of_discriminator.step()

            of_generator.zero_grad()
            loss = generator_loss(generator, discriminator, fillers, true, places, draws)
            torch.autograd.backward(loss, inputs=list(generator.parameters()))
            of_generator.step()
            summed += float(loss.detach()) * len(batch)
        losses.append(summed / len(profiles))
    return Game(generator, discriminator, tuple(losses))


def generator_loss(
    generator: nn.Module,
    discriminator: nn.Module,
    fillers: torch.Tensor,
    true: torch.Tensor,
    places: torch.Tensor,
    draws: torch.Generator,
) -> torch.Tensor:
    """Adversarial + shilling + reconstruction loss for fillers [B, I] and true ratings [B, s]."""
    written = generator(fillers)
    fake = fillers.index_copy(1, places, written)
    adversarial = _verdict(discriminator, fake, 1.0)
    shilling = (written - 1).square().mean()
    counted = (true > 0) | (torch.rand(true.shape, generator=draws) < 0.5)
    reconstruction = ((written - true).square() * counted).sum() / counted.sum().clamp(min=1)
    loss: torch.Tensor = adversarial + shilling + reconstruction
    return loss


def _verdict(discriminator: nn.Module, profiles: torch.Tensor, truth: float) -> torch.Tensor:
    logits: torch.Tensor = discriminator(profiles)
    entropy: torch.Tensor = binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))
    return entropy


def _network(
    inputs: int, widths: tuple[int, ...], outputs: int, draws: torch.Generator
) -> nn.Sequential:
    """Linear layers with sigmoids between them, initialized from `draws` alone."""
    network = nn.Sequential()
    for width in widths:
        network.append(_linear(inputs, width, draws)).append(nn.Sigmoid())
        inputs = width
    return network.append(_linear(inputs, outputs, draws))


def _linear(inputs: int, outputs: int, draws: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=draws)
    nn.init.zeros_(layer.bias)
    return layer


def _thin(
    profiles: NDArray[np.float32],
    chosen: NDArray[np.int64],
    kept: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Templates with at most `kept` of their ratings, at random, none on selected items."""
    fillers = profiles.copy()
    fillers[:, chosen] = 0
    rows, items = np.nonzero(fillers)
    shuffled = np.lexsort((rng.random(len(rows)), rows))
    lengths = np.bincount(rows, minlength=len(fillers))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    dropped = shuffled[place >= kept]
    fillers[rows[dropped], items[dropped]] = 0
    return fillers
