"""Spikes of the loss."""

import json

import numpy as np
import pytest

from dnf.training.spikes import SpikeMonitor


def falling(n: int = 600, noise: float = 0.0, seed: int = 1) -> list[float]:
    rng = np.random.default_rng(seed)
    return (200 * np.exp(-np.arange(n) / 80) - 300 + noise * rng.standard_normal(n)).tolist()


@pytest.mark.parametrize("noise", (0.0, 0.001, 0.5, 5.0))
def test_a_smooth_falling_curve_has_no_spike(noise):
    monitor = SpikeMonitor(10.0)
    assert sum(monitor.add(nll) for nll in falling(noise=noise)) == monitor.spikes == 0


@pytest.mark.parametrize(("at", "height"), [(30, 800.0), (300, 60.0), (599, 8.0)])
def test_a_planted_spike_is_found_where_it_is(at, height):
    curve = falling(noise=0.3)
    curve[at] += height
    monitor = SpikeMonitor(10.0)
    assert [step for step, nll in enumerate(curve) if monitor.add(nll)] == [at] and monitor.spikes == 1


def test_spikes_do_not_hide_each_other():
    curve = falling(noise=0.3)
    for at in range(300, 330, 3):
        curve[at] += 50
    monitor = SpikeMonitor(10.0)
    assert sum(monitor.add(nll) for nll in curve) == 10


def test_the_factor_is_a_number_of_deviations():
    rng = np.random.default_rng(2)
    curve = rng.standard_normal(100).tolist()  # deviation 1, median 0
    for factor, found in ((3.0, True), (30.0, False)):
        monitor = SpikeMonitor(factor)
        for nll in curve:
            monitor.add(nll)
        assert monitor.add(10.0) is found


def test_a_still_curve_has_no_spike_below_a_least_height():
    monitor = SpikeMonitor(10.0)
    assert sum(monitor.add(1.0 + 1e-9 * (n % 2)) for n in range(100)) == 0
    assert not monitor.add(1.2) and monitor.add(2.0)


def test_a_drop_and_the_first_steps_are_no_spikes():
    monitor = SpikeMonitor(10.0)
    assert sum(monitor.add(nll) for nll in (5.0, 900.0, 3.0, 700.0)) == 0
    for _ in range(100):
        monitor.add(0.0)
    assert not monitor.add(-1000.0)


def test_a_monitor_goes_on_from_its_state():
    curve = falling(noise=0.3)
    curve[260] += 80
    one, monitor = SpikeMonitor(10.0), SpikeMonitor(10.0)
    for step, nll in enumerate(curve):
        if step in (255, 300):
            monitor = SpikeMonitor(10.0, json.loads(json.dumps(monitor.state())))
        assert monitor.add(nll) == one.add(nll)
    assert monitor.spikes == one.spikes == 1


@pytest.mark.parametrize("step", (50, 100, 300))
def test_a_spike_is_seen_while_the_loss_still_falls(step):
    rng = np.random.default_rng(step)
    curve = 200 * np.exp(-np.arange(400) / 80) + 0.3 * rng.standard_normal(400)
    calm = SpikeMonitor(10.0)
    assert not any(calm.add(value) for value in curve)
    curve[step] += 40
    monitor = SpikeMonitor(10.0)
    assert [i for i, value in enumerate(curve) if monitor.add(value)] == [step]
