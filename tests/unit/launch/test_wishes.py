"""What a person types of a launch, and what is refused of it."""

from __future__ import annotations

import os

import pytest

from envsnap.errors import UsageError
from envsnap.launch import wishes
from envsnap.model.launch import Mount, Passed, Port


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/mnt/coco", Mount(source="/mnt/coco", target="/mnt/coco", read_only=True)),
        ("data", Mount(source="/home/me/yolo/data", target="/home/me/yolo/data", read_only=True)),
        ("../runs:/runs:rw", Mount(source="/home/me/runs", target="/runs")),
        ("~/coco:/data:ro", Mount(source="/home/me/coco", target="/data", read_only=True)),
        ("~", Mount(source="/home/me", target="/home/me", read_only=True)),
        ("/mnt/coco:rw", Mount(source="/mnt/coco", target="/mnt/coco")),
        ("/mnt/a,b c", Mount(source="/mnt/a,b c", target="/mnt/a,b c", read_only=True)),
        ("~/.cache:/opt/envsnap/home/.cache:rw", Mount(source="/home/me/.cache", target="/opt/envsnap/home/.cache")),  # docs/run.md
        ("/c:/opt/envsnapper", Mount(source="/c", target="/opt/envsnapper", read_only=True)),
        ("/mnt/coco://data/./x", Mount(source="/mnt/coco", target="/data/x", read_only=True)),
    ],
)
def test_data(text: str, mount: Mount) -> None:
    assert wishes.mount(text, here="/home/me/yolo", home="/home/me") == mount


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not understood"),
        (":/data", "not understood"),
        ("/a:/b:/c", "not understood"),
        ("/a:/b:/c:rw", "not understood"),
        ("/a\n/b", "not understood"),
        ("/a:data", "no absolute path"),
        ("/a:", "not understood"),
        ("/a::rw", "not understood"),
        ("/usr", "has its own /usr"),
        ("/", "has its own /"),
        ("//", "has its own /"),
        ("/mnt:/opt/envsnap/env", "has its own"),
        ("/mnt:/opt/envsnap", "has its own"),
        ("/mnt:/opt/envsnap/home", "has its own"),
        ("/mnt:/opt/envsnap/home/../env", "has its own"),
        ("/mnt:/opt/../usr", "has its own /usr"),
        ("/proc/1", "has its own"),
    ],
)
def test_data_that_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        wishes.mount(text, here="/home/me", home="/home/me")


def test_two_at_one_place() -> None:
    with pytest.raises(UsageError, match="cannot both be at /data") as refused:
        wishes.require_apart((Mount(source="/a", target="/data"), Mount(source="/mnt/b", target="/data")))
    assert refused.value.hint == "--data /mnt/b:/data/b"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8888", Port(container=8888)),
        ("80:8888", Port(container=8888, host=80)),
        ("127.0.0.1:6006:6006", Port(container=6006, host=6006, address="127.0.0.1")),
        ("127.0.0.1::6006/udp", Port(container=6006, address="127.0.0.1", protocol="udp")),
        ("[::1]:80:80", Port(container=80, host=80, address="::1")),
    ],
)
def test_ports_as_docker_reads_them(text: str, port: Port) -> None:
    assert wishes.port(text) == port
    assert str(port) == text


@pytest.mark.parametrize("text", ["", "0", "65536", "80:", "a:80", "80:80/sctp", "80:80 --privileged", "::1:80:80", "80\n", "٣", "٣:80"])
def test_ports_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        wishes.port(text)


def test_variables() -> None:
    assert wishes.variable("HF_TOKEN") == Passed(name="HF_TOKEN")
    assert wishes.variable("A=") == Passed(name="A", value="")
    assert wishes.variable("A=b=c d") == Passed(name="A", value="b=c d")


@pytest.mark.parametrize("text", ["", "=x", "A B=1", "1A=2", "A-B", "Ä=1", "A\n=1", "A=\x00"])
def test_variables_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no name of a variable"):
        wishes.variable(text)


@pytest.mark.parametrize("text", ["WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567", "HF_TOKEN=x", "ANY=hf_" + "a" * 34])
def test_a_secret_is_passed_by_name_alone(text: str) -> None:
    with pytest.raises(UsageError, match="looks like a secret") as refused:
        wishes.variable(text)
    name, _, value = text.partition("=")
    said = f"{refused.value.what} {refused.value.why} {refused.value.hint}"
    assert f"export {name}=…" in said and (len(value) < 2 or value not in said)


@pytest.mark.parametrize(("text", "size"), [("8g", 8 << 30), ("512MB", 512 << 20), ("64m", 64 << 20), ("1GiB", 1 << 30), ("4096", 4096)])
def test_sizes(text: str, size: int) -> None:
    assert wishes.size(text) == size


@pytest.mark.parametrize("text", ["", "g", "0", "-1g", "8 g", "8gg", "1e3", "٣g", "9" * 5000])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        wishes.size(text)


def test_users() -> None:
    assert [wishes.user(text) for text in ("1000", "1000:100", "root", "image")] == ["1000", "1000:100", "root", ""]
    for text in ("", "a b", "1000:", ":100", "-1", "1000\n"):
        with pytest.raises(UsageError, match="not understood"):
            wishes.user(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("yolo-train", "yolo-train"),
        ("Yolo_Train.2", "yolo-train-2"),
        ("$(rm -rf /)\n", "rm-rf"),
        ("", "train"),
        ("ä", "train"),
        ("a" * 99, "a" * 63),
    ],
)
def test_names_of_jobs(text: str, name: str) -> None:
    assert wishes.name(text) == name


def test_text_that_is_no_utf_8() -> None:
    wishes.require_text("--data", "/mnt/ü→😀")
    with pytest.raises(UsageError, match="--data: it has bytes that are no UTF-8"):
        wishes.require_text("--data", os.fsdecode(b"/mnt/b\xff"))
