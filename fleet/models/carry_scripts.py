"""The POSIX sh by which a host brings a model's files itself, from a disk or by curl. Each is run as `sh -c SCRIPT sh ARGUMENT…`.

What comes goes into a blob's part, and the blob gets its name when it has its size; CHECK looks at its checksum.
"""

MARK = "fleet-models"
SHORT, LOST, NO_CURL, NO_TOKEN, FAILED = 65, 68, 69, 70, 71  # exit codes

# Tells the size of the part $1 whenever it has grown, as long as the process $2 lives; ends $3 where nobody listens any more.
_TICK = r"""
tick() {
  trap '' PIPE
  was=
  while sleep 1 >/dev/null 2>&1 && kill -0 "$2"; do
    now=$(stat -c %s "$1") && [ "$now" != "$was" ] || continue
    was=$now
    echo "at $now" || { [ -z "$3" ] || kill "$3"; return; }
  done
}
"""

# The host's own proxies: what its environment says, else /etc/environment, which sudo and sshd may not have read.
# $token is a file on this host. What is in it goes to curl on standard input and is in no command line, and what is got by
# https from $url is so to its end.
_CURL = r"""
command -v curl >/dev/null || exit 69
while IFS= read -r pair; do
  case $pair in
    *_proxy=* | *_PROXY=*) eval "[ -n \"\${${pair%%=*}-}\" ]" || export "$pair" ;;
  esac
done <<END
$(sed -n 's/^\(export \)*\([A-Za-z]*_[A-Za-z]*\)="*\([^"]*\)"*$/\2=\3/p' /etc/environment 2>/dev/null)
END
secret=
if [ -n "$token" ]; then
  secret=$(tr -d '[:space:]' < "$token") || exit 70
  case $secret in '' | *[!A-Za-z0-9._~+/=-]*) echo "there is no token in $token" >&2; exit 70 ;; esac
fi
given=$(cat)
settings() {
  [ -z "$given" ] || printf '%s\n' "$given"
  [ -z "$secret" ] || printf 'header = "Authorization: Bearer %s"\n' "$secret"
}
case $url in https:*) kind='=https' ;; *) kind='=http,https' ;; esac
get() {
  exec curl --config - --silent --show-error --location --proto "$kind" --proto-redir "$kind" --connect-timeout 20 "$@" -- "$url"
}
"""

# $1 an address, $2 a file with a token or nothing. Standard input: more of curl's settings. Tells the body with the status
# in a line behind it, in base64.
FETCH = (
    r"""
url=$1 token=$2
"""
    + _CURL
    + r"""
settings | get --max-time 300 --write-out '\n%{http_code}' | base64
"""
)

# $1 blob's path, $2 its size, $3 its address, $4 a file with a token or nothing, $5 seconds in which something has to come,
# $6 a certificate that alone is trusted, or nothing. Standard input: more of curl's settings. Goes on at the end of the part. Tells how far it is, and the server's last status.
DOWNLOAD = (
    _TICK
    + r"""
umask 077
part=$1.part url=$3 token=$4
"""
    + _CURL
    + r"""
have=$(stat -c %s "$part" 2>/dev/null) || have=0
[ "$have" -le "$2" ] || { rm -f -- "$part"; have=0; }
[ "$have" -gt 0 ] || : > "$part" || exit 1
if [ "$have" -lt "$2" ]; then
  [ -z "$6" ] || printf '%s\n' "$6" > "$part.crt" || exit 1
  settings | get ${6:+--cacert "$part.crt"} --fail --continue-at - --output "$part" --speed-limit 1 --speed-time "$5" \
    --write-out 'status %{http_code}\n' &
  curl=$!
  echo "$curl" > "$part.pid"
  tick "$part" "$curl" "$curl" 2>/dev/null </dev/null &
  ticker=$!
  trap 'kill "$curl" "$ticker" 2>/dev/null; rm -f -- "$part.pid" "$part.crt"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  wait "$curl" || {
    code=$?
    # The server sends no piece of a file, or says that there is none behind what is here: it begins anew.
    case $code in 33) rm -f -- "$part" ;; esac
    echo "curl $code"
    exit 71
  }
fi
[ "$(stat -c %s "$part")" -eq "$2" ] || exit 65
mv -f -- "$part" "$1"
"""
)

# $1 blob's path, $2 the file it is a copy of, $3 blocks of 64 KiB that are there already, $4 its size. Tells how far it is.
# Where the file system can, both share their bytes. The blob gets the file's time: by it and the size the two are known again.
COPY = (
    _TICK
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
