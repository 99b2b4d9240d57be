from itertools import count

import pytest

from agentwrap.sampling import Sampler


def picked(sampler, rate, seconds=10.0):
    """Times of the steps picked, of an agent that makes ``rate`` steps per second."""
    times = (100 + number / rate for number in count())
    return [now for _, now in zip(range(int(rate * seconds)), times, strict=False) if sampler.pick(now)]


@pytest.mark.parametrize("rate", [61, 75, 100, 119, 1000, 20_000])
def test_faster_steps_are_held_to_the_rate(rate):
    assert 0.95 * 600 <= len(picked(Sampler(60), rate)) <= 601


@pytest.mark.parametrize("rate", [5, 30, 59])
def test_slower_steps_are_all_picked(rate):
    assert len(picked(Sampler(60), rate)) == 10 * rate


def test_picks_are_evenly_spaced():
    times = picked(Sampler(60), 1000)
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert max(gaps[1:]) < 0.019
    assert min(gaps[1:]) > 0.015


def test_after_a_pause_steps_do_not_come_in_a_burst():
    sampler = Sampler(10)
    assert sampler.pick(0.0 + 1)
    assert sampler.pick(60.0)
    assert not sampler.pick(60.05)


def test_last_steps_are_a_share_of_all():
    sampler = Sampler(60)
    picks = lasts = 0
    for number in range(100_000):  # 10 seconds of 1000 episodes per second
        now = 100 + number / 10_000
        if sampler.pick(now):
            picks += 1
        elif number % 10 == 9 and sampler.pick_last(now):
            lasts += 1
    assert 50 <= lasts <= 120
    assert picks > 450
    assert picks + lasts <= 625


def test_now_and_then_an_end_is_always_sent():
    sampler = Sampler(60)
    for second in range(5):
        assert sampler.pick(100.0 + second)
        assert sampler.pick_last(100.001 + second)


@pytest.mark.parametrize("rate", [5, 30, 59, 61, 100, 1000])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_steps_to_be_picked_are_known_soon_enough(rate, share):
    """An agent that spends a share of its time between steps: no step is picked that nobody looked at closely."""
    sampler, ready, picks, looked = Sampler(60), True, 0, 0
    for number in range(10 * rate):
        begun = 100 + number / rate
        looked += ready
        picks += sampler.pick(begun, ready=ready)
        ready = sampler.soon(begun, begun + (1 - share) / rate)
    assert 0.95 * min(600, 10 * rate) <= picks <= 601
    assert looked <= 1.1 * picks + 60, "and few others are looked at"


def test_a_step_after_a_long_pause_leaves_its_turn_to_the_next():
    sampler = Sampler(10)
    assert sampler.pick(100.0)
    assert not sampler.soon(100.0, 100.001)
    assert not sampler.pick(105.0, ready=False)
    assert sampler.soon(105.0, 105.001)
    assert sampler.pick(105.002)


def test_where_pauses_come_again_and_again_steps_after_them_are_expected():
    """Two steps at a time: the policy is called before the first only, so that one is worth picking."""
    sampler, ready, picked = Sampler(60), True, []
    for number in range(20):
        for part in (0, 1):
            now = 100 + number + part * 0.001
            picked += [part] * sampler.pick(now, ready=ready)
            ready = sampler.soon(now, now + 0.0005)
    assert picked.count(0) >= 18
    assert picked.count(1) <= 1
