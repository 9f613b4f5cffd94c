"""One small world, which every contract of models, banks and mitigations reads."""

from __future__ import annotations

import pytest
from spufix_helpers import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
