"""The POSIX sh that works in a host's models_dir. Each is run as `sh -c SCRIPT sh ARGUMENT…`, with models_dir as $1.

MODELS_DIR/NAME -> .NAME.DIGEST   the version that is served: a link, so that one rename exchanges all files of a model
MODELS_DIR/.NAME.DIGEST/          its files, and `.fleet.sha256`, the list of their checksums
MODELS_DIR/.fleet/blobs/HEX       0700; what came of files that are not in their place yet, `.part` while they come
"""

from fleet.delivery.scripts import SAFE

MARK = "fleet-models"
WRONG, NO_PLACE, LOST = 66, 67, 68  # exit codes

# A line now and then, while something works that says nothing for long.
DOTS = r"""
{ while sleep 2 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do echo .; done; } </dev/null 2>/dev/null &
dots=$!
"""

# A switch whose controller is gone goes on by itself: it is ended, and gone, before somebody else works in models_dir $1.
ALONE = r"""
alone() {
  read -r other < "$1/.fleet/switch.pid" || return 0
  while tr '\0' '\n' < "/proc/$other/cmdline" | grep -qxF -e "$1"; do
    kill -TERM "$other"
    echo .
    sleep 1
  done
} 2>/dev/null
"""

# $2… names; without any, all that are there. Tells what lies where, by the lists; hashes nothing, changes nothing.
LOOK = r"""
exec 2>/dev/null </dev/null
LC_ALL=C; export LC_ALL
say() { printf 'fleet-models %s\n' "$*"; }
place=$1
shift
near=$place
while [ ! -d "$near" ]; do near=${near%/*}; near=${near:-/}; done
[ -w "$near" ] && say writable
say root "$(id -u)"
command -v curl >/dev/null && say curl
df -Pk -- "$near" | { read -r head; read -r device total used free rest; say free "$free"; }
cd -- "$place" || exit 0
say there
disk=$(stat -c %d .)
for file in .fleet/blobs/*; do [ -f "$file" ] && say blob "$(stat -c %s "$file")" "${file##*/}"; done
files() { find -L . -type f ! -path '*/.*' "$@"; }
one() {
  kind=none up=. base=${1##*/}
  case $1 in */*) up=${1%/*} ;; esac
  if [ -h "$1" ]; then kind=link; elif [ -d "$1" ]; then kind=plain; elif [ -e "$1" ]; then kind=other; fi
  say model "$kind" "$1"
  [ -d "$1" ] && [ "$(stat -L -c %d "$1")" != "$disk" ] && say apart
  [ "$kind" = link ] && say target "$(readlink "$1")"
  for version in "$up/.$base".*; do
    [ -d "$version" ] && [ ! -h "$version" ] || continue
    held=free
    grep -qsF "/${version##*/}" /proc/[0-9]*/mountinfo && held=mounted
    say version "$(stat -c %Y "$version")" "$held" "${version##*/}"
  done
  [ -d "$1" ] || return
  [ -w "$1" ] && say open
  (
    cd -- "$1" || exit
    files -exec stat -L -c 'fleet-models file %s %n' {} +
    find -L . -type l ! -path '*/.*' | sed 's/^/fleet-models broken /'
    [ -f .fleet.sha256 ] || exit
    say listed
    sed 's/^/fleet-models sum /' .fleet.sha256
    files -newer .fleet.sha256 | sed 's/^/fleet-models newer /'
  )
}
if [ $# -gt 0 ]; then
  for name; do one "$name"; done
  exit 0
fi
model() {
  for file in "$1/config.json" "$1"/*.safetensors "$1"/*.gguf "$1"/*.bin "$1"/*.pt; do [ -e "$file" ] && return; done
  return 1
}
for top in *; do
  [ -d "$top" ] || continue
  case $top in
    models--*)
      for inner in "$top"/snapshots/*; do
        [ -d "$inner" ] || continue
        one "$inner"
        for ref in "$top"/refs/*; do
          [ -f "$ref" ] && [ "$(cat "$ref")" = "${inner##*/}" ] && say ref "${ref##*/}"
        done
      done
      continue ;;
  esac
  if model "$top"; then one "$top"; continue; fi
  for inner in "$top"/*; do [ -d "$inner" ] && model "$inner" && one "$inner"; done
done
exit 0
"""

# $2 a directory below it. Standard input: paths in that. Their checksums as sha256sum prints them; dots meanwhile.
HASH = (
    DOTS
    + r"""
trap 'kill "$dots" 2>/dev/null' EXIT
cd -- "$1/$2" || exit 1
while IFS= read -r file; do
  found=$(sha256sum < "$file") && printf '%s  %s\n' "${found%% *}" "$file"
done
exit 0
"""
)

# $2 minutes after which what other transfers left is removed. Standard input: the blobs (hex) that are to come.
# A receiver whose connection broke may not have noticed. It is ended, or it would finish a blob under our hands.
BEGIN = (
    SAFE
    + ALONE
    + r"""
[ -d "$1" ] || { umask 022; mkdir -p -- "$1"; } || exit 67
umask 077
cd -- "$1" && mkdir -p .fleet/blobs && safe .fleet && safe .fleet/blobs || exit 67
alone "$1"
for file in "$1"/.fleet/blobs/*.part.pid; do
  [ -f "$file" ] && read -r pid < "$file" || continue
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF -e "${file%.part.pid}" -e "${file%.pid}" && kill -KILL "$pid"
  rm -f -- "$file"
done
cat > .fleet/needs.new && mv -f .fleet/needs.new .fleet/needs || exit 67
for file in .fleet/blobs/*; do
  hex=${file##*/}
  [ -f "$file" ] && ! grep -qxF "${hex%.part}" .fleet/needs || continue
  [ -z "$(find "$file" -mmin +"$2")" ] || rm -f -- "$file"
done
rm -rf .fleet/tree
exit 0
"""
)

# Standard input: blobs (hex) that came whole. Tells those that are wrong, which become parts again; dots meanwhile.
CHECK = (
    DOTS
    + r"""
trap 'kill "$dots" 2>/dev/null' EXIT
cd -- "$1/.fleet/blobs" || exit 1
code=0
while IFS= read -r hex; do
  found=$(sha256sum < "$hex")
  [ "${found%% *}" = "$hex" ] && continue
  echo "$hex"
  code=66
  mv -f -- "$hex" "$hex.part"
done
exit "$code"
"""
)

# $2 the directory of NAME, $3 NAME, $4 the version's directory, $5 the name of a plain directory that NAME was. Standard
# input: `HEX b|k PATH`, each file of the new version, from its blob or kept from the version that is there, and `end`: a list
# that broke off with its controller would make half a model.
# The tree is whole, and on the disk, before it gets a name. Then one rename shows it. For a plain directory that needs an
# exchange of two names (renameat2), which newer coreutils and perl can do; without them NAME is away for an instant.
SWITCH = (
    SAFE
    + ALONE
    + DOTS
    + r"""
trap 'kill "$dots" 2>/dev/null' EXIT
umask 022
cd -- "$1" && (umask 077 && mkdir -p .fleet) && safe .fleet || exit 67
alone "$1"
tree=.fleet/tree mine=.fleet/switch.pid old=$2/$3 new=$2/$4
trap 'kill "$dots" 2>/dev/null; rm -rf -- "$tree" "$mine"' EXIT
trap 'exit 1' HUP INT TERM
echo $$ > "$mine" && rm -rf -- "$tree" && mkdir "$tree" || exit 1
cat > .fleet/list && [ "$(tail -n 1 .fleet/list)" = end ] || exit 1
while read -r hex from path; do
  [ "$hex" != end ] || break
  case $path in */*) mkdir -p -- "$tree/${path%/*}" || exit 1 ;; esac
  if [ "$from" = b ]; then
    chmod 0644 ".fleet/blobs/$hex" && ln -- ".fleet/blobs/$hex" "$tree/$path" || exit 68
  else
    real=$(readlink -f -- "$old/$path") || exit 68
    ln -- "$real" "$tree/$path" 2>/dev/null || cp -p -- "$real" "$tree/$path" || exit 68
  fi
  printf '%s  %s\n' "$hex" "$path"
done < .fleet/list > .fleet/sums || exit 1
mv .fleet/sums "$tree/.fleet.sha256" || exit 1
# Not in the foreground, where no signal would be heard before all is written.
{ sync -f "$tree" 2>/dev/null || sync; } >/dev/null &
wait $!
mkdir -p -- "$2" || exit 1
[ ! -e "$new" ] || exit 68
mv -- "$tree" "$new" || exit 1
link=$2/.fleet-link.$$
[ ! -h "$link" ] || rm -f -- "$link"
ln -s -- "$4" "$link" || exit 1
trap 'kill "$dots" 2>/dev/null; rm -rf -- "$tree" "$mine"; [ ! -h "$link" ] || rm -f -- "$link"' EXIT
if [ -h "$old" ] || [ ! -e "$old" ]; then
  [ ! -d "$old" ] || was=$(readlink -- "$old")
  mv -fT -- "$link" "$old" || exit 1
  case ${was-} in .*) touch -c -- "$2/$was" ;; esac
else
  swap='exit(syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 ? 0 : 1)'
  # The link is made under the name that the directory gets, so that nothing is left over between two steps.
  mv -T -- "$link" "$2/$5" || exit 1
  if mv --exchange -T -- "$2/$5" "$old" 2>/dev/null; then :
  elif [ "$(uname -m)" = x86_64 ] && perl -e "$swap" "$2/$5" "$old" 2>/dev/null; then :
  else
    mv -T -- "$2/$5" "$link" || exit 1
    mv -T -- "$old" "$2/$5" && mv -T -- "$link" "$old" || { mv -T -- "$2/$5" "$old"; exit 1; }
  fi
  touch -c -- "$2/$5"
fi
sync -f "$2" 2>/dev/null
while read -r hex from path; do [ "$from" != b ] || rm -f -- ".fleet/blobs/$hex"; done < .fleet/list
rm -f .fleet/list .fleet/needs "$mine"
[ ! -d .fleet/blobs ] || rmdir .fleet/blobs 2>/dev/null
rmdir .fleet 2>/dev/null
exit 0
"""
)

# $2 NAME, $3 how many bytes the list has. Standard input: the list. It is put beside files that are right already.
ADOPT = r"""
umask 022
cd -- "$1/$2" || exit 1
trap 'rm -f .fleet.sha256.new' EXIT
cat > .fleet.sha256.new && [ "$(stat -c %s .fleet.sha256.new)" -eq "$3" ] && mv -f .fleet.sha256.new .fleet.sha256
"""

# $2 the directory of NAME, $3 NAME, then directories of older versions. The one that is served stays whatever is asked.
RETIRE = r"""
cd -- "$1/$2" || exit 1
now=$(readlink -- "$3")
shift 3
for version; do
  case $version in */* | [!.]* | "$now") exit 1 ;; esac
  rm -rf -- "$version" || exit 1
done
"""
