"""The configuration: every key once, layers in order, and messages that name the key."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toiletspark.config.loading import base_text, conf_folder, known_keys, load
from toiletspark.errors import ConfigError

SHIPPED = (
    "base.toml",
    "cluster.toml",
    "larger.toml",
    "local.toml",
    "demo.toml",
    "mytables.example.toml",
)
EVERYTHING = "the keys and values that conf/base.toml explains"
FREE_TABLES = {
    "sample.strata",
    "spark.settings",
    "listings.options",
    "images.options",
    "feed.options",
    "labels.table.options",
}


def file(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(files: list[Path] | None = None, sets: list[str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(files or [], sets or [])
    return caught.value


@pytest.mark.parametrize(
    ("formats", "found"),
    [
        ('["JPG"]', "decode.formats.0 = 'JPG': Value error, Pillow reads no JPG (did you mean 'J"),
        ('["HEIC", "JPEG"]', "decode.formats.0 = 'HEIC': Value error, Pillow reads no HEIC"),
        ('["JPEG", "TIF"]', "decode.formats.1 = 'TIF': Value error, Pillow reads no TIF (did you "),
        ('["PDF"]', "Pillow reads no PDF"),  # it only writes them
    ],
)
def test_a_format_that_pillow_does_not_read_is_no_format(formats: str, found: str) -> None:
    assert found in refused(sets=[f"decode.formats={formats}"]).found


def test_formats_may_be_written_small() -> None:
    decode = load([], ['decode.formats=["jpeg", "Tiff"]']).decode
    assert decode.formats == ["JPEG", "TIFF"]


def test_a_format_that_this_pillow_was_built_without_is_no_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: name != "avif")
    assert "built without AVIF" in refused(sets=['decode.formats=["AVIF"]']).found


# Keys and files


def dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict) and f"{prefix}{key}" not in FREE_TABLES:
            yield from dotted(value, f"{prefix}{key}.")


def test_base_toml_holds_exactly_the_known_keys() -> None:
    assert sorted(dotted(tomllib.loads(base_text()))) == sorted(known_keys())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_loads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")
    config = load([Path(str(conf_folder() / name))])
    if name == "mytables.example.toml":
        assert config.labels.folder == "/home/ada/toilet-labelling"


def test_no_shipped_file_was_forgotten_above() -> None:
    assert sorted(
        path.name for path in conf_folder().iterdir() if path.name.endswith(".toml")
    ) == sorted(SHIPPED)


@pytest.mark.parametrize("name", ["cluster.toml", "larger.toml", "local.toml", "demo.toml"])
def test_a_shipped_file_holds_only_what_differs(name: str) -> None:
    base = load().resolved()
    for key, value in leaves(tomllib.loads((conf_folder() / name).read_text())):
        if key not in (
            "labels.classes",
            "labels.exclude_classes",
        ):  # the demo repeats what it depends on
            assert at(base, key) != value, f"{name} repeats {key} of base.toml"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}\x00")
        else:
            yield f"{prefix}{key}".replace("\x00", "."), value


def at(values: dict[str, Any], key: str) -> Any:
    section, _, rest = key.partition(".")
    if section == "spark" and rest.startswith("settings."):
        return values["spark"]["settings"].get(rest.removeprefix("settings."))
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


# Layers


def test_later_files_win_and_sets_win_over_files(tmp_path: Path) -> None:
    first = file(tmp_path, "[sample]\nsize = 1\nseed = 1\nmin_per_stratum = 1", "first.toml")
    second = file(tmp_path, "[sample]\nsize = 2\nseed = 2", "second.toml")
    sample = load([first, second], ["sample.size=3", "sample.size=4"]).sample
    assert (sample.size, sample.seed, sample.min_per_stratum, sample.method) == (
        4,
        2,
        1,
        "sampleby",
    )


def test_the_order_of_files_decides(tmp_path: Path) -> None:
    first = file(tmp_path, "[sample]\nsize = 1", "first.toml")
    second = file(tmp_path, "[sample]\nsize = 2", "second.toml")
    assert (load([first, second]).sample.size, load([second, first]).sample.size) == (2, 1)


def test_tables_are_merged_and_lists_are_replaced(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        '[labels]\nclasses = ["toilet", "bathroom", "other"]\n[spark.settings]\n"spark.a" = "1"',
    )
    config = load([path])
    assert config.labels.classes == ["toilet", "bathroom", "other"]
    assert config.labels.max_side_px == 640
    assert config.spark.settings["spark.a"] == "1"
    assert config.spark.settings["spark.speculation"] == "false"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("sample.size=20000", "sample.size", 20000),
        ("sample.seed=-3", "sample.seed", -3),
        ("publish.hysteresis=0.25", "publish.hysteresis", 0.25),
        ("publish.min_recall=1", "publish.min_recall", 1.0),
        (
            'labels.classes=["toilet", "bath", "other"]',
            "labels.classes",
            ["toilet", "bath", "other"],
        ),
        ("sample.method=exact", "sample.method", "exact"),
        ('sample.method="exact"', "sample.method", "exact"),
        ("images.path=s3://lake/images/?a=b=c", "images.path", "s3://lake/images/?a=b=c"),
        ("images.columns.content=", "images.columns.content", ""),
        (" sample.size = 7", "sample.size", 7),
        ('images.options={ header = "true" }', "images.options", {"header": "true"}),
    ],
)
def test_a_set_takes_toml_or_a_plain_string(text: str, key: str, value: object) -> None:
    assert at(load(sets=[text]).resolved(), key) == value


def test_a_boolean_is_taken_as_one_and_refused_where_none_belongs() -> None:
    error = refused(sets=["images.options={ header = true }"])
    assert error.found == "images.options.header = True: Input should be a valid string"


@pytest.mark.parametrize(
    ("text", "found"),
    [("sample.size", "no '='"), ("=3", "no key before the '='"), (" =3", "no key before the '='")],
)
def test_a_set_without_key_or_equals_sign_is_explained(text: str, found: str) -> None:
    error = refused(sets=[text])
    assert str(error) == (
        f"while reading --set {text}\n"
        "  expected: section.key=value, as in --set sample.size=20000\n"
        f"  found:    {found}\n"
        "  do:       write the key, an equals sign and the value"
    )


# Mistakes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "publish.treshold=0.4",
            "unknown key 'publish.treshold' (did you mean 'publish.operating_threshold'?)",
        ),
        ("sampel.size=4", "unknown key 'sampel' (did you mean 'sample'?)"),
        ("sample.sise=4", "unknown key 'sample.sise' (did you mean 'sample.size'?)"),
        (
            "images.columns.image_ulr=u",
            "unknown key 'images.columns.image_ulr' (did you mean 'images.columns.image_url'?)",
        ),
        (
            "labels.table.columns.clas=c",
            "unknown key 'labels.table.columns.clas' (did you mean 'labels.table.columns.class'?)",
        ),
        ("zzz=1", "unknown key 'zzz'"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_known_one_named(text: str, found: str) -> None:
    error = refused(sets=[text])
    assert str(error) == (
        f"while reading the configuration (--set {text})\n"
        f"  expected: {EVERYTHING}\n"
        f"  found:    {found}\n"
        "  do:       correct the keys named above"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sample.size=many", "sample.size = 'many': Input should be a valid integer"),
        ("sample.size=0", "sample.size = 0: Input should be greater than or equal to 1"),
        ("sample.method=random", "sample.method = 'random': Input should be 'sampleby' or 'exact'"),
        (
            "publish.operating_threshold=1.5",
            "publish.operating_threshold = 1.5: Input should be less than or equal to 1",
        ),
        ("publish.operating_threshold=nan", "publish.operating_threshold = nan: "),
        ("train.validation_share=1", "train.validation_share = 1: Input should be less than 1"),
        ("labels.classes=toilet", "labels.classes = 'toilet': Input should be a valid list"),
        ("sample=5", "sample = 5: "),
        ("images.format=", "images.format = '': String should have at least 1 character"),
        ("images.version=v3", "images.version = 'v3': String should match pattern"),
        ("output.root=", "output.root = '': "),
        ("backbone.weights=", "backbone.weights = '': "),
        ("fetch.timeout_s=0", "fetch.timeout_s = 0: Input should be greater than 0"),
        (
            "embed.retry=always",
            "embed.retry = 'always': Input should be 'none', 'transient' or 'failed'",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_key(text: str, found: str) -> None:
    error = refused(sets=[text])
    assert error.found.startswith(found)
    assert (error.expected, error.todo) == (EVERYTHING, "correct the keys named above")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"path": "/a", "table": "b"}, "one of path, table and query, not path and table"),
        (
            {"path": "/a", "table": "b", "query": "c"},
            "one of path, table and query, not path and table and query",
        ),
        ({"where": "a = 1"}, "where and version need one of path, table and query"),
        ({"version": 7}, "where and version need one of path, table and query"),
        ({"path": "/a", "version": 7}, "the format FORMAT keeps no versions"),
        ({"table": "b", "format": "jdbc", "version": 7}, "the format jdbc keeps no versions"),
        ({"query": "c", "version": 7}, "a query has no version; write VERSION AS OF into it"),
        ({"path": "/a", "format": "jdbc"}, "the format jdbc needs table or query, not path"),
        (
            {"table": "b", "options": {"sep": ";"}},
            "options are for files and databases; a table takes none",
        ),
    ],
)
@pytest.mark.parametrize("section", ["listings", "images", "labels.table", "overrides", "feed"])
def test_each_of_the_users_tables_has_one_source(
    section: str, values: dict[str, Any], found: str
) -> None:
    sets = []
    for key, value in values.items():
        text = '{ sep = ";" }' if key == "options" else value
        sets.append(f"{section}.{key}={text}")
    table_format = "csv" if section in ("labels.table", "overrides") else "parquet"
    wanted = f"{section}: Value error, {found.replace('FORMAT', table_format)}"
    assert refused(sets=sets).found == wanted


def test_a_table_is_named_by_the_key_that_is_set() -> None:
    sources = {"path": "/lake/photos", "table": "portal.photos", "query": "SELECT *\nFROM photos"}
    for key, source in sources.items():
        table = load(sets=[f"images.{key}={source}"]).images
        assert (table.key, table.source, table.is_set) == (key, source, True)
        assert table.label == ("(SELECT * FROM photos)" if key == "query" else source)
    long = load(sets=["images.query=SELECT " + "image_id, " * 20 + "FROM photos"]).images.label
    assert long.endswith(" ...)")
    assert len(long) <= 82
    assert (load().images.source, load().images.is_set) == ("", False)


def test_the_url_of_a_database_is_not_recorded() -> None:
    """It may hold a password."""
    options = 'images.options={ url = "jdbc:x:secret", driver = "D", password = "secret" }'
    recorded = load(sets=["images.format=jdbc", "images.table=t", options]).recorded()["images"]
    hidden = "(redacted)"
    assert recorded["options"] == {"url": hidden, "driver": "D", "password": hidden}


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = file(tmp_path, "[sample]\nsise = 4\n[train]\nepochs = 0")
    error = refused([path], ["zzz=1"])
    assert error.doing == f"reading the configuration ({path}, --set zzz=1)"
    assert "'sample.sise' (did you mean 'sample.size'?); " in error.found
    assert "train.epochs = 0: Input should be greater than or equal to 1" in error.found
    assert "unknown key 'zzz'" in error.found


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("min_recall", "0.0", "min_recall needs a value above 0"),
        ("cost_ratio", "0.0", "cost_ratio needs a value above 0"),
        ("min_precision", "20.0", "the value of min_precision is a share, at most 1"),
        (
            "max_share_of_good_images_lost",
            "1.5",
            "the value of max_share_of_good_images_lost is a share, at most 1",
        ),
        ("cost_ratio", "inf", "Input should be a finite number"),
        (
            "min_recal",
            "0.9",
            "Input should be 'fixed', 'max_share_of_good_images_lost', 'min_recall', ",
        ),
    ],
)
def test_a_policy_and_its_value_belong_together(name: str, value: str, found: str) -> None:
    error = refused(sets=[f"publish.policy.name={name}", f"publish.policy.value={value}"])
    assert error.found.startswith("publish.policy")
    assert found in error.found


def test_the_default_is_a_cost_ratio_of_twenty() -> None:
    policy = load().publish.policy
    assert (policy.name, policy.value, policy.safe) == ("cost_ratio", 20.0, True)


def test_a_threshold_that_the_policy_would_not_use_is_refused() -> None:
    error = refused(sets=["publish.operating_threshold=0.6"])
    assert "0.6 counts only with policy.name" in error.found
    assert "set publish.policy.name=fixed" in error.found
    sets = ["publish.operating_threshold=0.6", "publish.policy.name=fixed"]
    assert load(sets=sets).publish.operating_threshold == 0.6


def test_a_crop_larger_than_the_resized_picture_is_refused() -> None:
    error = refused(sets=["backbone.crop_px=300"])
    assert error.found.endswith("crop_px (300) must not exceed resize_px (256)")
    assert load(sets=["backbone.crop_px=256"]).backbone.crop_px == 256


def test_images_need_a_url_or_their_bytes() -> None:
    error = refused(sets=["images.columns.image_url="])
    assert error.found.endswith("one of columns.image_url and columns.content must name a column")
    assert (
        load(
            sets=["images.columns.image_url=", "images.columns.content=jpeg"]
        ).images.columns.content
        == "jpeg"
    )


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert str(refused([path])) == (
        f"while reading the configuration {path}\n"
        "  expected: a file that can be read\n"
        "  found:    No such file or directory\n"
        "  do:       check the path; conf/mytables.example.toml is a start"
    )


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert refused([tmp_path]).found == "Is a directory"


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    path = file(tmp_path, "[sample]\nsize = = 3\n")
    assert str(refused([path])) == (
        f"while reading the configuration {path}\n"
        "  expected: TOML (https://toml.io)\n"
        "  found:    Invalid value (at line 2, column 8)\n"
        "  do:       correct that line"
    )


def test_a_file_in_another_encoding_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "latin1.toml"
    path.write_bytes('[spark]\napp_name = "Gebäude"\n'.encode("latin-1"))
    assert "can't decode byte" in refused([path]).found


@pytest.mark.parametrize("text", ["[1, 2]", '{"sample": '])
def test_json_that_is_no_configuration_is_explained(text: str, tmp_path: Path) -> None:
    path = file(tmp_path, text, "resolved.json")
    assert refused([path]).doing == f"reading the configuration {path}"


# The environment


def test_environment_variables_are_put_into_strings_and_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TS_A", "x")
    monkeypatch.delenv("TS_NONE", raising=False)
    config = load(
        sets=[
            "images.url_prefix=https://${TS_A}/${TS_A}/",
            "spark.app_name=${TS_NONE:-fallback} app",
            'labels.classes=["${TS_A}", "other"]',
            'labels.exclude_classes=["${TS_A}"]',
            "labels.labeller=${TS_NONE:-}",
        ]
    )
    assert config.images.url_prefix == "https://x/x/"
    assert config.spark.app_name == "fallback app"
    assert config.labels.classes == ["x", "other"]
    assert config.labels.labeller == ""


def test_a_set_variable_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TS_A", "real")
    assert load(sets=["spark.app_name=${TS_A:-fallback}"]).spark.app_name == "real"


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TS_NONE", raising=False)
    assert str(refused(sets=["images.path=/data/${TS_NONE}/images"])) == (
        "while reading the configuration\n"
        "  expected: the environment variable TS_NONE, which a value names\n"
        "  found:    it is not set\n"
        "  do:       export TS_NONE=..., or write ${TS_NONE:-default}"
    )


# Classes


@pytest.mark.parametrize(
    "name", ["to/ilet", "..", "toilet.", "", "toi let", "-toilet", "töilet", "a" * 65, "toilet\n"]
)
def test_a_class_name_that_is_no_safe_folder_name_is_refused(name: str) -> None:
    error = refused(
        sets=[f"labels.classes={json.dumps([name, 'other'])}", 'labels.exclude_classes=["other"]']
    )
    assert f"labels.classes.0 = {name!r}: " in error.found


@pytest.mark.parametrize("name", ["a", "0", "guest_wc", "half-bath", "a" * 64])
def test_a_class_name_that_is_a_safe_folder_name_is_taken(name: str) -> None:
    assert (
        load(
            sets=[f'labels.classes=["{name}", "other"]', f'labels.exclude_classes=["{name}"]']
        ).labels.classes[0]
        == name
    )


@pytest.mark.parametrize(
    ("classes", "exclude", "found"),
    [
        (
            ["toilet", "Toilet"],
            ["toilet"],
            "classes must differ, also on file systems that ignore case",
        ),
        (
            ["toilet", "toilet"],
            ["toilet"],
            "classes must differ, also on file systems that ignore case",
        ),
        (
            ["toilet", "other"],
            ["toilet", "other"],
            "exclude_classes must leave at least one class to show",
        ),
        (
            ["toilet", "other"],
            ["wc"],
            "exclude_classes ['wc'] are not among classes ['toilet', 'other']",
        ),
        (
            ["toilet", "unlabelled"],
            ["toilet"],
            "'unlabelled' is the folder of unlabelled images, not a class",
        ),
        (
            ["toilet", "UNLABELLED"],
            ["toilet"],
            "'unlabelled' is the folder of unlabelled images, not a class",
        ),
    ],
)
def test_classes_that_do_not_fit_together_are_refused(
    classes: list[str], exclude: list[str], found: str
) -> None:
    error = refused(
        sets=[
            f"labels.classes={json.dumps(classes)}",
            f"labels.exclude_classes={json.dumps(exclude)}",
        ]
    )
    assert error.found.endswith(found)


def test_only_classes_can_have_been_reviewed() -> None:
    assert refused(sets=['labels.reviewed=["wc"]']).found.endswith(
        "reviewed ['wc'] are not among classes ['toilet', 'other']"
    )


@pytest.mark.parametrize(("key", "value"), [("classes", ["toilet"]), ("exclude_classes", [])])
def test_too_few_classes_are_refused(key: str, value: list[str]) -> None:
    assert (
        f"labels.{key} = {value!r}: List should have at least"
        in refused(sets=[f"labels.{key}={json.dumps(value)}"]).found
    )


# Locations


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home-of-ada")
    config = load(
        sets=[
            "images.path=in/../images",
            "output.root=out",
            "labels.folder=~/labels",
            "backbone.weights=w.pth",
        ]
    )
    assert config.images.path == f"{tmp_path}/images"
    assert config.output.root == f"{tmp_path}/out"
    assert config.labels.folder == "/home-of-ada/labels"
    assert config.backbone.weights == f"{tmp_path}/w.pth"
    assert config.labels_folder == "/home-of-ada/labels"


@pytest.mark.parametrize(
    "location",
    ["s3://lake/images", "hdfs:///images", "https://a/b?c=d", "memory://x", "/absolute", ""],
)
def test_urls_absolute_paths_and_nothing_stay_as_they_are(location: str) -> None:
    assert load(sets=[f"images.path={location}"]).images.path == location


def test_a_file_url_becomes_a_path() -> None:
    assert load(sets=["images.path=file:///data/images"]).images.path == "/data/images"


@pytest.mark.parametrize("weights", ["imagenet", "random", "https://a/resnet18-0a.pth"])
def test_the_names_of_weights_are_no_paths(weights: str) -> None:
    assert load(sets=[f"backbone.weights={weights}"]).backbone.weights == weights


def test_labels_lie_below_the_output_unless_told_otherwise() -> None:
    assert load(sets=["output.root=/data/out"]).labels_folder == "/data/out/labelling"


# Resolved


def test_a_resolved_configuration_survives_json_and_loads_again(tmp_path: Path) -> None:
    config = load(
        sets=[
            "sample.size=17",
            "labels.table.path=labels.csv",
            'labels.classes=["toilet", "bath", "other"]',
        ]
    )
    path = file(tmp_path, json.dumps(config.resolved()), "resolved.json")
    assert load([path]) == config
    assert config.resolved()["labels"]["table"]["columns"]["class"] == "class"


def test_a_configuration_cannot_be_changed() -> None:
    config = load()
    with pytest.raises(Exception, match="frozen"):
        config.sample.size = 3
