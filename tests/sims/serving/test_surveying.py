"""Which versions are looked at, and where it is written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.versions.catalog import Catalog
from server.versions.folder import read_survey
from sims.serving import surveying
from sims.serving.surveying import look
from tests.support.scenes import PRESETS, USERS, make_scene


def test_a_look_is_written_for_every_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Servers give a preset no more neighbors than there are users.
    monkeypatch.delitem(PRESETS, "crowd")
    scene = make_scene(tmp_path)
    version = scene.description().version
    assert scene.catalog().surveys() == {version: {}}
    look(scene.folder, scene.recommender, scene.local, most=5)
    found = read_survey(scene.folder, version)
    assert set(found) == {"paper", "vicinal"} and found["paper"]["users"] == 5 < USERS
    assert Catalog(scene.folder).surveys() == {version: found}


def test_a_model_that_would_have_to_be_fitted_to_many_items_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "MOST_FITTED", 59)
    served = SimpleNamespace(model=SimpleNamespace(tables=()))
    ease: Any = SimpleNamespace(
        version=SimpleNamespace(served=served), ratings=SimpleNamespace(item_count=60)
    )
    look(tmp_path, ease, make_scene(tmp_path).local, most=5)
    assert not list(tmp_path.glob("*/survey"))
