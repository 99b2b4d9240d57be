import numpy as np

from agentwrap.episodes import KEPT, EpisodeLog


def test_the_newest_episodes_are_kept_in_order():
    log = EpisodeLog()
    for number in range(KEPT + 5):
        log.add(number, number / 2, 7)
    arrays = log.arrays()
    assert arrays["episodes/number"].tolist() == list(range(5, KEPT + 5))
    assert arrays["episodes/return"][0] == 2.5
    assert set(arrays["episodes/length"]) == {7}


def test_none_are_empty_arrays_of_the_right_type():
    arrays = EpisodeLog().arrays()
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "episodes/number": (np.int64, (0,)),
        "episodes/return": (np.float64, (0,)),
        "episodes/length": (np.int64, (0,)),
    }
