"""The POSIX sh by which a host gets something by curl. Each is run as `sh -c SCRIPT sh ARGUMENT…`."""

SHORT, NO_CURL, NO_TOKEN, FAILED = 65, 69, 70, 71  # exit codes

# Tells the size of the part $1 whenever it has grown, as long as the process $2 lives; ends $3 where nobody listens any more.
TICK = r"""
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
    TICK
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
