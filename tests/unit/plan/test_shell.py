"""Which steps need a shell: these two kinds, each with its reason; and what names what an engine makes of them."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from envsnap.model.debian import DebFile, NeedsShell, SystemPlan
from envsnap.model.layers import EnvironmentLayer, SystemLayer
from envsnap.model.lock import LockedConda
from envsnap.model.plan import HOME_IN_IMAGE, WORKSPACE, AptInstall, BuildPlan, MakeCondaEnvironment, MakeEnvironment, PinnedWheel, SetEnv
from envsnap.plan import shell
from envsnap.plan.layers import lay_out
from tests import samples
from tests.unit.plan.test_layers import known, made_plan

BASE = samples.digest("base")


def package(name: str) -> DebFile:
    return DebFile(name=name, version="1", arch="amd64", path=f"pool/{name}_1_amd64.deb", sha256=samples.hex64(name), size_bytes=1)


PACKAGES = SystemPlan(distribution="debian 12", arch="amd64", packages=(package("libfontconfig1"), package("fontconfig-config")))
SCRIPTED = replace(PACKAGES, needs_shell=(NeedsShell(package="fontconfig-config", because="its postinst asks"),))
EXPLICIT = ("https://conda.example.com/linux-64/demo-1-0.conda#" + "0" * 32,)


def of_conda(*, tree: str | None = None) -> BuildPlan:
    made = made_plan()
    step = MakeCondaEnvironment(tree=tree, explicit=() if tree else EXPLICIT, reason="as captured")
    return replace(made, steps=tuple(step if isinstance(one, MakeEnvironment) else one for one in made.steps))


def test_no_other_kind_of_step_needs_one() -> None:
    """Of the kinds, all are here but one that carries an interpreter, which is an archive that is unpacked."""
    made = made_plan()
    assert {type(step).__name__ for step in made.steps} == {
        *("SetEnv", "MakeEnvironment", "InstallWheels", "InstallPacked", "AptInstall", "CopySource", "Check")
    }
    assert shell.reasons(made, PACKAGES) == () and shell.shell_steps(made, PACKAGES, BASE) is None
    assert shell.reasons(of_conda(tree=samples.digest("tree")), None) == ()


@pytest.mark.parametrize("file", ["demo-1.0.tar.gz", "demo-1.0.zip", "demo-1.0.whl.tar.gz"])
def test_a_plan_cannot_even_name_an_sdist(file: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "demo", "version": "1.0", "file": file, "sha256": "0" * 64}, PinnedWheel)


def test_packages_whose_scripts_matter_do_and_each_is_told() -> None:
    (step,) = shell.reasons(made_plan(), SCRIPTED)
    assert (step.kind, step.because) == ("apt-install", "fontconfig-config: its postinst asks")
    many = replace(SCRIPTED, needs_shell=tuple(NeedsShell(package=f"p{number}", because="it does") for number in range(5)))
    (step,) = shell.reasons(made_plan(), many)
    assert step.because == "p0: it does; p1: it does; p2: it does; and 2 more"


def test_packages_that_conda_fetches_do_whatever_the_base() -> None:
    lock = samples.lock()
    assert shell.of_lock(lock) == ""
    for tree, found in ((None, True), (samples.digest("tree"), False)):
        said = shell.of_lock(replace(lock, python=replace(lock.python, conda=LockedConda(packages=(), tree=tree))))
        assert ("a conda client of the base" in said) == found == bool(said)
    (step,) = shell.reasons(of_conda(), None)
    assert step.kind == "make-conda-environment" and "--rescue conda" in step.because
    assert [step.kind for step in shell.reasons(of_conda(), SCRIPTED)] == ["make-conda-environment", "apt-install"]


def test_only_what_needs_a_shell_is_done_with_one() -> None:
    steps = shell.shell_steps(of_conda(), PACKAGES, BASE)
    assert steps is not None
    assert (steps.system, steps.explicit, steps.onto) == (None, EXPLICIT, BASE)  # these packages are a layer
    both = shell.shell_steps(of_conda(), SCRIPTED, BASE)
    assert both is not None and (both.system, both.explicit) == (SCRIPTED, EXPLICIT)
    assert shell.title(both) == "envsnap, by Docker: libfontconfig1, fontconfig-config, conda's packages"


def test_what_they_come_to_is_named_by_what_decides_it() -> None:
    steps = shell.shell_steps(made_plan(), SCRIPTED, BASE)
    assert steps is not None
    name = shell.recipe(steps)
    same = replace(steps, steps=(), system=replace(SCRIPTED, needs_shell=()))
    assert shell.recipe(same) == name  # why it needs a shell decides nothing
    for other in (
        replace(steps, onto=samples.digest("other")),
        replace(steps, env={"LD_LIBRARY_PATH": ""}),
        replace(steps, system=replace(SCRIPTED, packages=(package("other"),))),
        replace(steps, explicit=EXPLICIT),
    ):
        assert shell.recipe(other) != name


def test_the_variables_that_keep_the_base_quiet_hold_meanwhile() -> None:
    made = made_plan()
    before = SetEnv(name="PYTHONPATH", value="", reason="the base's")
    after = SetEnv(name="AFTER", value="1", reason="captured")
    steps = shell.shell_steps(replace(made, steps=(before, *made.steps, after)), SCRIPTED, BASE)
    assert steps is not None and steps.env["PYTHONPATH"] == "" and "AFTER" not in steps.env


def test_on_what_a_client_of_conda_made_there_is_no_other_environment_and_the_rest_is_laid() -> None:
    lock = samples.lock()
    lock = replace(lock, python=replace(lock.python, conda=LockedConda(packages=(), tree=None)))
    made = of_conda()
    assert any(isinstance(step, AptInstall) for step in made.steps)
    plan = lay_out(made, lock, known(made, system=PACKAGES.packages))
    assert isinstance(plan.layers[0], SystemLayer)
    assert plan.layers[1] == EnvironmentLayer(writable=(HOME_IN_IMAGE, WORKSPACE)) and len(plan.layers) > 4
