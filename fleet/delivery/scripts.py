"""The POSIX sh that works in a host's staging directory. Each is run as `sh -c SCRIPT sh ARGUMENT…`.

Only names that this tool gives are ever removed, and only in a directory that is ours and that nobody else may write.
"""

MARK = "fleet-staging"
SHORT, WRONG, NO_PLACE = 65, 66, 67  # exit codes

# Is $1 a directory that nobody but us and root can have exchanged or written?
SAFE = r"""
me=$(id -u)
safe() {
  [ -d "$1" ] && [ ! -h "$1" ] || return 1
  set -- $(ls -ldn -- "$1")
  case $1 in d????w*|d???????w*) return 1 ;; esac
  [ "$3" = "$me" ] || [ "$3" = 0 ]
}
"""

# $1 the directory that is set. Tells which one may be used, the room there, and what lies in it. Changes nothing.
# A user who is not root may find the directory made by a colleague: then one beside it, on the same disk, under the
# user's number, else one in /var/tmp.
LOOK = (
    SAFE
    + r"""
exec 2>/dev/null </dev/null
LC_ALL=C; export LC_ALL
place=
for one in "$1" "${1%/}-$me" "/var/tmp/fleet-$me"; do
  if [ -e "$one" ] || [ -h "$one" ]; then
    safe "$one" && [ -w "$one" ] || continue
    if [ -e "$one/sideload" ]; then safe "$one/sideload" && [ -w "$one/sideload" ] || continue; fi
    place=$one near=$one
    break
  fi
  near=$one
  while [ ! -d "$near" ]; do near=${near%/*}; near=${near:-/}; done
  if [ -w "$near" ]; then place=$one; break; fi
done
[ -n "$place" ] || exit 0
echo "fleet-staging place $place"
df -Pk -- "$near" | { read -r head; read -r device total used free rest; echo "fleet-staging free $free"; }
echo "fleet-staging now $(date +%s)"
cd -- "$place/sideload" || exit 0
for file in blobs/*; do
  [ -f "$file" ] && echo "fleet-staging blob $(stat -c %s "$file") ${file#blobs/}"
done
for image in images/*; do
  [ -f "$image/needs" ] || continue
  echo "fleet-staging image ${image#images/} $(stat -c %Y "$image/name") $(head -n 1 "$image/name")"
  sed "s|^|fleet-staging need ${image#images/} |" "$image/needs"
done
exit 0
"""
)

# Removes images whose last try is more than $2 minutes ago, then blobs that no image needs, then empty directories.
_SWEEP = r"""
sweep() {
  for image in "$1"/sideload/images/*; do
    [ -d "$image" ] || continue
    [ -f "$image/name" ] && [ -z "$(find "$image/name" -mmin +"$2")" ] || rm -rf -- "$image"
  done
  for blob in "$1"/sideload/blobs/*; do
    [ -f "$blob" ] || continue
    hex=${blob##*/}
    cat "$1"/sideload/images/*/needs 2>/dev/null | grep -q "^${hex%.part} " || rm -f -- "$blob"
  done
  rmdir "$1/sideload/images" 2>/dev/null && rmdir "$1/sideload/blobs" "$1/sideload" 2>/dev/null || return 0
  # What was made by us goes too when it is empty; an administrator's own directory has other permissions.
  case $(ls -ldn -- "$1") in drwx------*) rmdir "$1" 2>/dev/null ;; esac
  return 0
}
"""

# $1 directory, $2 minutes to keep others, $3 config (hex), $4 image name. Standard input: what it needs.
# A receiver whose connection broke may not have noticed. It is ended, or it would finish a blob under our hands.
BEGIN = (
    SAFE
    + _SWEEP
    + r"""
umask 077
mkdir -p -- "$1" && safe "$1" && [ ! -h "$1/sideload" ] || exit 67
mkdir -p -- "$1/sideload/blobs" "$1/sideload/images/$3" && safe "$1/sideload" || exit 67
cd -- "$1/sideload/images/$3" || exit 67
printf '%s\n' "$4" > name.new && cat > needs.new && mv -f needs.new needs && mv -f name.new name || exit 67
for file in "$1"/sideload/blobs/*.part.pid; do
  [ -f "$file" ] && read -r pid < "$file" || continue
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF "${file%.part.pid}" && kill -KILL "$pid"
  rm -f -- "$file"
done
cd / && sweep "$1" "$2"
"""
)

# $1 blob's path, $2 blocks of 64 KiB that are right already, $3 its size. Standard input: the rest of it.
# dd writes at its own offset and never appends: should the dd of a lost connection still live, then both write the same
# bytes to the same places.
RECEIVE = r"""
umask 077
part=$1.part
[ "$2" -gt 0 ] || rm -f -- "$part"
echo $$ > "$part.pid"
{ while sleep 1 && kill -0 $$; do sync -d "$part" || sync; done; } >/dev/null 2>&1 </dev/null &
keeper=$!
trap 'kill "$keeper" 2>/dev/null; rm -f -- "$part.pid"' EXIT
trap 'exit 1' HUP INT TERM
said=$(dd of="$part" bs=65536 seek="$2" conv=notrunc 2>&1) || { printf '%s\n' "$said" | grep -v records >&2; exit 1; }
got=$(wc -c < "$part") || exit 65
[ "$got" -eq "$3" ] || exit 65
mv -f -- "$part" "$1"
"""

# $1 part's path, $2 blocks of 64 KiB to hash
HASH = r"""
{ while sleep 2 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do echo .; done; } </dev/null &
trap "kill $! 2>/dev/null" EXIT
dd if="$1" bs=65536 count="$2" 2>/dev/null | sha256sum
"""

# $1 directory, $2 config (hex), then the layers (hex). Standard input: a tar of everything but the layers.
# The tree is the OCI layout that the engine reads; layers are hard links into it. Their checksums are made while the engine
# reads them, which verifies them too: what is wrong becomes a part again.
LOAD = r"""
umask 077
LC_ALL=C; export LC_ALL
work=$1/sideload image=$1/sideload/images/$2
tree=$image/tree
rm -rf -- "$tree"
mkdir -- "$tree" && tar -x -f - -C "$tree" || exit 1
trap 'rm -rf -- "$tree"' EXIT
trap 'exit 1' HUP INT TERM
shift 2
mkdir -p -- "$tree/blobs/sha256" || exit 1
for layer; do ln -- "$work/blobs/$layer" "$tree/blobs/sha256/$layer" || exit 1; done
for layer; do
  found=$(sha256sum < "$work/blobs/$layer")
  [ "${found%% *}" = "$layer" ] || { echo "$layer"; mv -f -- "$work/blobs/$layer" "$work/blobs/$layer.part"; }
done > "$image/wrong" </dev/null 2>/dev/null &
checker=$!
tar -c -f - -C "$tree" . | docker load
code=$?
wait "$checker"
[ ! -s "$image/wrong" ] || exit 66
exit "$code"
"""

# $1 directory, $2 minutes to keep others, $3 not empty: more images follow that may share blobs, then the configs (hex)
# of images that are done with.
END = (
    SAFE
    + _SWEEP
    + r"""
safe "$1" && safe "$1/sideload" || exit 0
place=$1 keep=$2 more=$3
shift 3
for config; do rm -rf -- "$place/sideload/images/$config"; done
[ -n "$more" ] || sweep "$place" "$keep"
"""
)
