"""The POSIX sh by which a host brings a model's files itself, from a disk. Each is run as `sh -c SCRIPT sh ARGUMENT…`.

What comes goes into a blob's part, and the blob gets its name when it has its size; CHECK looks at its checksum.
"""

from fleet.delivery.curl_scripts import TICK

MARK = "fleet-models"
LOST = 68  # exit code

# $1 blob's path, $2 the file it is a copy of, $3 blocks of 64 KiB that are there already, $4 its size. Tells how far it is.
# Where the file system can, both share their bytes. The blob gets the file's time: by it and the size the two are known again.
COPY = (
    TICK
    + r"""
umask 077
part=$1.part
[ "$3" -gt 0 ] || rm -f -- "$part"
dd if=/dev/null of="$part" bs=65536 seek="$3" 2>/dev/null || exit 1
echo $$ > "$part.pid"
tick "$part" $$ "" 2>/dev/null </dev/null &
ticker=$!
trap 'kill "$ticker" 2>/dev/null; rm -f -- "$part.pid"' EXIT
trap 'exit 1' HUP INT TERM
if [ "$3" -gt 0 ] || ! cp --reflink=always -- "$2" "$part" 2>/dev/null; then
  said=$(dd if="$2" of="$part" bs=65536 skip="$3" seek="$3" conv=notrunc 2>&1) ||
    { printf '%s\n' "$said" | grep -v records >&2; exit 1; }
fi
[ "$(stat -c %s "$part")" -eq "$4" ] || exit 68
touch -r "$2" -- "$part" && mv -f -- "$part" "$1"
"""
)

# $1 a directory of blobs, then blobs (hex): what came of them is forgotten.
FORGET = r"""
cd -- "$1" || exit 0
shift
for hex; do rm -f -- "$hex.part"; done
"""

# $1 a directory, $2 a model's name, $3 how Hugging Face's cache calls it, as a pattern, $4 the last part of the name. Tells
# where below the directory the model lies: as it is called, or in a cache with these snapshots and refs.
FIND = r"""
exec 2>/dev/null </dev/null
say() { printf 'fleet-models %s\n' "$*"; }
cd -- "$1" || exit 0
say there
[ ! -d "$2" ] || { say root "$2"; exit 0; }
for cache in . hub; do
  for repository in "$cache"/$3; do
    [ -d "$repository/snapshots" ] || continue
    say repository "$repository"
    for one in "$repository"/snapshots/*; do [ ! -d "$one" ] || say snapshot "${one##*/}"; done
    for ref in "$repository"/refs/* "$repository"/refs/*/*; do
      [ ! -f "$ref" ] || say ref "$(cat "$ref") ${ref#"$repository"/refs/}"
    done
  done
done
case $1 in */"$4") [ ! -f config.json ] || say root . ;; esac
exit 0
"""

# $1 and $2 directories. Standard input: paths. Tells `named BLOB PATH` of links in the first (in Hugging Face's cache a large
# file's blob is called by its SHA-256), and `same PATH` of files that have the same size and time in both.
SAME = r"""
exec 2>/dev/null
while IFS= read -r path; do
  if [ -h "$1/$path" ]; then
    blob=$(readlink "$1/$path")
    printf 'named %s %s\n' "${blob##*/}" "$path"
  fi
  said=$(stat -L -c '%s %y' "$1/$path") && [ "$said" = "$(stat -L -c '%s %y' "$2/$path")" ] && printf 'same %s\n' "$path"
done
exit 0
"""
