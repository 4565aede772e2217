import torch

from speechmlp.data.sampler import Sampler


def test_the_order_depends_only_on_the_generator() -> None:
    sampler = Sampler(torch.arange(26).repeat(4), [104], [], balance=0.0)

    def order(seed: int) -> list[int]:
        return sampler.order(torch.Generator().manual_seed(seed)).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(104))


def test_balance_draws_rare_letters_as_often_as_frequent_ones() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    even = Sampler(labels, [1000], [], balance=1.0).order(torch.Generator().manual_seed(0))
    half = Sampler(labels, [1000], [], balance=0.5).order(torch.Generator().manual_seed(0))
    assert len(even) == 1000
    assert abs(int((even >= 900).sum()) - 500) < 60
    assert abs(int((half >= 900).sum()) - 250) < 50


def test_additional_corpora_are_drawn_by_weight() -> None:
    labels = torch.arange(26).repeat(8)
    sampler = Sampler(labels, [104, 104], [0.25], balance=0.0)
    order = sampler.order(torch.Generator().manual_seed(0))
    assert len(order) == sampler.count == 130
    assert sorted(order[order < 104].tolist()) == list(range(104))
    assert len(set(order[order >= 104].tolist())) == 26
    many = Sampler(labels, [104, 104], [2.5], balance=0.0).order(torch.Generator().manual_seed(0))
    assert int((many >= 104).sum()) == 260
