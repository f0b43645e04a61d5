"""The loop: what it learns, what it records, when it stops, and what it leaves behind."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from voxgraft.errors import RecipeError, TaskError, TrainingError
from voxgraft.feeds import Batch, Feed
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, Optimization, predict_scores
from voxgraft.training.schedule import learning_rate_at


@pytest.mark.parametrize("kind", ["BINARY", "THREE", "LABELS", "AGE"])
def test_every_kind_of_target_is_learnt_by_the_same_loop(tiny, tmp_path, kind):
    target = getattr(tiny, kind)
    network, task, result = tiny.train(
        tmp_path, target=target, changes={"steps": 40, "eval_every": 10}, augmentation=None
    )
    feed = tiny.tiny_feed(target, 9, seed=1)
    scores = predict_scores(network, task, feed)
    assert scores.shape == (9, task.outputs)
    again = task.metrics(feed.targets.numpy().astype(np.float64), scores)[task.primary.name].value
    assert again == pytest.approx(result.best_value, abs=1e-6)
    baseline = 10.0 if kind == "AGE" else 0.5
    assert (again < 0.8 * baseline) if kind == "AGE" else (again > 0.75)
    assert not network.training
    assert not result.diverged


def test_result_and_metrics_file_agree(tiny, tmp_path):
    network, _, result = tiny.train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[0]["learning_rate"] == learning_rate_at(3, tiny.settings())
    best = max(rows, key=lambda row: row["validation"]["auroc"])
    assert (result.best_step, result.best_value) == (best["step"], best["validation"]["auroc"])
    assert result.steps_done == result.steps_planned == 12
    assert result.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert result.trainable_parameters == result.parameters
    assert result.to_dict() == json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_best_weights_are_kept_not_the_last(tiny, tmp_path):
    # a rate so high that the network gets worse after its best evaluation
    network, task, result = tiny.train(
        tmp_path, changes={"learning_rate": 0.5, "steps": 24, "warmup": 0.5, "eval_every": 2}
    )
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    scored = task.metrics(feed.targets.double().numpy(), predict_scores(network, task, feed))
    assert result.best_step < 24
    assert scored["auroc"].value == pytest.approx(result.best_value)


def test_same_seed_same_bits_other_seed_other_bits(tiny, tmp_path):
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    outcomes = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)  # the global generator must not matter
        network, task, _ = tiny.train(tmp_path / str(number), seed=seed)
        outcomes.append(tiny.outcome(network, task, feed))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] != outcomes[2]


def test_accumulated_batches_move_as_one_large_batch(tiny, tmp_path):
    states = []
    for name, parts in (("whole", 1), ("parts", 3)):
        network = tiny.tiny_network(1, "group", dropout=0.0)
        network.encoder.layer1[1].p = 0.0
        tiny.train(
            tmp_path / name,
            network=network,
            augmentation=None,
            changes={"batch_size": 6 // parts, "accumulate": parts, "steps": 4, "warmup": 0.0},
        )
        states.append(network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)]
)
def test_a_step_is_the_optimizers_on_the_clipped_gradient(tiny, tmp_path, name, kind):
    feed = tiny.tiny_feed(tiny.BINARY, 6)
    network = tiny.tiny_network(1, "group", dropout=0.0)
    network.encoder.layer1[1].p = 0.0
    twin = tiny.tiny_network(1, "group", dropout=0.0)
    twin.encoder.layer1[1].p = 0.0
    tiny.train(
        tmp_path, network=network, train_feed=feed, augmentation=None,
        changes={"steps": 1, "warmup": 0.0, "gradient_clip_norm": 0.01, "weight_decay": 0.5,
                 "optimizer": name, "momentum": 0.8},
    )  # fmt: skip
    decayed = [value for value in twin.parameters() if value.ndim >= 2]
    others = [value for value in twin.parameters() if value.ndim < 2]
    optimizer = kind(
        [{"params": decayed, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}],
        lr=5e-3,
        betas=(0.8, 0.999),
        foreach=False,
    )
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        twin.train()(feed.images), feed.targets
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    optimizer.step()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_early_stopping_counts_evaluations_without_a_better_value(tiny, tmp_path):
    changes = {"steps": 60, "eval_every": 2, "early_stop_patience": 3, "learning_rate": 0.02}
    _, _, result = tiny.train(tmp_path, changes=changes)
    assert result.stopped_early
    assert result.steps_done == result.best_step + 3 * 2
    assert result.history[-1]["step"] == result.steps_done


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"optimizer": "sgd"}, {"ema_decay": 0.9},
                {"balance": "classes"}, {"gradient_clip_norm": None}]
)  # fmt: skip
def test_options_train(tiny, tmp_path, changes):
    _, _, result = tiny.train(tmp_path, changes={**changes, "steps": 4})
    assert result.steps_done == 4
    assert not result.diverged
    assert np.isfinite(result.history[0]["train_loss"])


def test_channels_last_gives_the_same_training(tiny, tmp_path):
    states = []
    for memory_format in ("contiguous", "channels_last"):
        network = tiny.tiny_network(1, "group", dropout=0.0)
        network.encoder.layer1[1].p = 0.0  # masks are drawn in the order of the memory
        _, _, result = tiny.train(
            tmp_path / memory_format,
            network=network,
            memory_format=memory_format,
            changes={"steps": 3, "eval_every": 3},
            checkpoint_every_steps=2,
        )
        assert result.memory_format == memory_format
        states.append(network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


def test_without_validation_cases_the_last_weights_stay(tiny, tmp_path):
    task, network = build_task(tiny.BINARY), tiny.tiny_network()
    result = tiny.fit(
        network, task, tiny.tiny_feed(tiny.BINARY, 20), None, tiny.settings(steps=6), Adapt(), None,
        folder=tmp_path, seed=1, device="cpu",
    )  # fmt: skip
    assert (result.best_step, result.best_value) == (6, None)


class Poisoned(Feed):
    """A feed whose images are not finite from some batch on."""

    def __init__(self, feed, first_bad):
        super().__init__(feed.targets.numpy())
        self.feed, self.first_bad = feed, first_bad
        self.prepared = feed.prepared

    @property
    def image_shape(self):
        return self.feed.image_shape

    def batches(self, schedule, *, first_step=0):
        for step, (images, targets, *_) in enumerate(self.feed.batches(schedule), first_step):
            training = len(images) == 6 and len(self.feed.images) == 20
            bad = training and step >= self.first_bad
            yield Batch(images * float("nan") if bad else images, targets)


def test_a_diverged_training_stops_and_says_so(tiny, tmp_path):
    network, task, result = tiny.train(
        tmp_path,
        train_feed=Poisoned(tiny.tiny_feed(tiny.BINARY, 20), 9),
        changes={"batchnorm": "never"},
    )
    assert result.diverged
    assert result.divergence == "the training loss is nan (after 9 updates)"
    assert result.steps_done == 9
    assert result.best_step in (4, 8)
    scores = predict_scores(network, task, tiny.tiny_feed(tiny.BINARY, 9, seed=1))
    assert np.isfinite(scores).all()


def test_diverged_before_the_first_evaluation_keeps_the_start(tiny, tmp_path):
    network, _, result = tiny.train(
        tmp_path,
        train_feed=Poisoned(tiny.tiny_feed(tiny.BINARY, 20), 1),
        changes={"batchnorm": "never", "learning_rate": 1.0},
    )
    assert (result.diverged, result.best_step, result.best_value) == (True, 0, None)
    start = tiny.tiny_network().state_dict()
    for name, value in network.state_dict().items():
        if name != "head.bias":  # set to the prior
            torch.testing.assert_close(value, start[name], rtol=0, atol=0)


def test_an_exploding_rate_never_ends_in_nan_weights(tiny, tmp_path):
    changes = {"learning_rate": 1e30, "optimizer": "sgd", "gradient_clip_norm": None, "warmup": 0.0}
    network, _, result = tiny.train(tmp_path, changes=changes)
    assert result.diverged
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_nothing_leaks_into_the_process(tiny, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    threads = torch.get_num_threads()
    tiny.train(tmp_path / "a", changes={"precision": "bf16", "steps": 2})
    _, _, result = tiny.train(tmp_path / "b", changes={"precision": "no", "steps": 2})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert AcceleratorState._shared_state == {}
    assert PartialState._shared_state == {}
    assert result.threads == 1


def test_on_step_sees_every_update(tiny, tmp_path):
    reports = []
    tiny.train(tmp_path, on_step=reports.append)
    assert [report.step for report in reports] == list(range(1, 13))
    assert reports[2].value is None
    assert reports[3].value is not None
    assert {report.steps for report in reports} == {12}


def test_batchnorm_disagreement_is_measured_and_mended(tiny, tmp_path):
    network = tiny.tiny_network()
    for layer in network.encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.running_mean.fill_(3.0)  # as statistics of other images
    _, _, result = tiny.train(tmp_path, network=network, changes={"learning_rate": 1e-4})
    start = result.batchnorm["start"]
    assert start["done"]
    assert start["before"] > 0.5
    assert start["after"] < 0.3 * start["before"]
    assert result.batchnorm["best"]["step"] == result.best_step


@pytest.mark.parametrize("policy", ["never", "always"])
def test_batchnorm_policy(tiny, tmp_path, policy):
    _, _, result = tiny.train(tmp_path, changes={"batchnorm": policy})
    done = [row["batchnorm"]["done"] for row in result.history]
    assert done == [policy == "always"] * 3
    assert all(row["batchnorm"]["before"] > 0 for row in result.history)


def test_what_cannot_work_is_refused_before_training(tiny, tmp_path):
    binary = tiny.BINARY
    with pytest.raises(RecipeError, match="the network has 3 outputs, expected 1 for this binary"):
        tiny.train(tmp_path, network=tiny.tiny_network(3))
    with pytest.raises(RecipeError, match="balance is 'classes', expected 'none' for a multilabel"):
        tiny.train(tmp_path, target=tiny.LABELS, changes={"balance": "classes"})
    with pytest.raises(TrainingError, match="this machine has no device 'cuda:77'"):
        tiny.fit(
            tiny.tiny_network(), build_task(binary), tiny.tiny_feed(binary, 8), None,
            tiny.settings(), Adapt(), None, folder=tmp_path, seed=0, device="cuda:77",
        )  # fmt: skip
    with pytest.raises(TrainingError, match="'gpu' is no device"):
        tiny.fit(
            tiny.tiny_network(), build_task(binary), tiny.tiny_feed(binary, 8), None,
            tiny.settings(), Adapt(), None, folder=tmp_path, seed=0, device="gpu",
        )  # fmt: skip
    with pytest.raises(RecipeError, match="precision 'fp16' needs a CUDA device, found 'cpu'"):
        tiny.train(tmp_path, changes={"precision": "fp16"})
    one_class = tiny.tiny_feed(binary, 4)
    one_class.targets[:] = 1.0
    with pytest.raises(TrainingError, match=r"auroc cannot be computed on the 4 validation cases"):
        tiny.train(tmp_path, validation_feed=one_class)
    with pytest.raises(TaskError, match="all 4 training cases have the same target"):
        tiny.train(tmp_path, train_feed=one_class)


def test_a_full_device_is_a_message(tiny, tmp_path):
    class Full(Poisoned):
        def batches(self, schedule, *, first_step=0):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(TrainingError, match=r"(?s)cpu has not enough memory.*2 GiB.*batch_size"):
        tiny.train(tmp_path, train_feed=Full(tiny.tiny_feed(tiny.BINARY, 20), 0))
    assert AcceleratorState._shared_state == {}


def test_scores_do_not_depend_on_the_batch(tiny, tmp_path):
    network, task, _ = tiny.train(tmp_path, changes={"steps": 2})
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    network.train()
    scores = predict_scores(network, task, feed)
    np.testing.assert_allclose(predict_scores(network, task, feed, batch_size=1), scores, atol=1e-6)
    assert network.training


def test_optimization_names_all_faults_at_once():
    with pytest.raises(RecipeError) as caught:
        Optimization(
            steps=0, batch_size=2.5, learning_rate=float("nan"), warmup=1.5, ema_decay=1.0,
            optimizer="lion", early_stop_patience=0, weight_decay=True,
        )  # fmt: skip
    text = str(caught.value)
    assert "(8 faults)" in text
    assert "steps is 0, expected a whole number of at least 1" in text
    assert "optimizer is 'lion', expected one of ['adamw', 'adam', 'sgd']" in text
    assert "ema_decay is 1.0, expected a number from 0 to below 1" in text
