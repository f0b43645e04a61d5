"""Running statistics: measured and estimated as computed by hand, modes and momenta kept."""

import math

import pytest
import torch
from torch import nn

from voxgraft.training import batchnorm_layers, measure_disagreement, reestimate
from voxgraft.training.batchnorm import settle_batchnorm


def example():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3, momentum=0.3), nn.Dropout(0.5), nn.Flatten()
    )
    batches = [torch.randn(4, 1, 2, 2, 2) + shift for shift in (0.0, 1.0, 5.0)]
    return network, batches


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_reestimated_statistics_by_hand():
    network, batches = example()
    reestimate(network, batchnorm_layers(network), batches)
    maps = [network[0](batch) for batch in batches]
    mean = torch.stack([m.mean(dim=(0, 2, 3, 4)) for m in maps]).mean(dim=0)
    var = torch.stack([m.var(dim=(0, 2, 3, 4)) for m in maps]).mean(dim=0)
    torch.testing.assert_close(network[1].running_mean, mean)
    torch.testing.assert_close(network[1].running_var, var)


def test_one_batch_leaves_no_disagreement():
    network, batches = example()
    layers = batchnorm_layers(network)
    assert measure_disagreement(network, layers, batches[:1]) > 0.1
    reestimate(network, layers, batches[:1])
    # what is left is the correction of the variance for its 32 values
    assert measure_disagreement(network, layers, batches[:1]) < 0.02


def test_disagreement_by_hand():
    network, batches = example()
    network[1].running_mean.fill_(2.0)
    apart = size = 0.0
    for batch in batches:
        trained = nn.functional.batch_norm(network[0](batch), None, None, training=True)
        evaluated = (network[0](batch) - 2.0) / math.sqrt(1.0 + 1e-5)
        trained, evaluated = trained.detach(), evaluated.detach()
        apart += float((trained - evaluated).square().sum())
        size += 0.5 * float(trained.square().sum() + evaluated.square().sum())
    found = measure_disagreement(network, batchnorm_layers(network), batches)
    assert found == pytest.approx(math.sqrt(apart / size), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_changes_nothing_and_estimating_only_statistics(training):
    network, batches = example()
    network.train(training)
    network[2].eval()  # a mixture of modes
    modes = [module.training for module in network.modules()]
    before, layers = state(network), batchnorm_layers(network)
    torch.manual_seed(5)
    measure_disagreement(network, layers, batches)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    reestimate(network, layers, batches)
    changed = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert [module.training for module in network.modules()] == modes
    assert network[1].momentum == 0.3
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), expected)  # no dropout was drawn


def test_modes_and_momenta_survive_an_exception():
    network, batches = example()

    def broken():
        yield batches[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reestimate(network, batchnorm_layers(network), broken())
    assert network[1].momentum == 0.3
    assert all(module.training for module in network.modules())


def test_settling_is_measuring_estimating_and_measuring():
    network, batches = example()
    twin, _ = example()
    network[1].running_mean.fill_(2.0)
    twin[1].running_mean.fill_(2.0)
    settled = settle_batchnorm(network, batchnorm_layers(network), batches, step=3, tolerance=0.1)
    layers = batchnorm_layers(twin)
    before = measure_disagreement(twin, layers, batches[:2])
    reestimate(twin, layers, batches)
    after = measure_disagreement(twin, layers, batches[:2])
    assert (settled.step, settled.done) == (3, True)
    assert (settled.before, settled.after) == pytest.approx((before, after))
    assert all(torch.equal(v, network.state_dict()[n]) for n, v in twin.state_dict().items())


def test_settling_leaves_a_small_disagreement_alone_and_reads_no_further():
    network, batches = example()
    before, read = state(network), []
    settled = settle_batchnorm(
        network,
        batchnorm_layers(network),
        (read.append(batch.shape) or batch for batch in batches),
        step=0,
        tolerance=2.0,
    )
    assert (settled.done, settled.before) == (False, settled.after)
    assert settled.before > 0
    assert len(read) == 2
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network[1].momentum == 0.3


def test_nothing_finite_is_an_infinite_disagreement():
    network, batches = example()
    network[1].running_var.fill_(math.nan)
    assert measure_disagreement(network, batchnorm_layers(network), batches) == math.inf


def test_which_layers_keep_statistics():
    network = nn.Sequential(
        nn.BatchNorm3d(2), nn.BatchNorm1d(2).eval(), nn.GroupNorm(1, 2),
        nn.BatchNorm3d(2, track_running_stats=False),
    )  # fmt: skip
    assert batchnorm_layers(network) == [network[0], network[1]]
    assert batchnorm_layers(network, training_only=True) == [network[0]]
    plain = nn.Sequential(nn.Linear(2, 2))
    assert not settle_batchnorm(plain, [], [], step=0, tolerance=0.1).done
