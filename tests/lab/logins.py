"""Logins that say things, with whichever shell: set on a node, for whoever the inventory logs in as."""

from fleet.lab import Node

# Where each shell looks when sshd starts it, and what it says there on both outputs.
SAYS = "echo Welcome to the cluster\n"
COMPLAINS = "echo mesg: not a tty >&2\n"
FORKS = "sh -c 'echo mesg: not a tty >&2'\n"  # csh has no way to say so itself
START = {
    "bash": (".bashrc", SAYS + COMPLAINS),
    "bsd-csh": (".cshrc", SAYS + FORKS),
    "tcsh": (".tcshrc", SAYS + FORKS),
    "fish": (".config/fish/config.fish", SAYS + COMPLAINS),
    "zsh": (".zshenv", SAYS + COMPLAINS),
}
# $1 user, $2 shell, $3 start file, $4 its text. Also what every login says: a banner, /etc/profile.d and .profile.
SCRIPT = r"""
set -e
home=$(getent passwd "$1" | cut -d: -f6)
sed -i "s|^\($1:.*:\)[^:]*$|\1/bin/$2|" /etc/passwd
grep -q "^/bin/$2$" /etc/shells || echo "/bin/$2" >>/etc/shells
mkdir -p "$(dirname "$home/$3")"
printf %s "$4" >"$home/$3"
echo 'echo From profile.d; echo to stderr >&2' | tee /etc/profile.d/loud.sh >"$home/.profile"
chown -R "$1" "$home/.config" "$home/.profile" "$home/$3" 2>/dev/null || true
printf 'Authorized use only.\nEverything is logged.\n' >/etc/ssh/banner
grep -q ^Banner /etc/ssh/sshd_config || printf 'Banner /etc/ssh/banner\nPrintMotd yes\n' >>/etc/ssh/sshd_config
echo 'Maintenance on Friday' >/etc/motd
kill -HUP "$(cat /run/sshd.pid 2>/dev/null || pgrep -o -x sshd)"
"""


def make_loud(node: Node, shell: str) -> None:
    """Everybody who logs in on the node is greeted, and the login's shell is this one from now on."""
    node.exec(("sh", "-c", SCRIPT, "sh", node.spec.user, shell, *START[shell]))
