# What a GPU node says about itself: read-only, one round trip, POSIX sh (dash, busybox ash, bash), no Python.
# Arguments: 1 frame token, 2 root of a captured tree (empty = this machine), 3 models directory, 4 staging directory.
# Output: a line "TOKEN name" begins each section, "TOKEN end" closes the text. File sections hold `path:line`, the
# section NAME! after them holds what could not be read, in grep's own words. Forks are few: a fleet runs this at once.
LC_ALL=C
PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export LC_ALL PATH
T=${1:-fleet-frame} R=${2:-} MODELS=${3:-} STAGING=${4:-}
exec 3>&1
if [ -n "$R" ]; then live=; else live=1; fi
say() { printf '%s %s\n' "$T" "$1"; }
# Standard error is kept apart and shown after the data, or it would land in the middle of a line.
show() { # section, pattern, files...
    say "$1"; name=$1 pattern=$2; shift 2
    errors=$(grep -H -E -e "$pattern" -- "$@" 2>&1 >&3)
    say "$name!"; printf '%s\n' "$errors"
}

# The script comes by standard input, so all of it is read before its commands get another one.
probe() {
    if [ -n "$live" ] && timeout 5 true 2>/dev/null; then limit() { timeout "$@"; }; else limit() { shift; "$@"; }; fi

    if [ -n "$R" ]; then cd "$R" && R=$(pwd -P) || exit 3; else cd / || exit 3; fi
    say "start ${live:-tree}"
    say time; [ -n "$live" ] && date +%s
    dockerd=
    for f in run/docker.pid var/run/docker.pid; do
        [ -z "$dockerd" ] && [ -r "$f" ] && read -r dockerd <"$f"
    done
    show files '' etc/os-release proc/sys/kernel/osrelease proc/sys/kernel/random/boot_id proc/sys/kernel/hostname \
        proc/cmdline proc/uptime proc/sys/kernel/numa_balancing proc/sys/vm/compaction_proactiveness \
        proc/sys/vm/compact_unevictable_allowed proc/sys/vm/max_map_count proc/sys/vm/nr_hugepages \
        proc/sys/vm/overcommit_memory proc/sys/vm/swappiness proc/sys/vm/zone_reclaim_mode \
        proc/sys/net/core/rmem_max proc/sys/net/core/wmem_max proc/sys/net/core/somaxconn \
        sys/module/amdgpu/initstate sys/module/amdgpu/version sys/module/amdgpu/srcversion \
        sys/devices/system/cpu/cpu0/cpufreq/scaling_governor sys/devices/system/cpu/online \
        sys/kernel/mm/transparent_hugepage/enabled sys/fs/selinux/enforce sys/module/apparmor/parameters/enabled \
        sys/fs/cgroup/cgroup.controllers opt/rocm/.info/version ${dockerd:+"proc/$dockerd/limits"}
    show memory '^(MemTotal|MemAvailable):' proc/meminfo
    say present
    for f in sys/module sys/module/amdgpu sys/class/kfd/kfd sys/class/kfd/kfd/topology/nodes sys/class/kfd/kfd/proc \
        sys/class/drm dev/kfd dev/dri proc/net/tcp sys/fs/selinux sys/fs/cgroup; do
        [ -e "$f" ] && echo "$f"
    done
    [ -r dev/kfd ] && [ -w dev/kfd ] && echo dev/kfd:usable
    for f in sys/class/iommu/* var/lib/dkms/amdgpu/*; do [ -e "$f" ] && echo "$f"; done
    [ -S var/run/docker.sock ] && echo docker.sock
    [ -w var/run/docker.sock ] && echo docker.sock:writable

    # AMD accelerators on the PCI bus: builtins only, because there may be hundreds of functions.
    [ -d sys/bus/pci/devices ] && say pci
    for d in sys/bus/pci/devices/*; do
        v=; c=; i=; [ -r "$d/vendor" ] && read -r v <"$d/vendor"
        [ "$v" = 0x1002 ] || continue
        [ -r "$d/class" ] && read -r c <"$d/class"
        case $c in 0x1200* | 0x0380* | 0x0302*) ;; *) continue ;; esac
        [ -r "$d/device" ] && read -r i <"$d/device"
        b=; [ -e "$d/driver" ] && b=bound
        echo "${d##*/} $i $b"
    done

    # The KFD topology. Links carry both their ends, so they need no path (a full CPX node has four thousand of them).
    K=sys/class/kfd/kfd
    [ -e "$K/topology" ] || { [ -e sys/devices/virtual/kfd/kfd ] && K=sys/devices/virtual/kfd/kfd; }
    if cd "$K/topology/nodes" 2>/dev/null; then
        say nodes; echo *
        show node '' */gpu_id */name */properties */mem_banks/*/properties
        for kind in io_links p2p_links; do
            say "$kind"
            errors=$(grep -h -E '^(type|node_from|node_to|weight|max_bandwidth) ' */"$kind"/*/properties 2>&1 >&3)
            say "$kind!"; printf '%s\n' "$errors"
        done
    fi
    cd "$R/" || exit 3
    pids=
    if cd "$K/proc" 2>/dev/null; then
        for p in *; do case $p in *[!0-9]*) ;; *) pids="$pids $p" ;; esac; done
        say pids; echo "$pids"
        [ -n "$pids" ] && show process '' */vram_*
    fi
    cd "$R/" || exit 3

    # DRM devices by render node; cards are read only where render nodes show nothing. card0 may be a BMC.
    # xgmi_error is left alone: reading it clears it.
    if cd sys/class/drm 2>/dev/null; then
        set --
        say drm_map
        for d in renderD*; do [ -e "$d/device" ] && set -- "$@" "$d"; done
        renders=$#
        for c in card[0-9]*; do
            case $c in *-*) continue ;; esac
            [ -e "$c/device" ] || continue
            for r in "$c"/device/drm/renderD*; do [ -e "$r" ] && echo "$c ${r##*/}"; done
            [ "$renders" = 0 ] && set -- "$@" "$c"
        done
        files=
        for d in "$@"; do
            v=; [ -r "$d/device/vendor" ] && read -r v <"$d/device/vendor"
            case $v in 0x1002 | '') files="$files $d" ;; esac
        done
        set --
        for d in $files; do
            for f in uevent vendor device unique_id numa_node mem_info_vram_total mem_info_vram_used \
                current_compute_partition available_compute_partition current_memory_partition pcie_replay_count vbios_version \
                current_link_speed current_link_width max_link_speed max_link_width; do
                [ -e "$d/device/$f" ] && set -- "$@" "$d/device/$f"
            done
            # An empty list of bad pages prints no line, so its being there is said apart.
            [ -e "$d/device/ras/gpu_vram_bad_pages" ] && echo "pages $d"
            for f in "$d"/device/ras/*_err_count "$d"/device/ras/gpu_vram_bad_pages "$d"/device/hwmon/hwmon*/temp*_input \
                "$d"/device/hwmon/hwmon*/temp*_crit "$d"/device/hwmon/hwmon*/temp*_label \
                "$d"/device/hwmon/hwmon*/power1_cap "$d"/device/hwmon/hwmon*/power1_cap_default; do
                [ -e "$f" ] && set -- "$@" "$f"
            done
            [ -e "$d/device/fw_version" ] && set -- "$@" "$d"/device/fw_version/*_fw_version
        done
        [ $# -gt 0 ] && show drm '' "$@"
    fi
    cd "$R/" || exit 3

    show listeners '^ *[0-9]+: [0-9A-F:]+ [0-9A-F:]+ 0A ' proc/net/tcp proc/net/tcp6

    # A directory on a dead network file system would hang everything that looks at it, so ask with a limit first.
    if [ -n "$live" ] && [ -n "$MODELS" ]; then
        limit 5 test -e "$MODELS"
        [ $? -gt 1 ] && MODELS=
    fi
    # Where bytes go. A missing directory is measured at its nearest existing parent.
    nearest() {
        at=$1
        while [ -n "$at" ] && [ ! -e "$at" ]; do at=${at%/*}; done
        at=${at:-/}
    }
    # Listing rules must not load the kernel's modules for them, so what is not there already is not asked.
    firewall() {
        say firewall
        for tool in nft iptables ufw; do command -v "$tool" >/dev/null && echo "$tool"; done
        command -v firewall-cmd >/dev/null && echo firewalld
        case $who in 'uid=0('* | 'uid=0 '*) ;; *) return ;; esac
        command -v head >/dev/null || return
        kernel=; read -r kernel <proc/sys/kernel/osrelease
        modules=lib/modules/$kernel
        if [ -e sys/module/nf_tables ] || [ ! -d "$modules" ] || grep -q -s '/nf_tables\.ko' "$modules/modules.builtin"; then
            if command -v nft >/dev/null; then
                rules=$(limit 5 nft -s -nn list ruleset 2>/dev/null) || return
                say firewall.nft; printf '%s\n' "$rules" | head -n 3000
            elif command -v iptables-nft-save >/dev/null; then
                rules=$(limit 5 iptables-nft-save -t filter 2>&1) || return
                say firewall.iptables; printf '%s\n' "$rules" | head -n 3000
            else
                return
            fi
        fi
        if grep -q -s -x filter proc/net/ip_tables_names; then
            rules=$(limit 5 iptables-legacy-save -t filter 2>/dev/null) || return
            say firewall.iptables; printf '%s\n' "$rules" | head -n 3000
        fi
        say firewall.done
    }
    if [ -n "$live" ]; then
        who=$(id); say user; echo "$who"; echo "sudo=${SUDO_USER:-}"
        # As the host's lists have it: what this login was given may be older.
        [ -n "${SUDO_USER:-}" ] && echo "login=$(id -Gn "$SUDO_USER" 2>/dev/null)"
        firewall
        say limits; echo "memlock $(ulimit -l)"; echo "nofile $(ulimit -n)"; echo "nofile_hard $(ulimit -H -n)"
        say tools; if command -v flock >/dev/null; then echo flock; fi
        say modinfo
        command -v modinfo >/dev/null && limit 5 modinfo amdgpu 2>/dev/null | grep -E '^(filename|version|srcversion):'
        # Of the engine's settings only these: a file may hold proxies with their passwords.
        if [ ! -d /etc/docker ] || [ -x /etc/docker ]; then
            if [ -r /etc/docker/daemon.json ] || [ ! -e /etc/docker/daemon.json ]; then
                say engine_config
                for f in /etc/docker/certs.d/*/*.crt; do
                    f=${f%/*}; [ -d "$f" ] && [ "${f##*/}" != '*' ] && echo "ca ${f##*/}"
                done
                [ -e /etc/docker/daemon.json ] && tr '\012\015' '  ' </etc/docker/daemon.json 2>/dev/null |
                    grep -o -E '"(log-driver|max-size)" *: *"[^"]*"'
                [ -n "$dockerd" ] && [ -r "/proc/$dockerd/cmdline" ] && tr '\000' '\n' <"/proc/$dockerd/cmdline" |
                    grep -o -E '^--(log-driver|log-opt|config-file)'
            fi
        fi
        say docker
        root=/var/lib/docker
        if command -v docker >/dev/null; then
            command -v docker
            say docker.version; limit 10 docker version --format '{{json .}}' 2>&1
            info=$(limit 15 docker info --format '{{json .}}' 2>&1)
            say docker.info; printf '%s\n' "$info"
            case $info in *'"DockerRootDir":"'?*) root=${info#*'"DockerRootDir":"'} root=${root%%'"'*} ;; esac
            root=${root:-/var/lib/docker}
            # Environments hold secrets and are never asked for.
            ids= known=1
            case $info in
                *'"ContainersRunning":0,"ContainersPaused":0,'*) ;;
                *) ids=$(limit 10 docker ps -q --no-trunc 2>/dev/null) || known= ;;
            esac
            if [ -n "$known" ]; then
                say docker.containers
                [ -n "$ids" ] && limit 10 docker inspect --type container --format '{"id":{{json .Id}},"name":{{json .Name}},"image":{{json .Config.Image}},"image_id":{{json .Image}},"pid":{{json .State.Pid}},"entrypoint":{{json .Config.Entrypoint}},"cmd":{{json .Config.Cmd}},"service":{{json (index .Config.Labels "io.fleet.service")}},"network":{{json .HostConfig.NetworkMode}},"ports":{{json .HostConfig.PortBindings}},"devices":{{json .HostConfig.Devices}},"privileged":{{json .HostConfig.Privileged}}}' $ids 2>/dev/null
            fi
        fi
        say sockets; sockets=
        command -v ss >/dev/null && sockets=$(limit 5 ss -H -l -t -n -p 2>/dev/null) && printf '%s\n' "$sockets"
        # Command lines of those who hold a GPU or a port; the separator of arguments becomes 037.
        rest=$sockets
        while case $rest in *pid=*) : ;; *) false ;; esac; do
            rest=${rest#*pid=} p=${rest%%[!0-9]*}
            case " $pids " in *" $p "*) ;; *) pids="$pids $p" ;; esac
        done
        say commands
        for p in $pids; do
            [ -r "/proc/$p/cmdline" ] && { printf '%s ' "$p"; tr '\000\012' '\037 ' <"/proc/$p/cmdline"; echo; } 2>/dev/null
        done
        set --
        for p in $pids; do [ -r "/proc/$p/cgroup" ] && set -- "$@" "proc/$p/cgroup"; done
        [ $# -gt 0 ] && show cgroups '' "$@"
        say space
        store=/var/lib/containerd  # unless dockerd started a containerd of its own
        [ -e "$root/containerd/daemon" ] && store=$root/containerd/daemon
        set --
        for pair in "root:$root" "containerd:$store" "models:$MODELS" "staging:$STAGING" "shm:/dev/shm" "slash:/"; do
            path=${pair#*:}
            [ -n "$path" ] || continue
            case $pair in containerd:* | shm:*) [ -e "$path" ] || continue ;; esac
            nearest "$path"
            there=absent; [ -e "$path" ] && there=there
            printf '%s %s %s\t%s\n' "${pair%%:*}" "$there" "$at" "$path"
            set -- "$@" "$at"
        done
        { limit 5 stat -f -c 'fs %a %S %b %d %c %n' "$@"; limit 5 stat -c 'dev %d %n' "$@"; } 2>/dev/null
        say devices
        set --
        for d in /dev/kfd /dev/dri/renderD*; do [ -e "$d" ] && set -- "$@" "$d"; done
        [ $# -gt 0 ] && stat -c '%a %u %g %U %G %n %F' "$@" 2>&1
        say kernel_log
        if log=$(limit 5 dmesg 2>/dev/null); then
            echo readable
            printf '%s\n' "$log" | grep -E 'amdgpu.*(GPU reset|GPU hang|Fatal error|IP block .* failed|hardware error|[Bb]ad page|discovery)|qcm fence wait|Queue preemption failed|evict process queues|unrecoverable state|getting oversubscribed|uncorrectable hardware|poison|IO_PAGE_FAULT|DMAR:.*fault' | tail -n 40
        fi
    fi
    M=${MODELS:+$R$MODELS}
    if [ -n "$M" ] && [ -d "$M" ]; then
        say models
        set --
        IFS='
'
        for d in "$M"/*; do
            [ -d "$d" ] || continue
            if [ -e "$d/config.json" ]; then found=$d; else found="$d/*"; fi
            for m in $found; do
                [ -d "$m" ] || continue
                weights=
                for f in "$m"/*.safetensors "$m"/*.bin "$m"/*.gguf "$m"/*.pt; do [ -e "$f" ] && weights=weights && break; done
                config=; [ -e "$m/config.json" ] && config=config && [ $# -lt 200 ] && set -- "$@" "${m#"$M"/}/config.json"
                [ -n "$weights$config" ] && echo "${config:--} ${weights:--} ${m#"$M"/}"
            done
        done
        if cd "$M" 2>/dev/null; then
            [ $# -gt 0 ] && show configs '' "$@"
            # Sizes of weight files, and which files an index of them names. Globs without a match are no files.
            sizes=$(limit 10 stat -L -c '%s %n' ./*/*.safetensors ./*/*.bin ./*/*.gguf ./*/*.pt \
                ./*/*/*.safetensors ./*/*/*.bin ./*/*/*.gguf ./*/*/*.pt 2>/dev/null)
            case $? in
                0 | 1)
                    say weights; printf '%s\n' "$sizes"
                    for f in ./*/*.index.json ./*/*/*.index.json; do
                        [ -e "$f" ] || continue
                        say shards
                        limit 10 grep -s -H -o -E '"[^"/]+\.(safetensors|bin)"|"total_size" *: *[0-9]+' \
                            ./*/*.index.json ./*/*/*.index.json 2>/dev/null | sort -u
                        break
                    done ;;
            esac
        fi
    fi
    say end
}
probe </dev/null
