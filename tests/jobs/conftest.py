"A desk in a temporary folder: short history, real exchange process, real client."

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from mlt_lib.data.collect import collect
from mlt_lib.exchange.process import counters
from mlt_lib.execution.positions import performance
from mlt_lib.jobs.day import broker_for, sessions_due, tradable
from mlt_lib.jobs.session import open_desk, seed_history, step
from mlt_lib.settings import Settings
from mlt_lib.store.bars import write_closes
from mlt_lib.store.database import open_database

SHORT = "[universe]\nfirst_session = 2019-01-02\n[report]\ntrack_record_start = 2022-09-01\n"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLT_") and not name.startswith("MLT_TEST")]:
        monkeypatch.delenv(name)


@dataclass
class World:
    "One desk's folder, and the loop that a day runs."

    root: Path
    settings: Settings
    prices: pd.DataFrame
    namespace: str = "demo"

    @property
    def engine(self):
        return open_database(self.settings.database_url)

    def run(self, known: pd.DatetimeIndex, count: int) -> dict:
        "Go through the sessions that are due; the exchange's own counters at the end."
        engine = self.engine
        try:
            seen = pd.DatetimeIndex(performance(engine, self.namespace).index)
        finally:
            engine.dispose()
        due = sessions_due(known, seen, count)
        with broker_for(self.settings, self.namespace, self.prices, known[-count - 1]) as address:
            with open_desk(self.settings, self.namespace, address) as desk:
                seed_history(desk, due[0])
                self.steps = [step(desk, session) for session in tradable(desk, due)]
            return counters(address)


@pytest.fixture
def make_world(tmp_path) -> Callable[..., World]:
    def make(text: str = SHORT, name: str = "desk") -> World:
        root = tmp_path / name
        root.mkdir()
        (root / "settings.ini").write_text(text)
        settings = Settings.find(root / "settings.ini")
        prices = collect(settings).prices
        world = World(root, settings, prices)
        engine = world.engine
        write_closes(engine, prices, settings.data.source)
        engine.dispose()
        return world

    return make
