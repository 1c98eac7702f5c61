"""Which maintainer scripts matter."""

from __future__ import annotations

import io

import pytest

from envsnap.debian import scripts
from envsnap.debian.deb import Deb
from tests.unit.debian.conftest import make

SECTION = "# Automatically added by {}/13.11.4\n{}\n# End automatically added section\n"
HEAD = "#!/bin/sh\nset -e\n"
SKELETON = HEAD + (
    'case "$1" in\n    configure)\n    ;;\n    abort-upgrade|abort-remove|abort-deconfigure)\n    ;;\n    *)\n'
    '        echo "postinst called with unknown argument \\`$1\'" >&2\n        exit 1\n    ;;\nesac\n'
    "\n# dh_installdeb will replace this\n\nexit 0\n"
)
X11 = "if [ -f /usr/share/debconf/confmodule ]; then\n  . /usr/share/debconf/confmodule\n\n  db_purge\nfi\n"


def reasons(**files: str) -> list[str]:
    made = make("x", scripts=files)
    return list(scripts.matter(Deb(io.BytesIO(made.data), made.file)))


@pytest.mark.parametrize(
    "script",
    [
        HEAD,
        HEAD + "exit 0\n",
        SKELETON,
        "#! /bin/bash -e\n" + SECTION.format("dh_installdeb", 'dpkg-maintscript-helper rm_conffile /etc/x 1.0 -- "$@"'),
        HEAD + SECTION.format("dh_makeshlibs", "ldconfig") + SECTION.format("dh_installinit", "update-rc.d x defaults"),
        HEAD + "if which py3compile >/dev/null 2>&1; then\n\tpy3compile -p x /usr/share/python3/\nfi\n",
        HEAD + X11 + SECTION.format("dh_installinit", "update-rc.d x11-common defaults"),
    ],
)
def test_scripts_that_do_nothing_for_a_new_package(script: str) -> None:
    assert reasons(postinst=script) == []
    assert reasons(preinst=script) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (HEAD + "adduser --system x\n", "its postinst does more than unpacking (adduser --system x)"),
        (HEAD + X11 + "rm -rf /var/lib/x\n", "its postinst does more than unpacking (. /usr/share/debconf/confmodule)"),
        (HEAD + X11.replace("db_purge", "db_input"), "its postinst does more than unpacking (. /usr/share/debconf/confmodule)"),
        (HEAD + SECTION.format("dh_installsysusers", "systemd-sysusers x.conf"), "its postinst does what dh_installsysusers generated"),
        (HEAD + SECTION.format("dh_made_up", "true"), "its postinst does what dh_made_up generated"),
        (HEAD + SECTION.format("dh_makeshlibs", "ldconfig").replace("# End", "# Ende"), "its postinst does more than unpacking (ldconfig)"),
        (
            SKELETON.replace("configure)\n", "configure)\n  chmod 4755 /usr/bin/x\n"),
            "its postinst does more than unpacking (chmod 4755 /usr/bin/x)",
        ),
        (SKELETON.replace("exit 1\n", "rm /x\n"), "its postinst does more than unpacking (rm /x)"),
        ("#!/usr/bin/perl\n", "its postinst is for /usr/bin/perl"),
        ("#!/bin/shady\n", "its postinst is for /bin/shady"),
    ],
)
def test_scripts_that_matter_are_named(script: str, reason: str) -> None:
    assert reasons(postinst=script) == [reason]


def test_triggers_and_questions() -> None:
    assert reasons(triggers="# by debhelper\nactivate-noawait ldconfig\ninterest-noawait /usr/share/x\n") == []
    assert reasons(triggers="activate-noawait update-initramfs\n") == ["it triggers update-initramfs"]
    assert reasons(config="#!/bin/sh\ndb_go\n") == ["its config does more than unpacking (db_go)"]
    assert reasons(prerm=HEAD + "rm -rf /\n", postrm=HEAD + "deluser x\n") == []


def test_files_that_other_packages_make_something_of() -> None:
    schema = "usr/share/glib-2.0/schemas/org.example.xml"
    assert list(scripts.watched([schema], {"libglib2.0-0", "x"})) == [f"libglib2.0-0 has to process its {schema}"]
    assert list(scripts.watched([schema, "usr/bin/x"], {"x"})) == []
    assert list(scripts.watched(["usr/bin/x", "usr/lib/x86_64-linux-gnu/gio/modules"], {"libglib2.0-0"})) == []


def test_what_was_reviewed_is_one_text_on_every_architecture() -> None:
    text = "rm /usr/lib/x86_64-linux-gnu/x\n"
    assert scripts.fingerprint(text) == scripts.fingerprint(text.replace("x86_64", "aarch64"))
    assert scripts.fingerprint(text) != scripts.fingerprint(text.replace("x86_64", "i386"))
