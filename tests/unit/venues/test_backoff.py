from __future__ import annotations

import itertools
import random

from helios.venues.backoff import backoff_delays


def test_back_off_grows_to_its_cap_with_full_jitter() -> None:
    runs = [list(itertools.islice(backoff_delays(random.Random(seed)), 8)) for seed in range(200)]
    highest = [max(run[step] for run in runs) for step in range(8)]
    for step, limit_s in enumerate([0.5, 1, 2, 4, 8, 10, 10, 10]):
        assert 0.9 * limit_s < highest[step] <= limit_s
    assert min(run[6] for run in runs) < 1.0
