# The lock of a host: an flock on a directory that everybody may open, held by one process for as long as it lives.
# POSIX sh (dash, bash, busybox). Arguments are a verb and its own; every line of output begins with "fleet-lock".
#   take PLACE SHELL LEASE WORD...  become the holder, or say who is   look PLACE   say who is   end PID   end that one
# The holder's process is named fleet-lock in /proc/PID/comm, fleet-switch while it runs the dead man's switch.

newline='
'

say() { echo "fleet-lock $*"; }

now() {
  # Seconds since the boot. The host's clock may jump, this does not.
  read -r uptime _ </proc/uptime
  uptime=${uptime%.*}
}

name() { printf %s "$1" >/proc/self/comm; }

look() {
  # comm can be read of a process that hangs in a driver; cmdline could wait for it for ever, so only ours is read.
  now
  say uptime "$uptime"
  for file in $(grep -lsxE 'fleet-(lock|switch)' /proc/[0-9]*/comm); do
    pid=${file#/proc/} pid=${pid%/comm}
    read -r _ comm _ parent _ <"/proc/$pid/stat" || continue
    say process "$pid" "$parent" "$comm"
    tr '\0' '\n' <"/proc/$pid/cmdline" | sed 's/^/fleet-lock word /'
  done 2>/dev/null
}

open() {
  command -v flock >/dev/null || { say missing; exit 3; }
  [ -d "$1" ] && [ -r "$1" ] || { say nowhere; exit 3; }
  inode=$(stat -L -c %d:%i "$1") || { say nowhere; exit 3; }
  exec 9<"$1"
}

take() {
  open "$1"
  shell=$2 lease=$3
  shift 3
  flock -n 9
  code=$?
  case $code in
    0) ;;
    1) say busy; say inode "$inode"; look; exit 4 ;;
    *) say failed "$code"; exit 3 ;;
  esac
  # The end of the ssh session must not end the holder before it did its duty.
  trap '' HUP INT QUIT PIPE
  now
  export FLEET_LOCK
  exec $shell -c 'eval "$FLEET_LOCK"' fleet-lock hold "$lease" "$@" "inode=$inode" "uptime=$uptime"
}

test_place() {
  # Shared, and for a moment only: whoever wants the lock and meets this asks once more.
  open "$1"
  if flock -n -s 9; then say free; else say busy; fi
  exec 9<&-
  say inode "$inode"
  look
}

end() {
  grep -qsxE 'fleet-(lock|switch)' "/proc/$1/comm" || { say gone; exit 0; }
  kill -TERM "$1" 2>/dev/null || { say refused; exit 0; }
  say told
}

# One pipe carries everything that happens: c LINE from the controller, e for the end of its lines, t every second.

hold() {
  lease=$1
  unset FLEET_LOCK
  trap : TERM
  feed 9<&- 2>/dev/null | keep
}

feed() {
  exec 8<&0 </dev/null
  relay <&8 8<&- &
  child=$!
  exec 8<&-
  while sleep 1; do echo t || break; done
  kill "$child"
}

relay() {
  while IFS= read -r line; do printf 'c %s\n' "$line" || exit; done
  echo e
}

keep() {
  exec 2>/dev/null
  switch='' next='' ended=''
  trap 'ended=ended' TERM
  name fleet-lock
  now
  last=$uptime
  say held
  while [ -z "$ended" ]; do
    if ! IFS= read -r line; then
      ended=${ended:-broken}
      break
    fi
    now
    case $line in
      t) [ $((uptime - last)) -lt "$lease" ] || ended=lease; continue ;;
      e) ended=left ;;
      'c run '*) next=$next${line#c run }$newline ;;
      'c beat '*) ;;
      'c arm '*) switch=$next next='' ;;
      'c disarm '*) switch='' next='' ;;
      'c release '*) flock -u 9 ;;
      *) continue ;;
    esac
    last=$uptime
    case $line in
      'c run '* | e) ;;
      *) say ok "${line##* }" ;;
    esac
    case $line in 'c release '*) exit 0 ;; esac
  done
  trap '' TERM
  say over "$ended"
  [ -z "$switch" ] || fire
  flock -u 9
}

fire() {
  name fleet-switch
  exec >/dev/null
  # A request that the controller sent with its last breath may still be on its way into the engine.
  sleep 1
  while [ -n "$switch" ]; do
    command=${switch%%"$newline"*}
    switch=${switch#*"$newline"}
    { eval "$command"; echo "the dead man's switch ran ($ended): $command: exit $?"; } </dev/null 2>&1 | note
  done
}

docker() {
  # An engine that hangs must not keep the lock for ever. A stop may take its grace, an answer a few seconds.
  case $1 in
    version | inspect) limit=10 ;;
    stop) limit=$(($3 + 60)) ;; # stop --time GRACE NAME
    *) limit=120 ;;
  esac
  # By KILL: this process ignores TERM, and some of its children do too. Only the client ends by it.
  if timeout 1 true 2>/dev/null; then timeout -s KILL "$limit" docker "$@"; else command docker "$@"; fi
}

note() {
  # Whatever logger does, the command behind it must be able to say all that it has to say.
  ! command -v logger >/dev/null || logger -t fleet
  cat >/dev/null
}

wait_engine() {
  # At most $1 seconds, until the engine answers: it may be starting again just now, or hang.
  now
  until=$((uptime + $1))
  while [ "$uptime" -lt "$until" ] && ! docker version >/dev/null 2>&1; do
    sleep 1
    now
  done
}

wait_gpus_idle() {
  # At most $1 seconds, until no process holds a GPU: memory is given back after the process is gone. Containers may be
  # named that are about to be started: while all of them still run, the GPUs are theirs and nothing is waited for.
  left=$1
  shift
  if [ $# -gt 0 ] && [ "$(docker inspect -f '{{.State.Running}}' "$@" 2>/dev/null | grep -cx true)" = $# ]; then
    return 0
  fi
  while [ "$left" -gt 0 ] && [ -n "$(ls -A /sys/class/kfd/kfd/proc 2>/dev/null)" ]; do
    sleep 1
    left=$((left - 1))
  done
}

case $1 in
  look) test_place "$2" ;;
  take | hold | end) "$@" ;;
esac
