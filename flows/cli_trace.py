"""``scanmill trace``: from a training row to the publisher's bytes; :mod:`flows.cli` has the other commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command_line import LOOK, AsJson, RawNow, ShowProgress, errors_as_exit_codes, examples
from flows.console import showing_progress

if TYPE_CHECKING:
    from tasks.trace import Traced

app = typer.Typer()


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill trace lake/nih-chest-xray 00000003_002`",
        "`scanmill trace lake/nih-chest-xray@1a2b3c4d5e6f7a8b 00000003_002 --verify --raw /mnt/nih`",
        "`scanmill trace lake/runs/nih-intensity-baseline-1a2b3c4d5e6f7a8b 00000003_002 --json`",
    ),
)
def trace(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="LAKE/DATASET[@RELEASE]", help="A release, the latest without @; or a run, as LAKE/runs/RUN."
        ),
    ],
    sample_ids: Annotated[list[str], typer.Argument(metavar="SAMPLE_ID", help="Ids of samples of that release.")],
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", metavar="", help="Read the bytes again, convert once more, and compare; exit 1 if unlike."
        ),
    ] = False,
    raw: RawNow = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """From a training row back to shard and row, conversion, archive, member and byte range, metadata row and code."""
    with errors_as_exit_codes(as_json):
        from tasks.trace import trace as trace_samples

        with showing_progress(progress, as_json):
            traced = _traced(reference, raw or [], verify=verify)
            found = trace_samples(traced, list(dict.fromkeys(sample_ids)), verify=verify)
        is_sound = all(check["ok"] for one in found for check in one.get("checks", ()))
        if as_json:
            typer.echo(json.dumps({"ok": is_sound, "samples": found}, sort_keys=True, default=str))
        else:
            typer.echo("\n\n".join("\n".join(_text(one)) for one in found))
        if not is_sound:
            raise typer.Exit(1)


def _traced(reference: str, raw: Sequence[str], *, verify: bool) -> Traced:
    from tasks import datasets
    from tasks.credentials import from_environment
    from tasks.files import read_json
    from tasks.lake import locate
    from tasks.raw_again import origin_of, reopen
    from tasks.schema import UnusableInput
    from tasks.trace import Traced, of_release, of_run

    meant = of_run(reference) or of_release(*locate(reference))
    meant_of = of_release(meant.lake, meant.release)
    folder = meant_of.lake.release(meant_of.release)
    manifest = read_json(folder / "manifest.json")
    dataset = datasets.find(meant.lake.dataset)
    origin = origin_of(folder)
    again, why_not = None, ""
    try:
        again = reopen(meant.lake, origin, raw, from_environment(dataset), insist=verify)
    except UnusableInput as error:
        if raw:
            raise
        why_not = str(error)
    return Traced(meant, folder, manifest, dataset, origin, again, why_not)


def _text(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['sample_id']}  ({one['dataset']}@{one['release']})"
    for store, place in one["stored"].items():
        yield f"  {store:<11} {place['path']}  {_stored(store, place)}"
        yield f"  {'':<11} sha256 {place['sha256']}"
    image = one["image"]
    yield (
        f"  image       {image['width']}x{image['height']}, {image['channels']} channel(s) of {image['bit_depth']} "
        f"bits, {image['image_bytes']:,} bytes, sha256 {image['image_sha256']}"
    )
    conversion = one["conversion"]
    yield f"  made by     {' → '.join(conversion['steps'])}  ({_parameters(conversion['parameters'])})"
    if conversion["chunk"]:
        kept = "kept" if conversion["chunk_is_kept"] else "not kept any more"
        yield f"  chunk       {conversion['chunk']} ({kept})"
    yield from _source("source", one["source"], one["source"]["bytes"], one["source"]["sha256"])
    if "mask" in one:
        yield from _source("mask", one["mask"], None, one["mask"]["source_sha256"])
    for row in one["rows"]:
        yield f"  row         {row['table']} row {row['row']}" + (f" (form {row['form']})" if row["form"] else "")
        text = row["text"] if row["text"] is not None else _kept(row)
        yield from (f"  {'':<11} {line}" for line in (row["header"], text) if line)
    split = one["split"]
    yield f"  split       {split['split']}: {split['why']}"
    yield (
        f"  group       {split['group_id']} ({split['group_kind']}): {split['group_samples']:,} samples, "
        f"in {', '.join(split['group_splits'])}"
    )
    yield from _history(one)
    for check in one.get("checks", ()):
        yield f"  {'✓' if check['ok'] else '✕'} {check['what']}: {check['detail']}"


def _stored(store: str, place: Mapping[str, Any]) -> str:
    if store == "webdataset":
        return f"{place['member']}: bytes {place['offset']:,} to {place['offset'] + place['length']:,}"
    end = place["column_offset"] + place["column_length"]
    return (
        f"row group {place['row_group']}, row {place['row']:,}; {place['column']} lies in bytes "
        f"{place['column_offset']:,} to {end:,}"
    )


def _parameters(parameters: Mapping[str, Any]) -> str:
    size = "published size" if parameters["size"] is None else f"size {parameters['size']}"
    quality = "" if parameters["quality"] is None else f", quality {parameters['quality']}"
    check = ", decode check off" if parameters["decode_check"] == "off" else ""
    return f"{size}, {parameters['encoding']}{quality}{check}"


def _source(label: str, source: Mapping[str, Any], size: int | None, sha256: str) -> Iterator[str]:
    if source["archive"] == ".":
        yield f"  {label:<11} {source['member']}" + (f"  ({source['file']})" if source["file"] else "")
    else:
        yield f"  {label:<11} {source['archive']} → {source['member']}"
        if source.get("archive_sha256"):
            where = f", now at {source['file']}" if source["file"] else ""
            yield f"  {'':<11} archive of {source['archive_bytes']:,} bytes, sha256 {source['archive_sha256']}{where}"
    if source["place"]:
        yield f"  {'':<11} {_place(source['place'])}"
    if source["unknown"]:
        yield f"  {'':<11} raw is not at hand: {source['unknown']}"
    yield f"  {'':<11} " + (f"{size:,} bytes, " if size is not None else "") + f"sha256 {sha256}"


def _place(place: Mapping[str, Any]) -> str:
    if "data_offset" not in place:
        return f"header at byte {place['header_offset']:,}"
    end = place["data_offset"] + place["data_bytes"]
    locked = ", encrypted" if place["is_encrypted"] else ""
    if place["method"] == "tar":
        return (
            f"header at byte {place['header_offset']:,} of the unpacked tar, data {place['data_offset']:,} to {end:,}"
        )
    return (
        f"header at byte {place['header_offset']:,}, data {place['data_offset']:,} to {end:,} "
        f"({place['method']}{locked}), crc32 {place['crc32']:08x}"
    )


def _kept(row: Mapping[str, Any]) -> str:
    cells = {name: value for name, value in row.get("kept", {}).items() if value not in (None, "")}
    return "; ".join(f"{name}: {value}" for name, value in cells.items())


def _history(one: Mapping[str, Any]) -> Iterator[str]:
    code = one["made_by"]
    libraries = ", ".join(f"{name} {version}" for name, version in code["libraries"].items())
    own = f", dataset declared by {code['declaration']}" if code["declaration"] else ""
    yield f"  code        scanmill {code['scanmill']} (sources {code['source']}{own}), {libraries}"
    yield f"  declared    {one['dataset']} {code['dataset_version']}, format {code['format_version']}"
    if one["fetched"]:
        fetched = one["fetched"]
        held = f", verified by {fetched['verified_by']}" if fetched["verified_by"] else ""
        yield f"  fetched     {fetched['url']} (version {fetched['version']}), {fetched['time']}{held}"
    if one.get("prediction"):
        yield f"  predicted   {', '.join(f'{name} {value}' for name, value in one['prediction'].items())}"
