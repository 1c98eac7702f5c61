"""Which layers an image gets, and that a change moves few of them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap import catalog, plan
from envsnap.errors import PlanError
from envsnap.model.base import Base, BaseInventory, Directory, ImageConfig
from envsnap.model.debian import DebFile
from envsnap.model.layers import (
    AnyLayer,
    BytecodeLayer,
    EnvironmentLayer,
    LayerPlan,
    Layout,
    LockLayer,
    PlannedWheel,
    SourceLayer,
    SystemLayer,
    TreeLayer,
    WheelsLayer,
)
from envsnap.model.lock import LockedConda, LockedCondaPackage
from envsnap.model.plan import (
    AptInstall,
    BuildPlan,
    CarryInterpreter,
    ExtendBase,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    MakeEnvironment,
)
from envsnap.plan.layers import GROUP_BYTES, Ingredients, lay_out, link_in_the_way, own_recipe, recipe, title, wheel_layers
from tests import samples

MIB = 1 << 20
LAYOUT = Layout(python="3.11")
INVENTORY = BaseInventory(distribution="debian 12", python="3.11.2", python_path="/usr/bin/python3", complete=True)


def wheel(name: str, size_bytes: int, *, version: str = "1", source_bytes: int = 1000) -> PlannedWheel:
    sha256 = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    file = f"{name}-{version}-py3-none-any.whl"
    return PlannedWheel(name=name, version=version, file=file, sha256=sha256, size_bytes=size_bytes, source_bytes=source_bytes)


def made_plan() -> BuildPlan:
    base = Base(
        reference="localhost:5000/debian:bookworm-py311",
        family="other",
        digest="sha256:" + "b" * 64,
        config=ImageConfig(architecture="amd64"),
        inventory=INVENTORY,
    )
    return plan.make_plan(samples.lock(), catalog.load(), [base])


def known(made: BuildPlan, **changes: object) -> Ingredients:
    hashes = [wheel.sha256 for step in made.steps if isinstance(step, InstallWheels) for wheel in step.wheels]
    hashes += [package.blob.removeprefix("sha256:") for step in made.steps if isinstance(step, InstallPacked) for package in step.packages]
    values: dict[str, object] = {
        "wheels": dict.fromkeys(hashes, (MIB, 1000)),
        "inventory": INVENTORY,
        "base": "sha256:" + "c" * 64,
        "base_layers": 1,
        "lock": "sha256:" + "1" * 64,
    }
    return Ingredients(**(values | changes))  # type: ignore[arg-type]


def names(layer: AnyLayer) -> list[str]:
    assert isinstance(layer, WheelsLayer | BytecodeLayer)
    return [wheel.name for wheel in layer.wheels]


def test_large_wheels_lie_alone_and_below_and_what_changes_most_on_top() -> None:
    wheels = [wheel("small", MIB), wheel("torch", 500 * MIB), wheel("cublas", 600 * MIB, source_bytes=0), wheel("tiny", 10)]
    layers = wheel_layers(wheels, [wheel("mine", 5)], python="3.11.2", room=100)
    assert [(type(layer).__name__, names(layer)) for layer in layers] == [
        ("WheelsLayer", ["cublas"]),
        ("WheelsLayer", ["torch"]),
        ("BytecodeLayer", ["torch"]),  # cublas has no Python to compile
        ("WheelsLayer", ["small", "tiny"]),
        ("BytecodeLayer", ["small", "tiny"]),
        ("WheelsLayer", ["mine"]),
        ("BytecodeLayer", ["mine"]),
    ]


def test_no_byte_code_where_none_is_asked_for() -> None:
    layers = wheel_layers([wheel("a", 1)], [], python=None, room=100)
    assert not any(isinstance(layer, BytecodeLayer) for layer in layers)


SIZES = st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), st.integers(1, 3 * GROUP_BYTES), min_size=1, max_size=60
)


@given(SIZES)
def test_every_wheel_is_in_one_group_and_no_group_of_several_is_larger_than_the_limit(sizes: dict[str, int]) -> None:
    layers = wheel_layers([wheel(name, size) for name, size in sizes.items()], [], python=None, room=1000)
    groups = [layer.wheels for layer in layers if isinstance(layer, WheelsLayer)]
    assert sorted(one.name for group in groups for one in group) == sorted(sizes)
    assert all(len(group) == 1 or sum(one.size_bytes for one in group) <= GROUP_BYTES for group in groups)


@given(SIZES, st.data())
def test_a_new_version_moves_one_layer_and_no_other(sizes: dict[str, int], data: st.DataObject) -> None:
    before = [wheel(name, size) for name, size in sizes.items()]
    changed = data.draw(st.sampled_from(sorted(sizes)))
    after = [wheel(one.name, one.size_bytes, version="2") if one.name == changed else one for one in before]

    def recipes(wheels: list[PlannedWheel]) -> list[str]:
        return [recipe(layer, LAYOUT) for layer in wheel_layers(wheels, [], python=None, room=1000)]

    assert len(set(recipes(after)) - set(recipes(before))) == 1


@given(SIZES, st.randoms())
def test_the_order_of_the_wheels_does_not_count(sizes: dict[str, int], random: object) -> None:
    wheels = [wheel(name, size) for name, size in sizes.items()]
    assert wheel_layers(wheels, [], python="3.11.2", room=1000) == wheel_layers(wheels[::-1], [], python="3.11.2", room=1000)


def test_a_base_with_many_layers_leaves_fewer_and_larger_groups() -> None:
    wheels = [wheel(f"package{number}", 9 * MIB) for number in range(40)]
    many, few = wheel_layers(wheels, [], python=None, room=100), wheel_layers(wheels, [], python=None, room=6)
    assert len(few) <= 6 < len(many)
    with pytest.raises(PlanError, match="too many layers"):
        wheel_layers(wheels, [], python=None, room=0)


def test_a_recipe_hangs_on_bytes_and_layout_alone() -> None:
    layer = WheelsLayer(wheels=(wheel("a", 1),))
    same = WheelsLayer(wheels=(replace(layer.wheels[0], size_bytes=2, source_bytes=3),))
    assert recipe(layer, LAYOUT) == recipe(same, LAYOUT)
    others = {
        recipe(layer, Layout(python="3.12")),
        recipe(layer, Layout(python="3.11", directories={"opt": Directory(mode=0o2775, gid=50)})),
        recipe(WheelsLayer(wheels=(wheel("a", 1, version="2"),)), LAYOUT),
        recipe(WheelsLayer(wheels=(replace(layer.wheels[0], files="sha256:" + "0" * 64),)), LAYOUT),
        recipe(WheelsLayer(wheels=(replace(layer.wheels[0], extra={"a.pth": "/workspace/a\n"}),)), LAYOUT),
        recipe(BytecodeLayer(wheels=layer.wheels, version="3.11.2"), LAYOUT),
        recipe(BytecodeLayer(wheels=layer.wheels, version="3.11.7"), LAYOUT),
    }
    assert len(others | {recipe(layer, LAYOUT)}) == 8


def test_byte_code_knows_the_image_s_own_interpreter_and_its_recipe_does_not() -> None:
    def planned(interpreter: str | None, tree: str | None = None) -> BytecodeLayer:
        made = made_plan()
        if tree is not None:
            step = CarryInterpreter(path="/opt/envsnap/python", program="/opt/envsnap/python/bin/python3", tree=tree, reason="it lacks one")
            made = replace(made, steps=(step, *made.steps))
        inventory = replace(INVENTORY, python="3.11.2", interpreter=interpreter)
        return next(layer for layer in laid_out(made, inventory=inventory).layers if isinstance(layer, BytecodeLayer))

    one, two, none = planned("sha256:" + "1" * 64), planned("sha256:" + "2" * 64), planned(None)
    carried = planned(None, "sha256:" + "3" * 64)
    assert none.own == "" and len({one.own, two.own, carried.own, ""}) == 4
    assert recipe(one, LAYOUT) == recipe(two, LAYOUT) == recipe(none, LAYOUT) == own_recipe(none, LAYOUT)
    assert len({own_recipe(layer, LAYOUT) for layer in (one, two, none)}) == 3
    tree = BytecodeLayer(tree="sha256:" + "0" * 64, version="3.11.2")
    assert recipe(tree, LAYOUT) == recipe(replace(tree, own="1" * 64), LAYOUT)


def laid_out(made: BuildPlan, **changes: object) -> LayerPlan:
    return lay_out(made, samples.lock(), known(made, **changes))


def test_a_whole_plan_from_below() -> None:
    made = made_plan()
    system = (DebFile(name="libgl1", version="1.6.0-1", arch="amd64", path="pool/libgl1.deb", sha256="0" * 64, size_bytes=1),)
    planned = laid_out(made, system=system)
    kinds = [type(layer) for layer in planned.layers]
    assert kinds[:2] == [SystemLayer, EnvironmentLayer]
    assert kinds[-2:] == [SourceLayer, LockLayer]
    environment = planned.layers[1]
    assert isinstance(environment, EnvironmentLayer)
    assert (environment.interpreter, environment.version) == ("/usr/bin/python3", "3.11.2")
    assert environment.writable == ("/opt/envsnap/home", "/workspace")
    compiled = [layer for layer in planned.layers if isinstance(layer, BytecodeLayer)]
    assert compiled
    assert all(layer.version == "3.11.2" for layer in compiled)


def test_the_lock_layer_knows_the_source_only_where_it_travels() -> None:
    with_source = laid_out(made_plan()).layers[-1]
    assert isinstance(with_source, LockLayer)
    assert with_source.files == samples.lock().source.files  # type: ignore[union-attr]


def test_how_the_base_keeps_opt_is_kept() -> None:
    inventory = replace(INVENTORY, directories={"opt": Directory(mode=0o2775, gid=50)})
    assert laid_out(made_plan(), inventory=inventory).layout.directories["opt"].gid == 50


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("opt", "opt"),
        ("opt/envsnap", "opt/envsnap"),
        ("workspace", "workspace"),
        ("workspace/yolo", "workspace/yolo"),
        ("lib", None),
        ("opt/other", None),
        ("opt/envsnap/env/lib64", None),
    ],
)
def test_a_link_of_the_base_where_a_layer_has_a_directory_is_found(link: str, found: str | None) -> None:
    made = made_plan()
    assert made.workdir == "/workspace/yolo"
    assert link_in_the_way(made, replace(INVENTORY, links={link: "var/there"})) == found


def test_a_link_in_the_way_of_what_is_put_beside_a_bases_packages_is_found() -> None:
    extend = ExtendBase(
        python="python3", site="/usr/local/lib/python3.11/dist-packages", prefix="/usr/local", kept=1, reason="beside the base's"
    )
    made = made_plan()
    made = replace(made, steps=tuple(extend if isinstance(step, MakeEnvironment) else step for step in made.steps))
    for link, found in (("usr/local/lib", True), ("usr/local", True), ("usr/local/bin", True), ("usr/local/man", False)):
        assert link_in_the_way(made, replace(INVENTORY, links={link: "srv"})) == (link if found else None)
    assert laid_out(made).layout.lib64 == "directory"
    venv = replace(INVENTORY, links={"usr/local/lib64": "usr/local/lib"})
    assert laid_out(made, inventory=venv).layout.lib64 == "link"


@pytest.mark.parametrize("compile_", [True, False])
def test_condas_packages_lie_below_all_wheels_and_are_held_against_the_lock(compile_: bool) -> None:
    tree, files = "sha256:" + "0" * 64, "sha256:" + "f" * 64
    package = LockedCondaPackage(name="demo", version="1.0", build="h_0", url=None, sha256=None, md5=None, files=files)
    lock = samples.lock()
    lock = replace(lock, python=replace(lock.python, conda=LockedConda(packages=(package,), tree=tree)))
    made = made_plan()
    step = MakeCondaEnvironment(tree=tree, compile=compile_, reason="asked for")
    made = replace(made, steps=(step, *(one for one in made.steps if not isinstance(one, MakeEnvironment))))
    planned = lay_out(made, lock, known(made))
    below: list[AnyLayer] = [EnvironmentLayer(writable=("/opt/envsnap/home", "/workspace"))]
    below.append(TreeLayer(tree=tree, path="/opt/envsnap/env", conda={"demo-1.0-h_0": files}))
    if compile_:
        own = next(layer.own for layer in planned.layers if isinstance(layer, BytecodeLayer))
        below.append(BytecodeLayer(tree=tree, version=lock.python.version, own=own))
    assert planned.layers[: len(below)] == tuple(below)
    assert isinstance(planned.layers[len(below)], WheelsLayer)
    assert (planned.layout.lib64, laid_out(made_plan()).layout.lib64) == ("directory", "link")  # conda makes no link of it
    assert len({recipe(layer, planned.layout) for layer in planned.layers}) == len(planned.layers)
    other = replace(below[1], conda={"demo-1.0-h_0": "sha256:" + "e" * 64})
    assert recipe(other, planned.layout) != recipe(below[1], planned.layout)  # what was held against one lock is not against another


def test_every_layer_has_a_title_of_one_line() -> None:
    for layer in laid_out(made_plan()).layers:
        assert title(layer).startswith("envsnap: ")
        assert "\n" not in title(layer)


def test_system_packages_that_nobody_pinned_are_no_layer() -> None:
    made = made_plan()
    assert any(isinstance(step, AptInstall) for step in made.steps)
    assert not any(isinstance(layer, SystemLayer) for layer in laid_out(made).layers)
