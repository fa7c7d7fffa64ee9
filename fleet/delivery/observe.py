"""Reading which images a host holds, through its Docker API. Changes nothing."""

from collections.abc import Collection

import docker
import requests
from docker.errors import DockerException, NotFound

from fleet.delivery.holdings import HeldImage, Holdings
from fleet.errors import HostError


def observe(
    client: docker.DockerClient, host: str, names: Collection[str], digests: Collection[str], *, containerd_store: bool
) -> Holdings:
    """The images that matter to us: those under one of our image `names`, and those with one of `digests` as ID.

    Only these are inspected, because an inspection is a request of its own and a host may hold hundreds of images.
    """
    found = []
    try:
        for listed in client.api.images():
            tags = [*(listed.get("RepoTags") or ()), *(listed.get("RepoDigests") or ())]
            if listed["Id"] in digests or any(_ours(tag, names) for tag in tags):
                try:
                    found.append(HeldImage.from_inspect(client.images.get(listed["Id"]).attrs))
                except NotFound:
                    continue  # removed while we looked
    except (DockerException, requests.RequestException, OSError) as error:
        raise HostError(host, f"the images could not be read: {error}") from error
    return Holdings(tuple(found), containerd_store)


def _ours(reference: str, names: Collection[str]) -> bool:
    """`vllm-rocm:r1` and `registry.corp:5000/vllm-rocm@sha256:…` are both images called vllm-rocm."""
    repository = reference.partition("@")[0]
    repository = repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository
    return repository in names or repository.rpartition("/")[2] in names
