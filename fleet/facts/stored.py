"""What lies on a host's disks: room, and models. None means "could not be read"."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Space:
    """Room below a directory; `path` may not exist yet, then its nearest parent was measured."""

    path: str
    exists: bool
    free_bytes: int
    total_bytes: int
    free_inodes: int | None
    device: int | None  # st_dev: directories with the same one share their room


@dataclass(frozen=True)
class Model:
    """A model below models_dir. What config.json tells is None without one.

    `weights_bytes` is what lies there in the format that vLLM would load, `index_bytes` what the index of that format
    says that the tensors take. `missing` names the files that the index or the numbers in the names promise; it is None
    where the files could not be listed, so nobody knows.
    """

    name: str
    weights: bool
    attention_heads: int | None = None
    kv_heads: int | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    max_positions: int | None = None
    dtype: str | None = None  # float32, bfloat16, …: of the weights as they are stored
    weights_bytes: int | None = None
    index_bytes: int | None = None
    missing: tuple[str, ...] | None = None
