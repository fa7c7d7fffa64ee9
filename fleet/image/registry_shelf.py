"""What more of the OCI distribution API a prune needs: the tags of a repository, and deleting."""

from fleet.image.registry_api import RegistryClient, object_of, scope_of


class ShelfClient(RegistryClient):
    """One registry, to be tidied up."""

    def tags(self, name: str) -> tuple[str, ...]:
        """Every tag of a repository; none where there is no such repository."""
        found: list[str] = []
        path = f"{name}/tags/list?n=1000"
        while path:
            answer = self._request("GET", path, scope_of(name, "pull"))
            if answer is None:
                break
            found += map(str, object_of(answer.content, f"the tags of {name}").get("tags") or ())
            path = answer.links.get("next", {}).get("url", "")
        return tuple(dict.fromkeys(found))

    def delete(self, name: str, digest: str) -> bool:
        """Delete a manifest by its digest, and with it every tag that names it; False when it is not there.

        Raises UnsupportedError where the registry deletes nothing.
        """
        path = f"{name}/manifests/{digest}"
        return self._request("DELETE", path, scope_of(name, "pull,push,delete")) is not None
