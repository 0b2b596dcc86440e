"""A Task from a skorch net and its data.

Every run trains a fresh module of the net, as `fit` does, with its criterion, optimizer, split and
iterators. All of it is asked of clones of the net; the net itself is not touched.
"""

from collections.abc import Mapping
from typing import Any, cast

from sklearn import base
from torch import nn
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lengths import batches_of
from lrfinder.tasks.adapters.optimizers import peak_lrs, with_lr
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.baseline import Baseline, of_scheduler
from lrfinder.tasks.fields.task_checks import fitting_name
from lrfinder.tasks.fields.whole_measures import Evaluate
from lrfinder.tasks.state.random_states import kept
from lrfinder.tasks.user_code import user_code

_SHAPES_THE_UPDATE = ("train_step", "train_step_single", "run_single_epoch", "fit_loop")


def fields_of(
    net: Any,  # noqa: ANN401 (a skorch NeuralNet)
    X: Any,  # noqa: ANN401 (whatever `fit` takes)
    y: Any,  # noqa: ANN401
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of a Task; `fields` are those that the caller gives, which are left out.

    Raises InvalidArgument where the net cannot be used.
    """
    _check(net)
    with kept():
        pristine = _fresh(net)
        with user_code("initializing the net"):
            judge = _fresh(net).initialize()
        _check_criterion(judge)
        with user_code("splitting the data"):
            judge.check_data(X, y)
            train, valid = judge.get_split_datasets(X, y)
            train_loader = judge.get_iterator(train, training=True)
            valid_loader = None if valid is None else judge.get_iterator(valid, training=False)
        batches_of(train_loader, "iterator_train", "give it data with a length")
        clip_norm, scorings = _clip_norm(net), _scorings(net)
        for scoring in scorings:
            scoring.on_train_begin(judge, X, y)
        own = {"baseline": _baseline(net, judge.optimizer_)} if "baseline" not in fields else {}

    def make_model() -> nn.Module:
        return _cloned(pristine).initialize().module_

    def make_optimizer(model: nn.Module, lr: float) -> Optimizer:
        args, options = judge.get_params_for_optimizer("optimizer", model.named_parameters())
        return with_lr(judge.optimizer(*args, **options), lr)

    def loss(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 (checked where it is used)
        one = _with_module(judge, model)
        x, target = batch
        return one.get_loss(one.infer(x), target, X=x, training=model.training)

    return {
        "model": make_model,
        "optimizer": make_optimizer,
        "loss": loss,
        "train": train_loader,
        "valid": valid_loader,
        "epochs": net.max_epochs,
        "clip_norm": clip_norm,
        "evaluate": None if valid is None else _evaluate_by(judge, scorings, valid),
        "code_for": "skorch",
        "name": fitting_name(type(judge.module_).__name__),
        **own,
    }


def _check(net: Any) -> None:  # noqa: ANN401 (whatever was given)
    """Refuse what is no net, or one that makes its updates itself or trains several modules."""
    needed = ("get_split_datasets", "get_iterator", "infer", "get_loss", "max_epochs")
    if isinstance(net, type) or not all(hasattr(net, name) for name in needed):
        name = net.__name__ if isinstance(net, type) else type(net).__name__
        inside = hasattr(net, "estimator") or hasattr(net, "steps")  # a search, or a pipeline
        cure = "; give the net inside of it, and X as the net gets it" if inside else ""
        raise InvalidArgument(f"net must be a skorch NeuralNet, but got {name}{cure}")
    for name in _SHAPES_THE_UPDATE:
        owner = next(kind for kind in type(net).__mro__ if name in vars(kind))
        if not owner.__module__.startswith("skorch."):
            raise InvalidArgument(
                f"the net must leave {name} as it is, but it has one of its own, which would not "
                "be called; overwrite get_loss instead"
            )


def _check_criterion(judge: Any) -> None:  # noqa: ANN401 (an initialized net)
    """Refuse further modules, and a criterion with parameters: one module is trained."""
    named = [*judge._modules, *judge._optimizers]
    if named != ["module", "optimizer"]:
        raise InvalidArgument(
            f"the net must have one module and one optimizer, but got {', '.join(named)}; "
            "put what is trained into one module"
        )
    criterion = judge.criterion_
    if isinstance(criterion, nn.Module) and any(True for _ in criterion.parameters()):
        raise InvalidArgument(
            "the criterion must have no parameters to train, but it has; put them into the module"
        )


def _cloned(estimator: Any) -> Any:  # noqa: ANN401 (a net or a callback)
    """One with the same parameters that has seen nothing."""
    return base.clone(estimator)


def _fresh(net: Any) -> Any:  # noqa: ANN401
    """An uninitialized clone of the net, without the callbacks that report and save."""
    return _cloned(net).set_params(callbacks="disable", verbose=0, warm_start=False)


def _with_module(judge: Any, model: nn.Module) -> Any:  # noqa: ANN401
    """The net around another module, in the mode of that one; skorch's own copies would pickle."""
    one: Any = object.__new__(type(judge))
    vars(one).update(vars(judge), module_=model)
    if isinstance(one.criterion_, nn.Module) and one.criterion_.training != model.training:
        one.criterion_.train(model.training)
    return one


def _callbacks(net: Any, kind: str) -> list[Any]:  # noqa: ANN401
    """The net's callbacks of a class of skorch's, by its name."""
    given = net.callbacks if isinstance(net.callbacks, list) else []
    parts = [part[1] if isinstance(part, tuple) else part for part in cast("list[Any]", given)]
    made = [part() if isinstance(part, type) else part for part in parts]
    return [one for one in made if any(own.__name__ == kind for own in type(one).__mro__)]


def _scorings(net: Any) -> list[Any]:  # noqa: ANN401
    """The net's callbacks EpochScoring on validation data, its own and the default ones."""
    default = [part for _, part in net.get_default_callbacks()]
    own = [*default, *_callbacks(net, "Callback")]
    kinds = [one for one in own if type(one).__name__ == "EpochScoring" and not one.on_train]
    return [_cloned(one).initialize() for one in kinds]


def _evaluate_by(judge: Any, scorings: list[Any], valid: Any) -> Evaluate | None:  # noqa: ANN401
    """Their scores on the validation data, by name."""
    if not scorings:
        return None

    def evaluate(model: nn.Module) -> dict[str, float]:
        one = _with_module(judge, model)
        scores: dict[str, float] = {}
        for scoring in scorings:
            X, y, _ = scoring.get_test_data(None, valid, use_caching=False)
            scores[fitting_name(scoring.name_)] = float(scoring._scoring(one, X, y))
        return scores

    return evaluate


def _clip_norm(net: Any) -> float | None:  # noqa: ANN401
    """What a callback GradientNormClipping clips to."""
    for one in _callbacks(net, "GradientNormClipping"):
        if one.gradient_clip_value is not None and one.gradient_clip_norm_type != 2:
            raise InvalidArgument(
                "GradientNormClipping must use the norm of type 2, but got "
                f"{one.gradient_clip_norm_type!r}; use 2"
            )
        return one.gradient_clip_value
    return None


def _baseline(net: Any, optimizer: Optimizer) -> Baseline | None:  # noqa: ANN401
    """The net's lr, and the scheduler of its callback LRScheduler, if it has one."""
    top = max(peak_lrs(optimizer))
    if top <= 0:
        return None
    schedulers = _callbacks(net, "LRScheduler")
    if not schedulers:
        return Baseline(top)
    one = _cloned(schedulers[0])
    policy, options = one.initialize().policy_, one.kwargs

    def build(optimizer: Optimizer) -> Any:  # noqa: ANN401 (an LRScheduler)
        return policy(optimizer, **options)

    return of_scheduler(top, build, "batch" if one.step_every == "batch" else "epoch")
