"""Memory that is used again: nothing stands on another's, and no more is kept than was used."""

from __future__ import annotations

import mmap
import random

import pytest
import torch

from voxgraft.sliding.window_memory import TensorPool

CPU = torch.device("cpu")
MEBIBYTE = 2**20


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_keep_their_values_and_idle_memory_stays_within_the_peak(seed, dtype):
    chosen = random.Random(seed)
    pool = TensorPool(CPU, dtype, 12 * MEBIBYTE)
    live: dict[int, torch.Tensor] = {}
    held = most = 0
    for number in range(150):
        if live and (held > 10 * MEBIBYTE or chosen.random() < 0.4):
            gone = chosen.choice(list(live))
            tensor = live.pop(gone)
            assert (tensor == gone).all()
            held -= tensor.nbytes
            pool.give_up(tensor)
        else:
            shape = [chosen.randint(1, 60) for _ in range(3)]
            tensor = pool.take(shape)
            assert tensor.shape == tuple(shape)
            assert tensor.dtype == dtype
            live[number] = tensor.fill_(number)
            held += tensor.nbytes
            most = max(most, held)
        # Whole pages, where something begins and ends.
        assert pool.kept_bytes <= most + 2**21 * (len(live) + 2)
    assert all((tensor == number).all() for number, tensor in live.items())


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no large pages to ask for")
def test_a_smaller_tensor_stands_where_a_larger_one_was():
    pool = TensorPool(CPU, torch.float32, 8 * MEBIBYTE)
    first = pool.take((MEBIBYTE,))
    address, kept = first.data_ptr(), pool.kept_bytes
    pool.give_up(first)
    second, third = pool.take((3, 100_000)), pool.take((5, 100_000))
    assert second.data_ptr() == address
    assert address < third.data_ptr() < address + 4 * MEBIBYTE
    assert pool.kept_bytes == kept


def test_more_than_expected_is_made_all_the_same():
    pool = TensorPool(CPU, torch.float32, 4 * MEBIBYTE)
    found = [pool.take((MEBIBYTE,)).fill_(number) for number in range(8)]
    assert all((tensor == number).all() for number, tensor in enumerate(found))
    small = pool.take((3,)).fill_(1)
    for tensor in [*found, small]:
        pool.give_up(tensor)
    assert pool.take((0, 4)).numel() == 0
