"""The models that the services ask for: there, whole, and of a size that fits the GPUs and the disk."""

from collections.abc import Callable, Iterator

from fleet.facts.model import Facts, Model
from fleet.preflight.checks.words import no_gpus, size, some
from fleet.preflight.needs import Needs, ServiceNeeds
from fleet.preflight.registry import Blind, Result, checks

MOUNT = "/app/models/"
CACHE_LEAST = 0.1  # of vLLM's share of the memory, for the KV cache and activations beside the weights


@checks("models_dir")
def models_dir(facts: Facts, needs: Needs) -> Result:
    if not _expected(needs):
        return None
    space = facts.space.get("models")
    if space is None:
        return Blind(f"whether {needs.models_dir} exists")
    return None if space.exists else f"there is no {needs.models_dir}"


@checks("model_present")
def model_present(facts: Facts, needs: Needs) -> Result:
    if not _expected(needs):
        return None
    if facts.models is None:
        return Blind(f"the models in {needs.models_dir}")
    there = ", ".join(sorted(model.name for model in facts.models if model.weights)) or "none"
    missing = []
    for service in _expected(needs):
        model = _model(facts, service)
        if model is None:
            missing.append(f"{service.name} wants {service.model}")
        elif not model.weights:
            takes = f", which take {size(model.index_bytes)}" if model.index_bytes else ""
            missing.append(f"{service.name} wants {service.model}, of which the weights are missing{takes}")
    if not missing:
        return None
    space = facts.space.get("models")
    free = f" and {size(space.free_bytes)} free" if space else ""
    return f"{some(missing)}; {needs.models_dir} has: {there}{free}"


@checks("model_complete")
def model_complete(facts: Facts, needs: Needs) -> Result:
    lacking = []
    for model in _served(facts, needs):
        if model.missing is None:
            return Blind(f"the files of {model.name}")
        if model.missing:
            lacking.append(f"{model.name} lacks {len(model.missing)} of its weight files: {some(model.missing, 3)}")
    return some(lacking) or None


@checks("model_sizes")
def model_sizes(facts: Facts, needs: Needs) -> Result:
    short = []
    for model in _served(facts, needs):
        if model.weights_bytes is None:
            return Blind(f"the size of {model.name}")
        if not model.missing and (model.weights_bytes == 0 or model.weights_bytes < (model.index_bytes or 0)):
            promised = f", its index tells {size(model.index_bytes)}" if model.index_bytes else ""
            short.append(f"the weights of {model.name} are {size(model.weights_bytes)}{promised}")
    return some(short) or None


@checks("space_models")
def space_models(facts: Facts, needs: Needs) -> Result:
    """Asked only of models whose index tells what is still to come."""
    wanted = {model.name: model for service in _expected(needs) if (model := _model(facts, service)) is not None}
    waited = [model for model in wanted.values() if model.missing or not model.weights]
    count = sum(max((model.index_bytes or 0) - (model.weights_bytes or 0), 0) for model in waited)
    if not count:
        return None
    space = facts.space.get("models")
    if space is None:
        return Blind(f"the free space below {needs.models_dir}")
    if space.free_bytes >= count:
        return None
    names = ", ".join(model.name for model in waited)
    return f"{space.path}: {size(space.free_bytes)} free, {names} needs {size(count)} more"


@checks("model_vram")
def model_vram(facts: Facts, needs: Needs) -> Result:
    return _fit(facts, needs, lambda weights, room: weights > room)


@checks("model_vram_tight")
def model_vram_tight(facts: Facts, needs: Needs) -> Result:
    result = _fit(facts, needs, lambda weights, room: room * (1 - CACHE_LEAST) < weights <= room)
    return None if isinstance(result, Blind) else result  # model_vram says what could not be read


class _Budget:
    """What one replica's weights take, and what vLLM may use of its GPUs. Bytes."""

    def __init__(self, facts: Facts, needs: Needs, service: ServiceNeeds, model: Model) -> None:
        self.gpus = _gpus_of(facts, needs, service, model)
        smallest = min(gpu.vram_bytes or 0 for gpu in facts.gpus)
        self.room = int(smallest * self.gpus * service.memory_share)
        # vLLM's dtype `auto` loads float32 as a 16-bit type.
        self.weights = (model.weights_bytes or 0) // (2 if model.dtype == "float32" else 1)
        self.smallest = smallest


def _fit(facts: Facts, needs: Needs, wrong: Callable[[int, int], bool]) -> Result:
    found = []
    for service in _expected(needs):
        model = _model(facts, service)
        if model is None or not model.weights or model.missing or service.resized:
            continue
        if not facts.gpus:
            return Blind(no_gpus(facts))
        if model.weights_bytes is None:
            return Blind(f"the size of {model.name}")
        if any(not gpu.vram_bytes for gpu in facts.gpus):
            return Blind("the memory size of some GPUs")
        budget = _Budget(facts, needs, service, model)
        if budget.gpus and wrong(budget.weights, budget.room):
            found.append(
                f"{service.name}: the weights of {model.name} take {size(budget.weights)}; a replica has "
                f"{budget.gpus} x {size(budget.smallest)}, of which vLLM may use {service.memory_share:g}: "
                f"{size(budget.room)}"
            )
    return some(found) or None


def _gpus_of(facts: Facts, needs: Needs, service: ServiceNeeds, model: Model) -> int:
    """Over how many GPUs one copy of the weights is spread; 0 where there are too few to start at all."""
    fixed = sum(other.gpus * other.replicas for other in needs.services)
    sharing = sum(other.replicas for other in needs.services if not other.gpus)
    own = service.gpus or max(len(facts.gpus) - fixed, 0) // max(sharing, 1)
    room = own // (service.pipeline_parallel * service.data_parallel)
    size = service.tensor_parallel
    if not size and room:
        heads = model.attention_heads
        divides = (n for n in range(room, 0, -1) if heads and heads % n == 0)
        size = next(divides, 1 << (room.bit_length() - 1))
    # Experts are spread over the data-parallel copies as well, so all of these GPUs count.
    return min(size, room) * service.pipeline_parallel * service.data_parallel


def _expected(needs: Needs) -> tuple[ServiceNeeds, ...]:
    """Services whose model has to be there already: what this run brings is looked at again when it is there."""
    return tuple(service for service in needs.services if _name(service) not in needs.coming)


def _name(service: ServiceNeeds) -> str:
    return service.model.removeprefix(MOUNT).strip("/")


def _model(facts: Facts, service: ServiceNeeds) -> Model | None:
    name = _name(service)
    return next((model for model in facts.models or () if model.name == name), None)


def _served(facts: Facts, needs: Needs) -> Iterator[Model]:
    """Every model that a service asks for and that has weights, once."""
    models = {model.name: model for service in _expected(needs) if (model := _model(facts, service)) is not None}
    yield from (model for model in models.values() if model.weights)
