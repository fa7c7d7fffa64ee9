"""Each rule of Ansible's inventory format by an inventory of its own, against `ansible-inventory --list`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.inventory import load

Files = Mapping[str, str]
HERE = Path(__file__).parent

# name -> files; the source is `hosts.yaml` unless there are several (a.yaml, b.yaml) or a directory (`site/`).
WRITTEN: Mapping[str, Files] = {
    "one host": {"hosts.yaml": "all: {hosts: {h1: {x: 1}}}"},
    "hosts without variables": {"hosts.yaml": "all:\n  hosts:\n    h1:\n    h2:\n"},
    "ranges": {"hosts.yaml": 'all: {hosts: {"n[01:12]": {}, "m[a:d]x": {}, "k[0:10:5].dc": {}, "r[1:2]-[a:b]": {}}}'},
    "ports": {"hosts.yaml": 'all: {hosts: {"h1:2222": {}, "h[2:3]:22": {}}}'},
    "nested groups": {
        "hosts.yaml": "all:\n  children:\n    dc:\n      children:\n        web: {hosts: {w1: {}}, vars: {v: web}}\n"
        "        db: {hosts: {d1: {}}}\n      vars: {v: dc, u: dc}\n  vars: {v: all}\n"
    },
    "deeper groups win": {
        "hosts.yaml": "all:\n  children:\n    zz: {hosts: {h: {}}, vars: {v: zz}}\n"
        "    aa: {children: {bb: {hosts: {h: {}}, vars: {v: bb}}}, vars: {v: aa}}\n"
    },
    "names decide at one depth": {
        "hosts.yaml": "all: {children: {b: {hosts: {h: {}}, vars: {v: b}}, a: {hosts: {h: {}}, vars: {v: a}}}}"
    },
    "priority": {
        "hosts.yaml": "all:\n  children:\n    b: {hosts: {h: {}}, vars: {v: b}}\n"
        "    a: {hosts: {h: {}}, vars: {v: a, ansible_group_priority: 10}}\n"
    },
    "two parents": {
        "hosts.yaml": "all:\n  children:\n    p1: {children: {c: {hosts: {h: {}}}}, vars: {v: p1}}\n"
        "    p2: {children: {c: {}}, vars: {v: p2, w: p2}}\n"
    },
    "top level groups": {"hosts.yaml": "web: {hosts: {w1: {}}}\ndb: {hosts: {d1: {}}, vars: {v: 1}}\n"},
    "ungrouped": {"hosts.yaml": "all: {hosts: {lone: {}, h: {}}, children: {web: {hosts: {h: {}}}}}"},
    "ungrouped by name": {"hosts.yaml": "ungrouped: {hosts: {lone: {}}}\nweb: {hosts: {h: {}}}\n"},
    "a word for hosts": {"hosts.yaml": "all: {children: {web: {hosts: h1}}}"},
    "empty groups": {"hosts.yaml": "all: {hosts: {h: {}}, children: {web: {}, db: {hosts: {}}, x: {children: {y: }}}}"},
    "group vars files": {
        "hosts.yaml": "all: {children: {web: {hosts: {h: {}}, vars: {v: inline, w: inline}}}}",
        "group_vars/all.yml": "v: all-file\na: 1\n",
        "group_vars/web.yaml": "w: file\n",
        "host_vars/h.json": '{"b": 2}',
    },
    "group_vars all beats inline groups": {
        "hosts.yaml": "all: {children: {web: {hosts: {h: {}}, vars: {v: inline}}}}",
        "group_vars/all": "v: all-file\n",
    },
    "group vars directories": {
        "hosts.yaml": "all: {children: {web: {hosts: {h: {}}}}}",
        "group_vars/web/10-a.yml": "v: 1\nw: 1\n",
        "group_vars/web/20-b.yml": "v: 2\n",
        "group_vars/web/.hidden.yml": "v: 3\n",
        "group_vars/web/sub/c.yml": "c: 3\n",
    },
    "the first extension wins": {
        "hosts.yaml": "all: {hosts: {h: {}}}",
        "host_vars/h": "v: none\n",
        "host_vars/h.yml": "v: yml\n",
    },
    "host beats group": {
        "hosts.yaml": "all: {children: {web: {hosts: {h: {v: host}}, vars: {v: group}}}}",
        "group_vars/web.yml": "v: file\n",
    },
    "two sources": {
        "a.yaml": "all: {children: {web: {hosts: {h1: {x: a}}, vars: {v: a}}}}",
        "b.yaml": "all: {children: {web: {hosts: {h2: {}, h1: {x: b}}, vars: {v: b, w: b}}}}",
    },
    "a directory": {
        "site/01-hosts.yaml": "all: {children: {web: {hosts: {h1: {}}}}}",
        "site/02-more.yml": "all: {children: {web: {hosts: {h2: {}}, vars: {v: 2}}}}",
        "site/README.md": "not an inventory",
        "site/.hidden.yaml": "all: {hosts: {no: {}}}",
        "site/group_vars/web.yml": "w: 1\n",
    },
    "aliases and merge keys": {
        "hosts.yaml": "all:\n  vars:\n    base: &base {x: 1, y: 2}\n    mine: {<<: *base, y: 3}\n    same: *base\n  hosts: {h: {}}\n"
    },
    "yaml 1.1 words": {"hosts.yaml": "all: {hosts: {h: {a: yes, b: off, c: 0o17, d: 017, e: 1_000, f: 1.5, g: ~, i: '1'}}}"},
    "lists are replaced": {
        "hosts.yaml": "all: {vars: {l: [1, 2], m: {a: 1}}, children: {w: {hosts: {h: {}}, vars: {l: [3], m: {b: 2}}}}}"
    },
    "fleet is merged": {
        "hosts.yaml": "all:\n  vars: {fleet: {gpus: {model: MI300X, count: 8}, models_dir: /a}}\n"
        "  children:\n    web: {hosts: {h: {fleet: {gpus: {count: 4}}}, i: {}}, vars: {fleet: {models_dir: /b}}}\n"
    },
    "fleet in files": {
        "hosts.yaml": "all: {children: {web: {hosts: {h: {fleet: {builder: h}}}}}}",
        "group_vars/all.yml": "fleet: {gpus: {model: MI250, count: 8}, accept: {a: b}}\n",
        "group_vars/web.yml": "fleet: {gpus: {count: 16}, accept: {c: d}}\n",
        "host_vars/h.yml": "fleet: {models_dir: /m}\n",
    },
    "fleet from two sources": {
        "a.yaml": "all: {vars: {fleet: {models_dir: /a, gpus: {count: 1}}}, hosts: {h: {}}}",
        "b.yaml": "all: {vars: {fleet: {gpus: {model: MI210}}}, hosts: {h: {fleet: {gpus: {count: 2}}}}}",
    },
}  # fmt: skip
Asked = tuple[list[str], dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """Each case's sources, with Ansible's answers under hash_behaviour replace and merge."""
    root = tmp_path_factory.mktemp("inventories")
    sources = {}
    for number, (name, files) in enumerate(WRITTEN.items()):
        base = root / str(number)
        for path, text in files.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(text, encoding="utf-8")
        several = [str(base / one) for one in ("a.yaml", "b.yaml") if one in files]
        whole = [str(base / "site")] if (base / "site").is_dir() else [str(base / "hosts.yaml")]
        sources[name] = several or whole
    plain, merged = (_ask(list(sources.values()), behaviour) for behaviour in ("replace", "merge"))
    return {name: (paths, plain[index], merged[index]) for index, (name, paths) in enumerate(sources.items())}


def _ask(questions: list[list[str]], behaviour: str) -> list[dict[str, Any]]:
    env = {**os.environ, "ANSIBLE_HASH_BEHAVIOUR": behaviour, "ANSIBLE_DEPRECATION_WARNINGS": "0"}
    done = subprocess.run(
        (sys.executable, HERE / "ansible_lists.py"),
        input=json.dumps(questions), capture_output=True, text=True, check=False, timeout=120, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _hosts(listed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    everybody = {host for name, group in listed.items() if name != "_meta" for host in group.get("hosts", ())}
    return {host: listed["_meta"]["hostvars"].get(host, {}) for host in everybody}


def _members(listed: Mapping[str, Any], name: str) -> set[str]:
    group = listed.get(name, {})
    inside = set(group.get("hosts", ()))
    return inside.union(*(_members(listed, child) for child in group.get("children", ())))


@pytest.mark.parametrize("name", WRITTEN)
def test_hosts_groups_and_variables_are_ansibles(name: str, asked: dict[str, Asked]) -> None:
    sources, plain, merged = asked[name]
    ours = load(sources)
    theirs = _hosts(plain)
    assert set(ours.hosts) == set(theirs)
    for group in plain:
        if group != "_meta":
            assert set(ours.groups[group]) == _members(plain, group), group
    for host, variables in theirs.items():
        mine = dict(ours.hosts[host].variables)
        assert {key: value for key, value in mine.items() if key != "fleet"} == {
            key: value for key, value in variables.items() if key != "fleet"
        }, host
        assert mine.get("fleet") == _hosts(merged)[host].get("fleet"), host
