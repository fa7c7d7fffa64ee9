"""`models.*`: directories of weights and the hosts that serve them."""

from invoke.collection import Collection

from fleet.cli import CHANGE, CONNECT, verb
from fleet.options import Options, duration
from fleet.tasks.shared import ROLL

SOURCE = "A directory here that holds it, as NAME/ or as Hugging Face's cache."


@verb(
    *CHANGE,
    example="invoke models.push Llama-3.1-70B-Instruct -i prod --limit mi300x --source /data/models --check",
    name="push",
    model="The model's name below models_dir: NAME or ORG/NAME.",
    source=f"{SOURCE} host:/DIR is a directory on each host. Default: models",
    revision="A branch, a tag or a commit: of --hf, or of Hugging Face's cache in --source.",
    hf="A repository of Hugging Face, ORG/NAME, from which each host gets it by curl.",
    token_file="A file on the hosts that holds a token for --hf.",  # noqa: S106  its help text
    endpoint="A mirror to take the place of https://huggingface.co",
    update="Resolve the revision of --hf anew, and move the lock.",
    rehash="Believe no list of checksums on the hosts: read every file there again.",
    wait="How long to wait for a service that is starting from the model; without it, such a host is not switched.",
    shared=ROLL,
)
def models_push(
    options: Options,
    model: str,
    source: str = "",
    revision: str = "",
    hf: str = "",
    token_file: str = "",
    endpoint: str = "",
    update: bool = False,
    rehash: bool = False,
    wait: str = "",
    lock_wait: str = "",
    include_quarantined: bool = False,
) -> int:
    """Bring a model to the selected hosts, only files that differ, and switch it as a whole."""
    from fleet.verbs.models import From, push

    return push(
        options,
        model,
        From(source, revision, hf, token_file, endpoint, update),
        rehash=rehash,
        wait=duration(wait, "--wait"),
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
    )


@verb(*CONNECT, example="invoke models.list -i prod --limit mi300x", name="list")
def models_list(options: Options) -> int:
    """Show the models on each host: version, files, size, whether their checksums are listed, and who serves them."""
    from fleet.verbs.models import show_models

    return show_models(options)


@verb(
    *CONNECT,
    example="invoke models.verify -i prod --model Llama-3.1-70B-Instruct",
    name="verify",
    model="Only this model.",
    source="Compare with this directory here instead of the lists on the hosts: NAME/ or Hugging Face's cache in it.",
)
def models_verify(options: Options, model: str = "", source: str = "") -> int:
    """Read every file of the hosts' models and compare it with the list beside them. Changes nothing."""
    from fleet.verbs.models import verify_models

    return verify_models(options, model, source)


namespace = Collection("models", models_push, models_list, models_verify)
