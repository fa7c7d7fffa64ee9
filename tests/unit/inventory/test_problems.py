"""Bad inventories: every mistake at its place, in words, all at once."""

from pathlib import Path

import pytest

from fleet.errors import InputError, UsageError
from fleet.inventory import load, select

FLEET = "all:\n  hosts: {a: , b: }\n  vars:\n    fleet:\n"


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "i.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load([str(path)])
    return str(caught.value).replace(f"{tmp_path}/", "")


CASES = {
    "syntax": ("all: {hosts: [a\n", "i.yaml:2:1: YAML syntax"),
    "ini": ("[web]\nhost1 x=1\n", "INI inventory"),
    "unknown key": (
        FLEET + "      modles_dir: /x\n",
        "i.yaml:5:7: fleet.modles_dir: unknown key (did you mean models_dir?)",
    ),
    "unknown group key": (
        "all: {host: {a: }}\n",
        "i.yaml:1:7: all: unknown key 'host' in a group (did you mean hosts?)",
    ),
    "two bases": (
        FLEET + "      image: {name: v, source: {ref: m, base_image: 'a:b', base: {}}}\n",
        "fleet.image.source.base_image: there is a base of one's own (source.base) as well",
    ),
    "two bases by an argument": (
        FLEET + "      image: {name: v, source: {ref: m, args: {BASE_IMAGE: 'a:b'}, base: {}}}\n",
        "fleet.image.source.args.BASE_IMAGE: there is a base of one's own",
    ),
    "unknown key of a base": (
        FLEET + "      image: {name: v, source: {ref: m, base: {dockerfile: d}}}\n",
        "fleet.image.source.base.dockerfile: unknown key",
    ),
    "two kinds without a strategy": (
        FLEET + "      image: {name: v, source: {ref: m}, prebuilt: 'a:b'}\n",
        "not source and prebuilt (`source: null` drops an inherited one; strategy: auto chooses)",
    ),
    "no such strategy": (
        FLEET + "      image: {name: v, source: {ref: m}, strategy: own-base}\n",
        "fleet.image.strategy: must be one of prebuilt, source, own_base, auto, not own-base (did you mean own_base?)",
    ),
    "strategy without its kind": (
        FLEET + "      image: {name: v, strategy: own_base, prebuilt: 'a:b'}\n",
        "i.yaml:5:34: fleet.image.strategy: own_base needs source, which is not there",
    ),
    "strategy prebuilt of a source": (
        FLEET + "      image: {name: v, strategy: prebuilt, source: {ref: m}}\n",
        "i.yaml:5:34: fleet.image.strategy: prebuilt needs prebuilt, which is not there",
    ),
    "strategy of an archive": (
        FLEET + "      image: {name: v, strategy: auto, archive: a.tar}\n",
        "i.yaml:5:34: fleet.image.strategy: an archive leaves nothing to choose",
    ),
    "strategy of nothing": (
        FLEET + "      image: {name: v, strategy: auto}\n",
        "i.yaml:5:34: fleet.image.strategy: there is nothing to choose from (source, prebuilt or both)",
    ),
    "a policy that cannot be met": (
        FLEET + "      image: {name: v, prebuilt: 'a:b', require_source: true}\n",
        "i.yaml:5:57: fleet.image.require_source: asks for a build from source, and the image is prebuilt",
    ),
    "a policy against its strategy": (
        FLEET + "      image: {name: v, source: {ref: m}, prebuilt: 'a:b', strategy: prebuilt, require_source: true}\n",
        "fleet.image.require_source: asks for a build from source, and the image is prebuilt",
    ),
    "a strategy for a relay": (
        FLEET + "      relay: {image: {prebuilt: 'registry:2', strategy: auto}}\n",
        "i.yaml:5:57: fleet.relay.image.strategy: a relay's registry is not built from source",
    ),
    "wrong type": (
        FLEET + "      gpus: {count: many}\n",
        "i.yaml:5:21: fleet.gpus.count: must be a whole number, not a string",
    ),
    "unknown card": (
        FLEET + "      gpus: {model: MI300Z}\n",
        "i.yaml:5:21: fleet.gpus.model: no GPU target is known of a card 'MI300Z' (did you mean MI300X?; for another",
    ),
    "unknown card of a build without targets": (
        FLEET + "      gpus: {model: B200}\n      image: {name: v, source: {ref: m}}\n",
        "fleet.gpus.model: no GPU target is known of a card 'B200' (known are MI100, MI210,",
    ),
    "hosts as a list": ("all: {hosts: [a, b]}\n", "i.yaml:1:14: all.hosts: must be a mapping, not a list"),
    "duplicate": ("all:\n  hosts: {a: }\n  hosts: {b: }\n", "i.yaml:3:3: duplicate key 'hosts', first on line 2"),
    "merged twice": (
        "all:\n  vars: {x: &x {a: 1}}\n  hosts:\n    h:\n      <<: *x\n      <<: *x\n",
        "i.yaml:6:7: duplicate key '<<', first on line 5 (write `<<: [*one, *two]`)",
    ),
    "jinja": (FLEET + "      models_dir: '{{ x }}'\n", "Jinja is not supported inside fleet"),
    "vault": (FLEET + "      builder: !vault |\n        abc\n", "!vault is not supported inside fleet"),
    "whole fleet by vault": ("all: {hosts: {a: {fleet: !vault x}}}\n", "!vault is not supported inside fleet"),
    "unsafe": (FLEET + "      accept: {x: !unsafe y}\n", "fleet.accept.x: !unsafe is not supported"),
    "jinja connection": ("all: {hosts: {a: {ansible_host: '{{ x }}'}}}\n", "ansible_host: Jinja is not supported"),
    "become method": ("all: {hosts: {a: {ansible_become_method: su}}}\n", "'su' is not supported (fleet becomes"),
    "connection": ("all: {hosts: {a: {ansible_connection: local}}}\n", "'local' is not supported (fleet reaches"),
    "port": ("all: {hosts: {a: {ansible_port: 70000}}}\n", "must be a port from 1 to 65535"),
    "open quote": ('all: {hosts: {a: {ansible_ssh_common_args: "-o \'x"}}}\n', "a quote is not closed"),
    "cycle": ("all: {children: {x: {children: {y: {children: {x: }}}}}}\n", "hold each other in a cycle"),
    "own child": ("x: {children: {x: }}\n", "hold each other in a cycle"),
    "plain secret": (
        FLEET + "      registry: {host: r.corp, password: geheim}\n",
        "a secret is a reference, not a string (write {env: NAME}",
    ),
    "two secrets": (
        FLEET + "      registry: {host: r.corp, password: {env: A, file: b}}\n",
        "exactly one of env, file and command",
    ),
    "no image source": (FLEET + "      image: {name: x}\n", "exactly one of source, prebuilt and archive"),
    "two image sources": (
        FLEET + "      image: {name: x, prebuilt: y, archive: z}\n",
        "not prebuilt and archive (`prebuilt: null`",
    ),
    "image name with two dots": (
        FLEET + "      image: {name: a..b, prebuilt: y}\n",
        "i.yaml:5:21: fleet.image.name: must be a name",
    ),
    "image name with two slashes": (
        FLEET + "      image: {name: a//b, prebuilt: y}\n",
        "fleet.image.name: must be a name",
    ),
    "reference": (
        FLEET + "      image: {name: v, prebuilt: 'rocm/Vllm:1'}\n",
        "i.yaml:5:34: fleet.image.prebuilt: 'rocm/Vllm:1': 'rocm/Vllm' is no",
    ),
    "base reference": (
        FLEET + "      image: {name: v, source: {ref: m, base_image: 'a:b:c'}}\n",
        "i.yaml:5:53: fleet.image.source.base_image: 'a:b:c': 'library/a:b' is no image name",
    ),
    "registry without dot and port": (
        FLEET + "      registry: {host: registry}\n",
        "must be a host with a dot or a port",
    ),
    "registry with a scheme": (
        FLEET + "      registry: {host: 'https://r.corp'}\n",
        "must be a host with a dot or a port",
    ),
    "registry with a path": (FLEET + "      registry: {host: 'r.corp/team'}\n", "a path belongs into image.name"),
    "registries": (
        FLEET + "      registries: {'https://r.corp': {}, 'r.corp': {user: x}}\n",
        "i.yaml:5:20: fleet.registries.https://r.corp: the key must be a host with a dot or a port",
    ),
    "key of registries": (
        FLEET + "      registries: {r.corp: {user: x}}\n",
        "fleet.registries.r.corp.user: unknown key",
    ),
    "shm_size": (
        FLEET + "      services: {x: {model: m, shm_size: sixteen}}\n",
        "i.yaml:5:42: fleet.services.x.shm_size: must be a size such as 16g or 512m, not 'sixteen'",
    ),
    "volume": (
        FLEET + "      services: {x: {model: m, volumes: ['nope:x']}}\n",
        "i.yaml:5:42: fleet.services.x.volumes[0]: must be HOST:CONTAINER or HOST:CONTAINER:ro",
    ),
    "secret's name": (
        FLEET + "      services: {x: {model: m, secrets: {BAD-NAME: {env: X}}}}\n",
        "i.yaml:5:42: fleet.services.x.secrets.BAD-NAME: the key must be a name that a shell exports",
    ),
    "variable's name": (
        FLEET + "      services: {x: {model: m, env: {A=B: c}}}\n",
        "fleet.services.x.env.A=B: the key must be",
    ),
    "ulimit's name": (
        FLEET + "      services: {x: {model: m, ulimits: {nofiles: 5}}}\n",
        "fleet.services.x.ulimits.nofiles: the key must be one of",
    ),
    "service's name": (
        FLEET + "      services: {'x y': {model: m}}\n",
        "fleet.services.x y: the key 'x y' does not fit",
    ),
    "builder": (FLEET + "      builder: nobody\n", "i.yaml:5:16: fleet.builder: nobody is not in the inventory"),
    "ports": (
        FLEET + "      services: {x: {model: m, replicas: 3}, y: {model: m, port: 8002}}\n",
        "fleet.services.y.port: port 8002 on a is also that of x",
    ),
    "boolean env": (FLEET + "      services: {x: {model: m, env: {A: yes}}}\n", "not a boolean (quote it)"),
    "restart": (FLEET + "      services: {x: {model: m, restart: no}}\n", 'quote it: "no"'),
    "bad service": (FLEET + "      services: {x: {}}\n", "model is missing"),
    "bool key": (FLEET + "      accept: {on: x}\n", "the key True must be a string (quote it)"),
    "service pattern": (FLEET + "      services: {x: {model: m, hosts: nosuch}}\n", "no host matches 'nosuch'"),
    "number as host": ("all: {hosts: {1: }}\n", "a host's name must be a string, not 1"),
    "huge range": ("all: {hosts: {'h[1:999999999]': }}\n", "makes more than 10000 hosts"),
    "huge product": ("all: {hosts: {'h[0:999][0:999][0:999]': }}\n", "makes more than 10000 hosts"),
    "backward range": ("all: {hosts: {'h[9:1]': }}\n", "the range is empty"),
    "zero step": ("all: {hosts: {'h[1:9:0]': }}\n", "step of a host range"),
    "empty": ("# nothing\n", "i.yaml: is empty"),
    "list": ("- a\n", "an inventory is a mapping, not a list"),
    "plugin": ("plugin: aws_ec2\n", "configuration of an Ansible inventory plugin"),
    "binary": ("\udc80\udc81", "is not UTF-8 text"),
    "nul": ("all: \0", "YAML syntax"),
    "tag": ("all: !!python/object/apply:os.system [x]\n", "is not known here"),
    "deep": ("a: " + "[" * 500 + "]" * 500, "nested deeper than"),
    "own alias": ("all: &a {vars: {x: *a}}\n", "holds itself"),
    "bomb": (
        "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "once aliases are followed",
    ),
    "long number": ("all: {vars: {x: " + "9" * 5000 + "}}\n", "is not a valid int"),
    "date": ("all: {vars: {x: 2024-99-99}}\n", "is not a valid timestamp"),
    "two documents": ("all: {}\n---\nall: {}\n", "more than one YAML document"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_inventory_is_told_in_words(case: str, tmp_path: Path) -> None:
    text, expected = CASES[case]
    assert expected in problems(tmp_path, text)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = FLEET + "      modles_dir: 1\n      gpus: {count: x}\n  hosts2: {}\nb: {hosts: {c: {ansible_port: x}}}\n"
    assert len(problems(tmp_path, text).splitlines()) == 4


def test_missing_inventory_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text("all: {}", encoding="utf-8")
    with pytest.raises(InputError, match=r"prdo: no such inventory \(in .*: prod\)"):
        load(["prdo"], search=tmp_path)


def test_ini_file_in_a_directory_is_one_clear_problem(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("[a]\nb\n", encoding="utf-8")
    with pytest.raises(InputError, match="ansible-inventory -i FILE --list --yaml"):
        load([str(tmp_path)])


def test_an_unknown_card_is_right_where_every_image_names_its_targets(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    images = (
        "      image: {name: v, source: {ref: m, gfx: [gfx1250]}}\n"
        "      services: {chat: {model: m, image: {prebuilt: 'a:b', gfx: [gfx1250]}}}\n"
    )
    path.write_text(FLEET + "      gpus: {model: MI999}\n" + images)
    assert load([str(path)]).hosts["a"].settings.gpus.model == "MI999"


def test_jinja_and_vault_outside_fleet_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_text("all: {hosts: {a: {mine: '{{ x }}', other: !vault abc, third: !unsafe '{{'}}}\n", encoding="utf-8")
    assert load([str(path)]).hosts["a"].variables["mine"] == "{{ x }}"


def test_empty_selection_names_the_groups_and_suggests(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_text("web: {hosts: {a: }}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"no host matches 'wep' \(did you mean web\?"):
        select(load([str(path)]), "wep")


def test_a_template_does_not_hide_the_other_problems(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "all:\n  hosts: {n1: }\n  vars:\n    fleet:\n      gpu: {model: MI300X}\n"
        "      services: {chat: {model: m, port: '8000'}}\n"
        "      image: {name: x, prebuilt: 'a:b', archive: c.tar}\n"
        "      registry: {host: '{{ reg }}', password: hunter2}\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError) as caught:
        load([str(path)])
    paths = [problem.path for problem in caught.value.problems]
    assert paths == [
        "fleet.gpu",
        "fleet.services.chat.port",
        "fleet.image",
        "fleet.registry.host",
        "fleet.registry.password",
    ]
