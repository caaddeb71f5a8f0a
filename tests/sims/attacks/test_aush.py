"""AUSH: the generator is really trained, and a fake is a real user but for what was written."""

import numpy as np
import torch
from torch import nn

from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.aush import generator_loss, template_users, train_game

REAL = synthetic(200, 120, seed=6)
CHOSEN = np.argsort(-REAL.item_counts(), kind="stable")[:3]


def game_inputs() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], int]:
    templates = template_users(REAL, (), CHOSEN, 15, 5)
    return REAL.rows(templates).dense(), 15


def test_every_parameter_of_the_generator_receives_a_gradient() -> None:
    profiles, _ = game_inputs()
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(120, 14), nn.Sigmoid(), nn.Linear(14, 3), nn.Sigmoid())
    discriminator = nn.Linear(120, 1)
    fillers = torch.from_numpy(profiles.copy())
    fillers[:, CHOSEN] = 0
    true = torch.from_numpy(profiles[:, CHOSEN])
    alone = {}
    for weight in (0.0, -1.0):
        generator.zero_grad()
        discriminator.weight.data.fill_(weight)
        draws = torch.Generator().manual_seed(0)
        places = torch.from_numpy(CHOSEN)
        loss = generator_loss(generator, discriminator, fillers, true, places, draws)
        torch.autograd.backward(loss)
        gradients = [parameter.grad for parameter in generator.parameters()]
        assert all(grad is not None and bool((grad != 0).any()) for grad in gradients)
        alone[weight] = torch.cat([grad.flatten() for grad in gradients if grad is not None])
    # The discriminator's verdict reaches the generator: it was not detached on the way.
    assert not torch.allclose(alone[0.0], alone[-1.0])


def test_training_moves_the_generator_and_its_loss_falls() -> None:
    profiles, kept = game_inputs()
    games = [
        train_game(
            profiles,
            CHOSEN,
            kept,
            epochs=epochs,
            # Stands still: a discriminator that learns raises the generator's loss again.
            discriminator_rate=0,
            rng=np.random.default_rng(1),
        )
        for epochs in (0, 40)
    ]
    before, after = (list(game.generator.parameters()) for game in games)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert len(moved) == 10 and all(moved)
    losses = games[1].losses
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05


def test_a_fake_keeps_ratings_of_one_real_user_beside_what_is_written() -> None:
    targets = (100, 101)
    fakes = make_profiles("aush", REAL, seed=0, targets=targets, options={"epochs": 3}).ratings
    table, real = fakes.dense(), REAL.dense()
    written = np.isin(np.arange(120), [*targets, *CHOSEN])
    templates = []
    for row in table:
        kept = (row > 0) & ~written
        same = (real[:, kept] == row[kept]).all(axis=1)
        assert kept.sum() >= 10 and same.any()
        templates.append(int(np.flatnonzero(same)[0]))
    assert len(set(templates)) == len(templates)
    assert (table[:, CHOSEN] > 0).all()


def test_without_enough_busy_users_the_busiest_are_templates() -> None:
    templates = template_users(REAL, (), CHOSEN, 119, 6)
    usable = (REAL.dense() > 0) & ~np.isin(np.arange(120), CHOSEN)
    counts = usable.sum(axis=1)
    assert len(templates) == 6
    assert counts[templates].min() >= np.sort(counts)[-6]
