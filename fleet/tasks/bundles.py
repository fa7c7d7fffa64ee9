"""`bundle.*`: what crosses an air gap."""

from invoke.collection import Collection

from fleet.cli import CONNECT, HOSTS, verb
from fleet.options import Options
from fleet.tasks.shared import ALLOWED, STORE, UNSIGNED


@verb(
    *HOSTS, "accept_new", "json", "verbose",
    example="invoke bundle.create -i site -o /media/disk/bundle --sign-key ~/.ssh/release --volume-size 32G",
    name="create",
    output="The directory to write; what an earlier try left there is gone on with.",
    models="Also the services' models, from this directory: NAME/ in it, or Hugging Face's cache.",
    since="A file of `bundle.have`: leave out what the site holds.",
    volume_size="Split into volumes of at most this size: 700M, 32G.",
    sign_key="Private key, or public key whose other half an agent holds, to sign with.",
    python="The site's Python, for which wheels are carried (default 3.11; with --since the tool travels only if this is given).",
    without_tool="Do not carry the tool itself.",
    debs="Carry the Debian packages that the controller needs, too, of this machine's Debian.",
)  # fmt: skip
def bundle_create(
    options: Options,
    output: str = "",
    models: str = "",
    since: str = "",
    volume_size: str = "",
    sign_key: str = "",
    python: str = "",
    without_tool: bool = False,
    debs: bool = False,
) -> int:
    """Write a directory that carries the selected hosts' releases, their inventory and the tool across an air gap."""
    from fleet.verbs.bundle import Wishes, create_bundle

    python = python or ("" if since else "3.11")
    wishes = Wishes(output, "" if without_tool else python, models, since, volume_size, sign_key, debs)
    return create_bundle(options, wishes)


@verb(
    *HOSTS, "json",
    example="invoke bundle.verify /media/disk/bundle -i site --allowed-signers signers",
    name="verify",
    folder="The bundle.",
    store="Complete a delta from this blob store.",
    have="Complete a delta from what the nodes hold by this fresh file of `bundle.have`.",
    allowed_signers=ALLOWED,
    unsigned=UNSIGNED,
    layers="Look into the layers of a signed bundle too: what they unpack to, and where. It takes longer.",
)  # fmt: skip
def bundle_verify(
    options: Options,
    folder: str,
    store: str = "",
    have: str = "",
    allowed_signers: str = "",
    unsigned: bool = False,
    layers: bool = False,
) -> int:
    """Check signature, checksums and completeness; with an inventory, say whether that site could be deployed from it."""
    from fleet.verbs.bundle import verify_bundle
    from fleet.verbs.cargo import Trust

    return verify_bundle(options, folder, store, have, Trust(allowed_signers, unsigned), layers=layers)


@verb(
    "json",
    example="invoke bundle.load /media/disk/bundle --allowed-signers signers",
    name="load",
    folder="The bundle.",
    store=STORE,
    allowed_signers=ALLOWED,
    unsigned=UNSIGNED,
)
def bundle_load(
    options: Options, folder: str, store: str = "", allowed_signers: str = "", unsigned: bool = False
) -> int:
    """Check a bundle and put its releases into the site's store, where deploys find them."""
    from fleet.verbs.bundle import load_bundle
    from fleet.verbs.cargo import Trust

    return load_bundle(options, folder, store, Trust(allowed_signers, unsigned))


@verb("json", example="invoke bundle.list /media/disk/bundle", name="list", folder="The bundle.")
def bundle_list(options: Options, folder: str) -> int:
    """Show what a bundle says of itself, checking nothing."""
    from fleet.verbs.bundle import list_bundle

    return list_bundle(options, folder)


@verb("json", example="invoke bundle.diff old new", name="diff", before="A bundle.", after="Another one.")
def bundle_diff(options: Options, before: str, after: str) -> int:
    """Show which files a bundle has more, less or otherwise than another."""
    from fleet.verbs.bundle import diff_bundles

    return diff_bundles(options, before, after)


@verb(
    *CONNECT,
    example="invoke bundle.have -i site -o have.json",
    name="have",
    output="The file to write, for `bundle.create --since`.",
    store=STORE,
)
def bundle_have(options: Options, output: str = "", store: str = "") -> int:
    """Write down what the site's store and nodes hold, so that the next bundle carries only what is new."""
    from fleet.verbs.bundle import have_file

    return have_file(options, output, store)


namespace = Collection("bundle", bundle_create, bundle_verify, bundle_load, bundle_list, bundle_diff, bundle_have)
