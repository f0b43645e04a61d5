"""How long runs are to train, in steps, where their recipes say it in epochs."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.files import content_key
from voxgraft.recipes import Recipe
from voxgraft.runs.cases import gather_cases
from voxgraft.training import Optimization

_SAME_ITEMS = ("metric", "augmentation", "start", "optimization", "seed", "score_splits")
"""What of a recipe has nothing to do with the items that it trains on."""


def planned_optimizations(recipes: Sequence[Recipe]) -> list[Optimization]:
    """Return each recipe's optimization with its steps counted, as its training will count them.

    Tables are read, and volumes prepared that are not stored yet, only where a recipe has epochs;
    once for recipes of the same training items.

    Args:
        recipes: Recipes.

    Raises:
        VoxgraftError: If the data of a recipe are at fault.
    """
    items: dict[str, int] = {}
    planned = []
    for recipe in recipes:
        optimization = recipe.own_optimization
        if optimization.epochs is not None or optimization.eval_every_epochs is not None:
            key = _items_key(recipe)
            if key not in items:
                items[key] = len(gather_cases(recipe).train.feed.targets)
            optimization = optimization.resolved(items[key])
        planned.append(optimization)
    return planned


def _items_key(recipe: Recipe) -> str:
    plain = recipe.to_dict()
    for name in _SAME_ITEMS:
        del plain[name]
    for name in ("name", "options", "batch_size"):
        del plain["model"][name]
    return content_key(plain)
