"""The POSIX sh that works in a relay's directory and in certs.d. Each is run as `sh -c SCRIPT sh ARGUMENT…`."""

from fleet.delivery.scripts import SAFE

# $1 the staging directory. Tells the blobs of the relay's store, whose CA files are in certs.d, and whether there are
# files that a relay runs with. Changes nothing.
GROUND = r"""
exec 2>/dev/null </dev/null
for file in /etc/docker/certs.d/*/ca.crt; do
  [ -f "$file" ] || continue
  found=$(sha256sum < "$file") registry=${file%/ca.crt}
  echo "fleet-staging trust ${found%% *} ${registry##*/}"
done
[ -n "$1" ] || exit 0
[ -d "$1/relay/run" ] && echo "fleet-staging run"
cd -- "$1/relay/store/docker/registry/v2/blobs/sha256" || exit 0
for file in */*/data; do
  [ -f "$file" ] || continue
  hex=${file%/data}
  echo "fleet-staging stored $(stat -c %s "$file") ${hex##*/}"
done
exit 0
"""

# $1 staging directory. Standard input: a tar of what the relay runs with.
PREPARE = (
    SAFE
    + r"""
umask 077
mkdir -p -- "$1" && safe "$1" && [ ! -h "$1/relay" ] || exit 67
mkdir -p -- "$1/relay/store" && safe "$1/relay" || exit 67
rm -rf -- "$1/relay/run" && mkdir -- "$1/relay/run" && tar -x -f - -C "$1/relay/run"
"""
)

# $1 staging directory, $2 repository, $3 manifest (hex), "" where the blobs are no image's. Standard input: the blobs (hex), the
# manifest among them. Every blob that is not in the store yet is checked and linked into it; a wrong one becomes a part again.
# Dots tell that it is at work.
LINK = (
    SAFE
    + r"""
umask 077
LC_ALL=C; export LC_ALL
safe "$1" && safe "$1/relay" || exit 67
work=$1/sideload/blobs top=$1/relay/store/docker/registry/v2
place=$top/repositories/$2 manifest=$3
blobs=$(cat)
wrong=
for hex in $blobs; do
  echo .
  pair=$(printf %.2s "$hex")
  home=$top/blobs/sha256/$pair/$hex
  [ ! -f "$home/data" ] || continue
  found=$(sha256sum < "$work/$hex") || exit 1
  if [ "${found%% *}" != "$hex" ]; then
    mv -f -- "$work/$hex" "$work/$hex.part"
    wrong=1
    continue
  fi
  sync -d -- "$work/$hex" 2>/dev/null || sync
  mkdir -p -- "$home" && ln -f -- "$work/$hex" "$home/data" || exit 1
done
[ -z "$wrong" ] || exit 66
link() { mkdir -p -- "$1" && printf 'sha256:%s' "$2" > "$1/link.new" && mv -f -- "$1/link.new" "$1/link" || exit 1; }
for hex in $blobs; do link "$place/_layers/sha256/$hex" "$hex"; done
[ -z "$manifest" ] || link "$place/_manifests/revisions/sha256/$manifest" "$manifest"
"""
)

# $1 staging directory, "" where there is none
STOP = (
    SAFE
    + r"""
[ -n "$1" ] || exit 0
safe "$1" && safe "$1/relay" || exit 0
rm -rf -- "$1/relay/run"
"""
)

# $1 registry, $2 sha256 of the CA file that may go
DISTRUST = r"""
exec 2>/dev/null
cd -- "/etc/docker/certs.d/$1" || exit 0
found=$(sha256sum < ca.crt)
[ "${found%% *}" != "$2" ] || rm -f -- ca.crt
cd .. && rmdir -- "$1"
exit 0
"""
