"""The POSIX sh that works in a host's staging directory. Each is run as `sh -c SCRIPT sh ARGUMENT…`.

Only names that this tool gives are ever removed, and only in a directory that is ours and that nobody else may write.
"""

MARK = "fleet-staging"
SHORT, WRONG, NO_PLACE, EARLY = 65, 66, 67, 68  # exit codes

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
# Whoever was at work over a connection that broke may not have noticed. A receiver is ended, or it would finish a blob
# under our hands (it is a curl, which knows the part, where the bytes come from a builder), and so is a loader, which waits
# for layers.
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
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF -e "${file%.part.pid}" -e "${file%.pid}" && kill -KILL "$pid"
  rm -f -- "$file"
done
if read -r pid < loader; then
  tr '\0' '\n' < "/proc/$pid/cmdline" | grep -qxF "$3" && kill -TERM "$pid"
fi 2>/dev/null
rm -f loader
cd / && sweep "$1" "$2"
"""
)

# $1 blob's path, $2 blocks of 64 KiB that are right already, $3 its size. Standard input: the rest of it.
# dd writes at its own offset and never appends: should the dd of a lost connection still live, then both write the same
# bytes to the same places. What was wrong goes first: whoever reads along takes every byte that is there for right.
RECEIVE = r"""
umask 077
part=$1.part
[ "$2" -gt 0 ] || rm -f -- "$part"
dd if=/dev/null of="$part" bs=65536 seek="$2" 2>/dev/null || exit 1
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

# $1 directory, $2 config (hex). Standard input: what stands around the layers in the tar that the engine reads.
FRAME = r"""
umask 077
cat > "$1/sideload/images/$2/frame" || exit 1
"""

# $1 directory, $2 config (hex), $3 blocks of the frame before the first layer's head, then HEX:SIZE of each layer.
# Standard input: `whole` when every layer is staged; if it ends before that, the engine is stopped.
# The engine reads the layers while they arrive: a part grows at its end only, and becomes whole under another name, which
# a link to it outlives. Checksums are made beside that; what is wrong becomes a part again. The first pauses are short ones,
# because what is small is there in a moment.
LOAD = r"""
umask 077
LC_ALL=C; export LC_ALL
blobs=$1/sideload/blobs image=$1/sideload/images/$2 front=$3
shift 3
exec 4<&0 </dev/null
rm -f -- "$image/over.$$"
echo $$ > "$image/loader" || exit 1
pause=0.02 looks=0
here() {
  [ ! -e "$image/over.$$" ] && kill -0 $$ && sleep "$pause" || return
  looks=$((looks + 1))
  [ "$looks" -lt 100 ] || pause=0.1
}
framed() { dd if="$image/frame" bs=512 "$@"; }
archive() {
  framed count="$front" || return
  at=$front
  for layer; do
    framed skip="$at" count=1 || return
    at=$((at + 1)) part=$blobs/${layer%:*}.part whole=$blobs/${layer%:*} over=$((${layer#*:} % 512))
    until ln -f -- "$whole" "$image/now" || { [ -f "$part.pid" ] && ln -f -- "$part" "$image/now"; }; do
      here || return
    done
    exec 3< "$image/now"
    until [ -f "$whole" ]; do
      cat <&3 && here || return
    done
    cat <&3 || return
    [ "$over" -eq 0 ] || dd if=/dev/zero bs=1 count=$((512 - over)) || return
  done
  dd if=/dev/zero bs=512 count=2
}
staged() { for layer; do [ -f "$blobs/${layer%:*}" ] || return; done; }
archive "$@" 2>/dev/null | docker load &
engine=$!
for layer; do
  until [ -f "$blobs/${layer%:*}" ]; do here || exit; done
  found=$(sha256sum < "$blobs/${layer%:*}")
  [ "${found%% *}" = "${layer%:*}" ] || echo "${layer%:*}"
done > "$image/wrong" 2>/dev/null &
checker=$!
{ read -r word && [ "$word" = whole ] || kill -TERM $$; } <&4 >/dev/null 2>&1 &
listener=$!
trap ': > "$image/over.$$"; kill "$engine" "$checker" "$listener" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
wait "$engine"
code=$?
[ "$code" -eq 0 ] || staged "$@" || exit 68
wait "$checker"
[ -s "$image/wrong" ] || exit "$code"
while read -r hex; do mv -f -- "$blobs/$hex" "$blobs/$hex.part"; done < "$image/wrong"
exit 66
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

# $1 a file in a directory of certs.d, $2 its bytes. Standard input: its content. Whole, or nothing: no directory either, that
# nobody would know as ours, where the connection ends in between.
PLACE = r"""
umask 022
new=$1.new.$$
trap 'rm -f -- "$new"; rmdir -- "${1%/*}" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir -p -- "${1%/*}" && cat > "$new" || exit 1
[ "$(wc -c < "$new")" -eq "$2" ] || { echo "it did not arrive whole" >&2; exit 1; }
mv -f -- "$new" "$1"
"""
