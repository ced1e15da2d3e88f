import dataclasses
import os
import time
from pathlib import Path

import pytest

from sandbox.images import KEPT, RECIPES, ImageError, build, key, oci
from sandbox.images.layers import Layer, Source, Workspace, build_layer
from sandbox.images.steps import Copy, GoModule, Packages, Script

debian = Layer("debian", None, (Packages(("bash",)),))


def test_a_layer_whose_version_changes_has_another_key() -> None:
    older = Layer("program", debian, (GoModule("example.org/x", "v1.0.0", ".", "/x"),))
    newer = Layer("program", debian, (GoModule("example.org/x", "v1.0.1", ".", "/x"),))

    assert older.key != newer.key


def test_a_layer_on_another_parent_has_another_key() -> None:
    other = Layer("debian", None, (Packages(("bash", "dash")),))

    assert Layer("x", debian, ()).key != Layer("x", other, ()).key


def test_a_layer_whose_source_changes_has_another_key(tmp_path: Path) -> None:
    source = tmp_path / "program.py"
    source.write_text("print(1)\n")
    layer = Layer("x", debian, (Copy(Source(str(source)), "/program.py", 0o755),))
    before = layer.key
    source.write_text("print(2)\n")

    assert layer.key != before


def test_a_folder_with_a_file_more_or_one_renamed_is_another_source(tmp_path: Path) -> None:
    folder = Source(str(tmp_path))
    (tmp_path / "a").write_text("x")
    one = repr(folder)
    (tmp_path / "b").write_text("")
    two = repr(folder)
    (tmp_path / "b").rename(tmp_path / "c")

    assert len({one, two, repr(folder)}) == 3


def test_byte_code_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    before = repr(Source(str(tmp_path)))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("y")

    assert repr(Source(str(tmp_path))) == before


@pytest.mark.parametrize("change", [{"version": "0"}, {"user": "1:1"}, {"path": "/x"}])
def test_an_image_that_tells_the_runtime_something_else_has_another_key(change: dict) -> None:
    recipe = RECIPES["charm-base"]

    assert key(dataclasses.replace(recipe, **change)) != key(recipe)


def test_the_paths_of_this_clone_are_in_no_key() -> None:
    here = str(Path(__file__).parents[3])

    assert not [name for name, recipe in RECIPES.items() if here in repr(recipe)]


def test_images_share_the_layers_beneath_them() -> None:
    lowest = {recipe.layer.lineage[0].key for recipe in RECIPES.values()}

    assert len(lowest) == 1


def test_an_image_in_the_cache_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "tree").mkdir()
    tar = tmp_path / "images" / f"charm-base-{key(RECIPES['charm-base'])}.tar"
    reference = oci.write_image(tar, "localhost/katonic/charm-base", "1", [tmp_path / "tree"], {})
    said: list[str] = []

    images = build(["charm-base"], said.append)

    assert (images["charm-base"].reference, images["charm-base"].tar) == (reference, tar)
    assert said == []


@pytest.mark.skipif(os.geteuid() != 0, reason="images are built as root")
def test_a_build_removes_what_none_asked_for_in_two_weeks_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(workspace: Workspace) -> None:
        raise ImageError("enough")

    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    broken = dataclasses.replace(RECIPES["charm-base"], layer=Layer("broken", None, (fail,)))
    monkeypatch.setitem(RECIPES, "charm-base", broken)
    old, young = time.time() - KEPT - 60, time.time() - KEPT + 3600
    for name, asked in (("old", old), ("young", young)):
        (tmp_path / "images/layers" / name).mkdir(parents=True)
        (tmp_path / f"images/{name}.tar").touch()
        for path in (f"images/layers/{name}", f"images/{name}.tar"):
            os.utime(tmp_path / path, (asked, asked))

    with pytest.raises(ImageError, match="enough"):
        build(["charm-base"], print)

    assert [it.name for it in tmp_path.glob("images/*.tar")] == ["young.tar"]
    assert [it.name for it in tmp_path.glob("images/layers/*")] == ["young"]


def test_an_image_that_a_build_asks_for_is_young_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    (tmp_path / "images").mkdir()
    tar = tmp_path / "images" / f"charm-base-{key(RECIPES['charm-base'])}.tar"
    oci.write_image(tar, "localhost/katonic/charm-base", "1", [], {})
    os.utime(tar, (0, 0))

    build(["charm-base"], print)

    assert time.time() - tar.stat().st_mtime < KEPT


def test_a_name_without_a_recipe_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match=r"no image 'mongodb'; there are: .*postgresql"):
        build(["mongodb"], print)


def test_a_layer_that_fails_is_not_in_the_cache_and_says_why(tmp_path: Path) -> None:
    def fail(workspace: Workspace) -> None:
        workspace.run(["sh", "-c", "echo no space left >&2; exit 3"])

    layer = Layer("broken", None, (fail,))
    with pytest.raises(ImageError, match=r"sh failed \(3\): no space left .*broken\.log"):
        build_layer(layer, tmp_path, print)

    assert not layer.tree(tmp_path).exists()


def test_a_script_is_part_of_its_layer() -> None:
    assert Layer("x", None, (Script("true"),)).key != Layer("x", None, (Script("false"),)).key
