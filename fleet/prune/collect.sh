# Collecting a registry's garbage on its own host. POSIX sh, as root; collect.py says what the arguments are.
#   look                    which registries run here        dry …   what a collection would free
#   collect …               collect, the registry read-only meanwhile
# A collection outlives the connection that began it. What was its configuration lies in $before from before the first
# change until it runs with it again, so that one that was killed here is put right by the next.

state=/var/lib/fleet

look() {
  id -u | sed 's/^/uid /'
  [ -d /run/systemd/system ] && echo systemd
  for file in /etc/init.d/*; do [ -x "$file" ] && echo "init ${file##*/}"; done
  for file in "$state"/registry-*.before; do [ -e "$file" ] && echo "left $file"; done
  for file in $(grep -ls serve /proc/[0-9]*/cmdline); do
    dir=${file%/cmdline}
    words=$(tr '\0' '\n' <"$file") || continue
    case ${words%%"
"*} in *registry) ;; *) continue ;; esac
    echo "process ${dir#/proc/}"
    printf '%s\n' "$words" | sed 's/^/word /'
    echo "program $(readlink "$dir/exe")"
    sed 's/^/cgroup /' "$dir/cgroup"
    tr '\0' '\n' <"$dir/environ" | sed -nE 's/^(REGISTRY_(CONFIGURATION_PATH|STORAGE_[A-Z_]*(ROOTDIRECTORY|BLOBDESCRIPTOR)))=/variable \1=/p'
    container=$(sed -nE 's/.*docker[-/]([0-9a-f]{64}).*/\1/p' "$dir/cgroup" | head -n 1)
    if [ -n "$container" ]; then
      docker inspect --format '{{json .}}' "$container" | sed 's/^/container /'
    fi
    config=$(printf '%s\n' "$words" | sed -n '/^serve$/{n;p;q;}')
    if [ -n "$config" ] && [ -f "$dir/root$config" ]; then
      # Whoever may write it says what runs here, and that shall be root alone.
      [ -z "$(find "$dir/root$config" -maxdepth 0 -type f -user root ! -perm /022)" ] || echo guarded
      [ ! "$dir/root$config" -ef "$config" ] || echo here
      head -c 100000 "$dir/root$config" | sed 's/^/config /'
      echo
    fi
  done 2>/dev/null
  return 0
}

take_arguments() {
  pid=$1 config=$2 path=$3 container=$4 mark=$5 port=$6 root=$7 before=$8
  shift 8
  stop=$1 start=$2 program=$3
  line=$(tr '\0' ' ' <"/proc/$pid/cmdline")
}

# As the registry's own user and with its own variables. Becomes the program: call it in a shell of its own.
garbage() {
  if [ -z "$container" ]; then
    user=$(stat -c %u "/proc/$pid") group=$(stat -c %g "/proc/$pid")
    variables=$(tr '\0' '\n' <"/proc/$pid/environ" | grep '^REGISTRY_')
    while IFS= read -r one; do [ -z "$one" ] || export "${one?}"; done <<END
$variables
END
    [ "$user" = "$(id -u)" ] || program="setpriv --reuid=$user --regid=$group --clear-groups $program"
  fi
  eval "exec $program $*"
}

# Of the storage and of the file system below it, in KiB.
room() {
  [ -z "$root" ] || echo "$1 $(du -sk -- "/proc/$pid/root$root" | cut -f 1)" \
    "$(df -Pk -- "/proc/$pid/root$root" | awk 'END { print $4 }')"
}

dry() {
  take_arguments "$@"
  store=/proc/$pid/root$root/docker/registry/v2
  room room
  [ -z "$root" ] || [ -d "$store/repositories" ] || return 0
  said=$( (garbage --dry-run) 2>&1) || { printf '%s\n' "$said" | tail -n 3 >&2; exit 1; }
  printf '%s\n' "$said" | sed -n 's/^blob eligible for deletion: sha256:\(..\)\(.*\)/\1 \1\2/p' | while read -r two hex; do
    echo "blob $(stat -c %s "$store/blobs/sha256/$two/$hex/data" 2>/dev/null || echo 0)"
  done
  # A push that is under way would be refused, and what it has brought so far would be collected.
  [ -z "$root" ] || find "$store/repositories" -path '*/_uploads/*' -type f -mmin -10 | sed -n '1s/.*/busy/p'
}

# Does the registry run, as another process than before, with the configuration $1? `pid` is that process then.
up() {
  for file in $(grep -ls serve /proc/[0-9]*/cmdline); do
    found=${file#/proc/} found=${found%/cmdline}
    [ "$found" != "$old" ] && [ "$(tr '\0' ' ' <"$file")" = "$line" ] || continue
    [ -z "$mark" ] || grep -qF -- "$mark" "/proc/$found/cgroup" || continue
    cmp -s -- "$1" "/proc/$found/root$config" || continue
    [ -z "$port" ] || grep -qsE ":$port [0-9A-F]+:0000 0A" "/proc/$found/net/tcp" "/proc/$found/net/tcp6" || continue
    pid=$found
    return 0
  done 2>/dev/null
  return 1
}

# A daemon must inherit neither the lock nor the connection.
detached() { eval "$1" >>"$work/said" 2>&1 </dev/null 9>&-; }

restart() {
  old=$pid tries=0
  if [ -n "$stop" ]; then
    detached "$stop"
    while [ -e "/proc/$old" ] && [ "$tries" -lt 100 ]; do tries=$((tries + 1)) && sleep 0.2; done
  fi
  detached "$start"
  tries=0
  until up "$1"; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || return 1
    sleep 0.3
  done
}

# Into the file as it is, which may be mounted into a container; and a full disk has room for it: nothing is cut off first.
put() {
  if [ -n "$path" ]; then
    dd if="$1" of="$path" conv=notrunc 2>>"$work/said" && truncate -s "$(wc -c <"$1")" "$path"
  else
    docker cp -- "$1" "$container:$config" >>"$work/said" 2>&1
  fi
}

restore() {
  put "$before" || return 1
  # A restart that did nothing has left the process of before, which never heard of the other configuration.
  if [ -z "$first" ] || [ ! -e "/proc/$first" ]; then
    restart "$before" || { echo "the registry does not run; its configuration of before is in $before" >&2; return 1; }
  fi
  rm -f -- "$before"
}

finish() {
  code=$?
  trap '' INT TERM
  [ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null
  [ ! -e "$before" ] || restore || code=1
  [ "$code" = 0 ] || tail -n 3 "$work/said" >&2
  rm -rf -- "$work"
  exit "$code"
}

collect() {
  take_arguments "$@"
  mkdir -p "$state" && exec 9<"$state" || exit 1
  umask 077
  flock -n 9 || { echo "a collection is under way here" >&2; exit 1; }
  work=$before.work  # what a killed one has left there goes
  rm -rf -- "$work" && mkdir -- "$work" || exit 1
  child='' first=''
  trap '' HUP PIPE
  trap finish EXIT
  trap 'exit 1' INT TERM
  wanted >"$work/wanted" && : >"$work/said" || exit 1
  if [ ! -e "$before" ]; then
    first=$pid
    cat "/proc/$pid/root$config" >"$before.new" && mv -f "$before.new" "$before" || exit 1
  fi
  room before
  put "$work/wanted" && restart "$work/wanted" || { echo "the registry does not run read-only" >&2; exit 1; }
  garbage >"$work/said" 2>&1 &
  child=$!
  wait "$child" || { child='' && exit 1; }
  child=''
  room after
}

"$@"
